//! Replays recorded conversations of real peers (`transcripts/README.md`): in whatever pieces their bytes come, they
//! give the same rows. Never looks at instants, which are the recording machine's.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use mcpmeter_observer::{
    CallRecord, Exchange, Failure, Head, Identity, Instance, Mount, Status, StatusDetail, Tick, Timestamp,
};
use std::{
    collections::HashMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Around powers of two, and primes: wherever a boundary is, one of them cuts there.
const CHUNKS: [usize; 13] = [1, 2, 3, 5, 7, 11, 16, 17, 61, 255, 1024, 4096, usize::MAX];
/// Far later than any call waits between exchanges, but not as late as tasks are forgotten.
const LATER: u64 = 3600 * 1_000_000_000;

/// One line of a recording.
enum Event {
    Begin { method: Method, target: String, headers: HeaderMap },
    Ask(Vec<u8>),
    Asked,
    Head { status: StatusCode, headers: HeaderMap },
    Answer(Vec<u8>),
    Answered,
    Cut,
    Left,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts")
}

fn recordings() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).expect("the folder of recordings");
    let paths = entries.map(|entry| entry.expect("a readable entry").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "transcript")).collect();
    paths.sort();
    paths
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = if byte == b'\\' { rest.next().expect("an escape is whole") } else { 0 };
        bytes.push(match escaped {
            0 => byte,
            b'n' => b'\n',
            b'r' => b'\r',
            b'x' => {
                let digits = [rest.next().expect("two digits"), rest.next().expect("two digits")];
                let digits = str::from_utf8(&digits).expect("hexadecimal");
                u8::from_str_radix(digits, 16).expect("hexadecimal")
            }
            other => other,
        });
    }
    bytes
}

/// The events of a recording, each with its exchange.
fn parse(text: &str) -> Vec<(u32, Event)> {
    let mut events = Vec::new();
    for line in text.lines() {
        let mut words = line.splitn(5, ' ').skip(1);
        let (direction, exchange, event) = (words.next(), words.next(), words.next());
        let rest = words.next().unwrap_or_default();
        let exchange = exchange.and_then(|number| number.parse().ok()).expect("an exchange");
        let event = match (direction, event) {
            (Some(">"), Some("begin")) => {
                let (method, target) = rest.split_once(' ').expect("a method and a target");
                let method = method.parse().expect("a method");
                Event::Begin { method, target: target.to_owned(), headers: HeaderMap::new() }
            }
            (Some("<"), Some("head")) => {
                Event::Head { status: rest.parse().expect("a status"), headers: HeaderMap::new() }
            }
            (Some(direction), Some("header")) => {
                add_header(&mut events, direction, exchange, rest);
                continue;
            }
            (Some(">"), Some("data")) => Event::Ask(unescape(rest)),
            (Some("<"), Some("data")) => Event::Answer(unescape(rest)),
            (Some(">"), Some("end")) => Event::Asked,
            (Some("<"), Some("end")) => Event::Answered,
            (Some("<"), Some("cut")) => Event::Cut,
            (Some(">"), Some("left")) => Event::Left,
            _ => panic!("what does {line:?} mean?"),
        };
        events.push((exchange, event));
    }
    events
}

fn add_header(events: &mut [(u32, Event)], direction: &str, exchange: u32, line: &str) {
    let (name, value) = line.split_once(": ").unwrap_or((line.trim_end_matches(':'), ""));
    let head = events.iter_mut().rev().find_map(|(of, event)| match event {
        Event::Begin { headers, .. } if direction == ">" && *of == exchange => Some(headers),
        Event::Head { headers, .. } if direction == "<" && *of == exchange => Some(headers),
        _ => None,
    });
    let name: HeaderName = name.parse().expect("a header's name");
    let value = HeaderValue::from_bytes(&unescape(value)).expect("a header's value");
    head.expect("a header comes behind its head").append(name, value);
}

/// The rows of a conversation whose bodies come in pieces of that size at most.
fn replay(events: &[(u32, Event)], chunk: usize) -> String {
    let identity = Identity { instance_id: "recorded".into(), user_id: None, organization_id: None };
    let mount =
        Mount { origin: "http://server.example".to_owned(), base_path: String::new(), prefix: String::new() };
    let instance = Arc::new(Instance::new(identity, mount));
    let mut exchanges: HashMap<u32, Exchange> = HashMap::new();
    let mut records = Vec::new();
    let mut now = 0;
    for (number, event) in events {
        now += 1_000_000;
        if let Event::Begin { method, target, headers } = event {
            exchanges.insert(*number, instance.begin(&head(*number, method, target, headers, now)));
        }
        let exchange = exchanges.get_mut(number).expect("an exchange has a begin");
        tell(exchange, event, chunk, Tick(now), &mut records);
    }
    for (_, mut exchange) in exchanges {
        exchange.handle_stop(Tick(now));
        assert!(!exchange.has_finished(), "a recording tells how every exchange ended");
    }
    records.extend(instance.poll_expired(Tick(now + LATER)).into_iter().map(|record| *record));
    assert!(instance.close(Tick(now + LATER)).is_empty(), "nothing waits for ever");
    let mut text = show_all(&records);
    for (name, count) in [
        ("orphans", instance.orphans()),
        ("redelivered", instance.redelivered()),
        ("forgotten_tasks", instance.forgotten_tasks()),
    ] {
        writeln!(text, "{name}: {count}").expect("memory");
    }
    text
}

fn head<'a>(number: u32, method: &'a Method, target: &'a str, headers: &'a HeaderMap, now: u64) -> Head<'a> {
    Head {
        method,
        target,
        headers,
        created_at: Timestamp(1_700_000_000_000_000 + (now / 1000) as i64),
        at: Tick(now),
        entropy: u128::from(number) << 96,
        client_ip: None,
        caller: None,
    }
}

/// Tells an event piece by piece, and takes what comes of each.
fn tell(exchange: &mut Exchange, event: &Event, chunk: usize, now: Tick, records: &mut Vec<CallRecord>) {
    let mut take = |exchange: &mut Exchange| {
        while let Some(record) = exchange.poll_finished(now) {
            records.push(*record);
        }
        assert_eq!(exchange.poll_unrecorded(), 0);
    };
    match event {
        Event::Begin { .. } => {}
        Event::Ask(bytes) => bytes.chunks(chunk).for_each(|piece| exchange.handle_request_data(piece, now)),
        Event::Asked => exchange.handle_request_end(now),
        Event::Head { status, headers } => exchange.handle_response_head(*status, headers, now),
        Event::Answer(bytes) => {
            for piece in bytes.chunks(chunk) {
                exchange.handle_response_data(piece, now);
                take(exchange);
            }
        }
        Event::Answered => exchange.handle_response_end(now),
        Event::Cut => exchange.handle_failure(
            &Failure {
                status: Status::UpstreamError,
                detail: StatusDetail::Aborted,
                code: "connection_closed",
                message: "the server broke off".to_owned(),
                http_status: None,
                context: None,
            },
            now,
        ),
        Event::Left => exchange.handle_client_left(now),
    }
    take(exchange);
}

/// What a row says, but for instants, ids made of them, and byte counts that depend on the pieces.
fn show_all(records: &[CallRecord]) -> String {
    let omitted = [
        "id",
        "created_at",
        "completed_at",
        "duration_us",
        "ttfb_us",
        "first_event_us",
        "proxy_us",
        "mcp_server_instance_id",
        "http_response_bytes",
    ];
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut text = String::new();
    for record in records {
        assert!(record.completed_at >= record.created_at);
        let row = serde_json::to_value(record).expect("a record is a JSON object");
        for (name, value) in row.as_object().expect("an object") {
            let says_nothing = value.is_null() || *value == false || *value == 0;
            if omitted.contains(&name.as_str()) || says_nothing {
                continue;
            }
            let mut value = value.to_string();
            if name.ends_with("_hash") || name == "mrtr_group" {
                let next = seen.len() + 1;
                value = format!("#{}", seen.entry(value).or_insert(next));
            }
            writeln!(text, "{name}: {value}").expect("memory");
        }
        text.push('\n');
    }
    text
}

#[test]
fn every_recording_gives_its_rows_in_whatever_pieces_it_comes() {
    let writes = std::env::var_os("WRITE_ROWS").is_some();
    let recordings = recordings();
    assert!(recordings.len() >= 24, "{recordings:?}");
    for path in recordings {
        let events = parse(&fs::read_to_string(&path).expect("a recording"));
        let rows = path.with_extension("rows");
        if writes {
            fs::write(&rows, replay(&events, usize::MAX)).expect("a writable folder");
        }
        let expected =
            fs::read_to_string(&rows).unwrap_or_else(|error| panic!("{}: {error}", rows.display()));
        for chunk in CHUNKS {
            assert_eq!(replay(&events, chunk), expected, "{} in pieces of {chunk}", path.display());
        }
    }
}
