//! Tricks with JSON. What is accepted, every parser there is reads as we do; what some would read in another way is refused.

use super::{Envelope, MAX_MESSAGES, Unreadable};
use mcpmeter_observer::{Leaf, Scanner};
use serde_json::{Value, json};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Of each message: its method, and the tool if it calls one.
type Told = Vec<(Option<String>, Option<String>)>;

fn told(body: &[u8]) -> Result<Told, Unreadable> {
    let envelope = Envelope::read(body)?;
    let told = |message: &super::Message<'_>| {
        (message.method.as_deref().map(str::to_owned), message.tool().map(str::to_owned))
    };
    Ok(envelope.messages.iter().map(told).collect())
}

fn call(tool: &str) -> (Option<String>, Option<String>) {
    (Some("tools/call".to_owned()), Some(tool.to_owned()))
}

fn other(method: &str) -> (Option<String>, Option<String>) {
    (Some(method.to_owned()), None)
}

/// What is read, and as what.
fn readable() -> Vec<(String, Told)> {
    let deep = format!(
        r#"{{"method":"tools/call","params":{{"name":"a","arguments":{}1{}}}}}"#,
        "[".repeat(125),
        "]".repeat(125)
    );
    let mut table: Vec<(String, Told)> = [
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a"}}"#, vec![call("a")]),
        (r#"{"params":{"arguments":{"name":"b"},"name":"a"},"method":"tools/call"}"#, vec![call("a")]),
        (" \t\r\n{\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}\n ", vec![call("a")]),
        (r#"{"\u006dethod":"tools\/call","p\u0061rams":{"na\u006de":"\u0061"}}"#, vec![call("a")]),
        (r#"{"method":"tools/call","params":{"name":"\ud83d\ude00\u00e4ö"}}"#, vec![call("😀äö")]),
        (r#"{"method":"tools/call","params":{"name":""}}"#, vec![call("")]),
        (r#"{"method":"tools/call","params":{"name":"A"}}"#, vec![call("A")]),
        (r#"{"method":"tools/call","params":{"name":"a b\"\\"}}"#, vec![call("a b\"\\")]),
        // Not a name but one of ours with blanks: no server trims.
        (r#"{" method":"x","method ":"y","method":"tools/list"}"#, vec![other("tools/list")]),
        (r#"{"method":"tools/call","params":{"name ":"b","name":"a"}}"#, vec![call("a")]),
        // Twice, but where nothing is decided.
        (r#"{"method":"tools/call","params":{"name":"a","arguments":{"x":1,"x":2,"Name":3,"name":4,"name":5}}}"#, vec![call("a")]),
        (r#"{"jsonrpc":"2.0","jsonrpc":"2.0","method":"ping"}"#, vec![other("ping")]),
        (r#"{"method":"prompts/get","params":{"name":"a","name":"b","NAME":"c"}}"#, vec![other("prompts/get")]),
        (r#"{"method":"x","params":[1,{"name":"a"}]}"#, vec![other("x")]),
        (r#"{"method":"x","params":null}"#, vec![other("x")]),
        (r#"{"id":1,"result":{"method":"tools/call","params":{"name":"a"}}}"#, vec![(None, None)]),
        (r#"{"id":1,"error":{"code":1,"message":"m"}}"#, vec![(None, None)]),
        ("{}", vec![(None, None)]),
        (r#"{"id":null,"method":"ping"}"#, vec![other("ping")]),
        (r#"{"id":-1.5e3,"method":"ping"}"#, vec![other("ping")]),
        (r#"{"id":"\u00e9\n","method":"ping"}"#, vec![other("ping")]),
        (r#"{"id":123456789012345678901234567890,"method":"ping"}"#, vec![other("ping")]),
        (r#"{"method":"tools/callx"}"#, vec![other("tools/callx")]),
        (r#"{"method":"tools call"}"#, vec![other("tools call")]),
        (r#"{"method":""}"#, vec![other("")]),
        (r#"{"methods":"tools/call","param":{"names":"a"},"method":"ping"}"#, vec![other("ping")]),
        // Half a surrogate pair in an argument, as JavaScript writes a text that was cut in the middle of an emoji.
        (r#"{"method":"tools/call","params":{"name":"a","arguments":{"t":"\ud83d"}}}"#, vec![call("a")]),
        (r#"{"method":"tools/call","params":{"name":"a","arguments":{"t":"\u0000","__proto__":{"method":"x"}}}}"#, vec![call("a")]),
        (r#"{"x":"}{\"method\":\"tools/call\"","method":"ping"}"#, vec![other("ping")]),
        (r#"{"method":"ping","params":{"method":"tools/call","params":{"name":"a"}}}"#, vec![other("ping")]),
        (
            r#"[{"method":"tools/call","params":{"name":"a"},"id":1},{"method":"tools/call","params":{"name":"b"}},{"id":2,"result":[]}]"#,
            vec![call("a"), call("b"), (None, None)],
        ),
        (" [ {\"method\":\"ping\"} ] ", vec![other("ping")]),
    ]
    .map(|(text, told)| (text.to_owned(), told))
    .into();
    table.push((deep, vec![call("a")]));
    table.push((format!("[{}{{}}]", "{},".repeat(MAX_MESSAGES - 1)), vec![(None, None); MAX_MESSAGES]));
    table
}

/// Members that some servers take for others.
fn ambiguous() -> Vec<(&'static str, Unreadable)> {
    use Unreadable::{AlmostMember, Duplicate, Method, Tool};
    vec![
        // Two of a name: the first, the last or neither is taken.
        (r#"{"method":"tools/call","params":{"name":"a","name":"b"}}"#, Duplicate),
        (r#"{"method":"tools/call","params":{"name":"a","na\u006de":"b"}}"#, Duplicate),
        (r#"{"method":"tools/call","params":{"name":"a","name":"a"}}"#, Duplicate),
        (r#"{"method":"tools/call","params":{"name":"a"},"params":{"name":"b"}}"#, Duplicate),
        (r#"{"method":"tools/call","params":{"name":"a"},"p\u0061rams":{}}"#, Duplicate),
        (r#"{"method":"ping","method":"tools/call","params":{"name":"a"}}"#, Duplicate),
        (r#"{"method":"tools/call","\u006dethod":"ping","params":{"name":"a"}}"#, Duplicate),
        (r#"{"id":1,"id":2,"method":"ping"}"#, Duplicate),
        (r#"{"id":1,"\u0069d":1,"method":"ping"}"#, Duplicate),
        (r#"{"method":"tools/call","params":{"name":"a","arguments":{},"name":"b"}}"#, Duplicate),
        // Names that differ in case: Go and .NET take one for the other.
        (r#"{"Method":"tools/call","params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"ping","METHOD":"tools/call","params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"tools/call","Params":{"name":"b"},"params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"tools/call","param\u017f":{"name":"b"},"params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"tools/call","paramſ":{"name":"b"},"params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"name":"a","Name":"b"}}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"name":"a","NAM\u0045":"b"}}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"nAme":"b"}}"#, AlmostMember),
        (r#"{"ID":1,"method":"ping"}"#, AlmostMember),
        (r#"{"İd":1,"method":"ping"}"#, AlmostMember),
        (r#"{"ıd":1,"method":"ping"}"#, AlmostMember),
        (r#"{"i\u0307d":1,"method":"ping"}"#, AlmostMember),
        // What JavaScript inherits, and where C ends.
        (r#"{"__proto__":{"method":"tools/call"},"params":{"name":"a"}}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"name":"a","__proto__":{"name":"b"}}}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"name":"a","name\u0000x":"b"}}"#, AlmostMember),
        (r#"{"method\u0000":"tools/call","method":"ping"}"#, AlmostMember),
        (r#"{"method":"tools/call","params":{"name":"a\u0000b"}}"#, Tool),
        (r#"{"method":"tools/call\u0000","params":{"name":"a"}}"#, Method),
        (r#"{"method":"ping\u0000","params":{"name":"a"}}"#, Method),
        (r#"{"method":"tools/call","params":{"name":"a\n"}}"#, Tool),
    ]
}

/// Messages of which something that is needed cannot be read.
fn incomplete() -> Vec<(&'static str, Unreadable)> {
    use Unreadable::{Id, Json, Method, Tool};
    vec![
        // Methods that a generous server takes for a call.
        (r#"{"method":"Tools/Call","params":{"name":"a"}}"#, Method),
        (r#"{"method":" tools/call","params":{"name":"a"}}"#, Method),
        (r#"{"method":"toolſ/call","params":{"name":"a"}}"#, Method),
        (r#"{"method":["tools/call"],"params":{"name":"a"}}"#, Method),
        (r#"{"method":{"x":1}}"#, Method),
        (r#"{"method":null,"id":1}"#, Method),
        (r#"{"method":7}"#, Method),
        (r#"{"method":"\ud800"}"#, Method),
        // Calls without a plain name.
        (r#"{"method":"tools/call"}"#, Tool),
        (r#"{"method":"tools/call","params":null}"#, Tool),
        (r#"{"method":"tools/call","params":["a"]}"#, Tool),
        (r#"{"method":"tools/call","params":"{\"name\":\"a\"}"}"#, Tool),
        (r#"{"method":"tools/call","params":{}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":["a"]}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":{"toString":"a"}}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":1}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":null}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":" a"}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":"a\u00a0"}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":"\ud800"}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":"\ude00\ud83d"}}"#, Tool),
        (r#"{"method":"tools/call","params":{"name":"a","\ud800":1}}"#, Json),
        (r#"{"method":"ping","\udfff":1}"#, Json),
        // Ids that cannot be answered.
        (r#"{"id":[1],"method":"ping"}"#, Id),
        (r#"{"id":{},"method":"ping"}"#, Id),
        (r#"{"id":true,"method":"ping"}"#, Id),
        (r#"{"id":"\ud800","method":"ping"}"#, Id),
    ]
}

/// What is no message, or no JSON to everybody.
fn foreign() -> Vec<(&'static str, Unreadable)> {
    use Unreadable::{Duplicate, Json, NoMessage};
    vec![
        // No message, or more than it seems.
        ("", Json),
        ("[]", NoMessage),
        ("1", NoMessage),
        ("null", NoMessage),
        (r#""{\"method\":\"tools/call\"}""#, NoMessage),
        (r#"[[{"method":"ping"}]]"#, NoMessage),
        (r#"[{"method":"ping"},1]"#, NoMessage),
        (r#"[{"method":"ping"},{"method":"tools/call","params":{"name":"a","name":"b"}}]"#, Duplicate),
        (r#"{"method":"ping"}{"method":"tools/call","params":{"name":"a"}}"#, Json),
        ("{\"method\":\"ping\"}\n{\"method\":\"tools/call\",\"params\":{\"name\":\"a\"}}", Json),
        (r#"{"method":"ping"},"#, Json),
        ("{\"method\":\"ping\"}\0", Json),
        ("\0{\"method\":\"ping\"}", Json),
        ("\u{feff}{\"method\":\"ping\"}", Json),
        ("\u{a0}{\"method\":\"ping\"}", Json),
        // What only some parsers take for JSON.
        (r#"{"method":"ping",}"#, Json),
        (r#"{method:"tools/call"}"#, Json),
        (r#"{'method':'tools/call'}"#, Json),
        (r#"{"method":"ping"/*,"x":1*/}"#, Json),
        (r#"{"method":"ping"} // "#, Json),
        (r#"{"method":"ping","x":NaN}"#, Json),
        (r#"{"method":"ping","x":Infinity}"#, Json),
        (r#"{"method":"ping","x":01}"#, Json),
        (r#"{"method":"ping","x":+1}"#, Json),
        (r#"{"method":"ping","x":.5}"#, Json),
        (r#"{"method":"ping","x":0x1}"#, Json),
        (r#"{"method":"ping","x":"\x41"}"#, Json),
        (r#"{"method":"ping","x":"\u12"}"#, Json),
        ("{\"method\":\"ping\",\"x\":\"\n\"}", Json),
        ("{\"method\":\"ping\",\"x\":\"\0\"}", Json),
        (r#"{"method":"ping","x":True}"#, Json),
        (r#"{"method":"ping""x":1}"#, Json),
        (r#"{"method"::"ping"}"#, Json),
        (r#"{"method":"ping""#, Json),
        (r#"{"method":"ping"]"#, Json),
        (r#"{1:2,"method":"ping"}"#, Json),
        (r#"{"method":"pi"#, Json),
    ]
}

/// Bytes that no text can hold, and too much of a thing.
fn excessive() -> Vec<(Vec<u8>, Unreadable)> {
    use Unreadable::{Batch, Encoding, Json, Nesting};
    vec![
        // Bytes that are replaced, dropped or kept, depending on whom one asks.
        (b"{\"method\":\"tools/call\",\"params\":{\"name\":\"a\xff\"}}".to_vec(), Encoding),
        (b"{\"method\":\"tools/call\",\"params\":{\"name\":\"\xc1\xa1\"}}".to_vec(), Encoding),
        (b"{\"method\":\"tools/call\",\"params\":{\"name\":\"\xed\xa0\x80\"}}".to_vec(), Encoding),
        (b"{\"method\":\"ping\",\"x\":\"\xc3\"}".to_vec(), Encoding),
        ("{\"method\":\"ping\"}".encode_utf16().flat_map(u16::to_le_bytes).collect(), Json),
        (b"+AHsAIg-method+ACI-:+ACI-ping+ACIAfQ-".to_vec(), Json),
        (format!("{}{}", "[".repeat(129), "]".repeat(129)).into_bytes(), Nesting),
        (
            format!(r#"{{"method":"ping","x":{}{}}}"#, "{\"y\":".repeat(200), "}".repeat(200)).into_bytes(),
            Nesting,
        ),
        ("[".repeat(4 << 20).into_bytes(), Nesting),
        (format!("[{}{{}}]", "{},".repeat(MAX_MESSAGES)).into_bytes(), Batch),
        (format!("[{}1]", "{},".repeat(1 << 20)).into_bytes(), Batch),
    ]
}

/// What is refused, and why.
fn unreadable() -> Vec<(Vec<u8>, Unreadable)> {
    let texts = [ambiguous(), incomplete(), foreign()].into_iter().flatten();
    texts.map(|(text, unreadable)| (text.as_bytes().to_owned(), unreadable)).chain(excessive()).collect()
}

#[test]
fn what_can_be_read_in_one_way_is_read_so() {
    for (text, expected) in readable() {
        assert_eq!(told(text.as_bytes()), Ok(expected), "{text}");
    }
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    for (bytes, expected) in unreadable() {
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(told(&bytes), Err(expected), "{}", text.chars().take(200).collect::<String>());
    }
    assert!(readable().len() + unreadable().len() > 100);
}

#[test]
fn ids_are_kept_as_they_are_written() {
    let body = br#"[{"id": 1.0 ,"method":"a"},{"id":"\u0061","method":"a"},{"id":null,"method":"a"},{"method":"a"}]"#;
    let envelope = Envelope::read(body).expect("readable");
    let ids: Vec<_> = envelope.messages.iter().map(|message| message.id).collect();
    assert_eq!(ids, [Some("1.0"), Some(r#""\u0061""#), Some("null"), None]);
    assert!(envelope.is_batch);
}

#[test]
fn calls_and_lists_of_tools_are_counted() {
    let body = br#"[{"id":1,"method":"tools/call","params":{"name":"a"}},{"id":2,"method":"tools/list"},{"id":3,"method":"ping"},{"id":4,"result":{}}]"#;
    let envelope = Envelope::read(body).expect("readable");
    assert_eq!(envelope.calls().collect::<Vec<_>>(), [Some("a"), None]);
}

/// Runs a program of another language on documents; it prints what it sees of each.
fn ask(program: &str, arguments: &[&str], documents: &[String]) -> Vec<Value> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(json!(documents).to_string().as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

const NODE: &str = r#"
const see = message => message.method === undefined ? [null, null]
  : [message.method, message.method === "tools/call" ? message.params.name : null];
const documents = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(documents.map(text => {
  let document;
  try { document = JSON.parse(text); } catch { return null; }
  return Array.isArray(document) ? document.map(see) : [see(document)];
})));
"#;

const PYTHON: &str = r#"
import json, sys
def see(message):
    method = message.get("method")
    return [method, message["params"]["name"] if method == "tools/call" else None]
def seen(text):
    try:
        document = json.loads(text)
    except ValueError:
        return None
    return [see(message) for message in document] if isinstance(document, list) else [see(document)]
print(json.dumps([seen(text) for text in json.load(sys.stdin.buffer)]))
"#;

/// What we see, in the form in which the others tell it.
fn seen_by_us(documents: &[String]) -> Vec<Value> {
    documents.iter().map(|text| json!(told(text.as_bytes()).expect("readable"))).collect()
}

#[test]
fn node_and_python_see_what_we_see_in_whatever_we_accept() {
    let mut documents: Vec<String> = readable().into_iter().map(|(text, _)| text).collect();
    let known = documents.len();
    documents.extend(mutants(20_000).into_iter().filter(|text| told(text.as_bytes()).is_ok()));
    assert!(documents.len() > known + 2_000, "only {} mutants are accepted", documents.len() - known);
    let ours = seen_by_us(&documents);
    for (program, arguments) in [("node", ["-e", NODE]), ("python3", ["-c", PYTHON])] {
        let theirs = ask(program, &arguments, &documents);
        for ((text, ours), theirs) in documents.iter().zip(&ours).zip(&theirs) {
            assert_eq!(ours, theirs, "{program}: {text}");
        }
    }
}

#[test]
fn the_observer_records_the_tool_that_was_judged() {
    let mutants = mutants(20_000).into_iter().filter(|text| told(text.as_bytes()).is_ok());
    for text in readable().into_iter().map(|(text, _)| text).chain(mutants) {
        let (mut scanner, mut input, mut recorded) = (Scanner::default(), text.as_bytes(), Told::new());
        while let Some(message) = scanner.next_message(&mut input) {
            let method = message.method().map(str::to_owned);
            let tool = message.text(Leaf::Name).filter(|_| method.as_deref() == Some("tools/call"));
            recorded.push((method, tool.map(str::to_owned)));
        }
        assert_eq!(told(text.as_bytes()), Ok(recorded), "{text}");
    }
}

/// Documents like those of the tables, cut up and put together anew by chance: mostly broken, many ambiguous.
fn mutants(number: usize) -> Vec<String> {
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        " ",
        "\"method\":\"tools/call\"",
        "\"params\":{\"name\":\"a\"}",
        "\"name\":\"b\"",
        "\"na\\u006de\":\"c\"",
        "\"Name\":1",
        "\"id\":1",
        "\"params\":{}",
        "\"x\":[1,{}]",
        "\"method\":\"ping\"",
        "\\u0000",
        "\"\\ud800\"",
        "{\"method\":\"tools/call\",\"params\":{\"name\":\"d\"}}",
        "null",
    ];
    let seeds: Vec<String> =
        readable().into_iter().map(|(text, _)| text).filter(|text| text.len() < 300).collect();
    let mut random = fastrand::Rng::with_seed(7);
    let mut mutate = || {
        let mut text = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..random.usize(1..4) {
            let places: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
            let at = places[random.usize(..places.len())];
            match random.u8(..3) {
                0 => text.insert_str(at, pieces[random.usize(..pieces.len())]),
                // A member where members are.
                1 => {
                    let member = format!("{},", pieces[random.usize(9..18)]);
                    let opening: Vec<usize> = text.match_indices('{').map(|(at, _)| at + 1).collect();
                    if let Some(at) = opening.get(random.usize(..opening.len().max(1))) {
                        text.insert_str(*at, &member);
                    }
                }
                _ => {
                    // Up to eight characters.
                    let place = places.partition_point(|place| *place < at);
                    let end = places[(place + random.usize(1..9)).min(places.len() - 1)];
                    text.replace_range(at..end, "");
                }
            }
        }
        text
    };
    (0..number).map(|_| mutate()).collect()
}
