//! The conversation by itself: whose answer is whose, with every order in which lines can come.

use super::*;

const CALL: &str = r#"{"jsonrpc":"2.0","id":ID,"method":"tools/call","params":{"name":"a","_meta":{"progressToken":TOKEN}}}"#;

fn call(id: &str, token: &str) -> Bytes {
    CALL.replace("ID", id).replace("TOKEN", token).into()
}

fn line(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// What was told, delivered and closed, as text.
fn shown(effects: Vec<Effect>) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).expect("text");
    effects
        .iter()
        .map(|effect| match effect {
            Effect::Tell(line) => format!("> {}", text(line)),
            Effect::Deliver(stream, delivery) => format!("{stream} {}", text(&delivery.message)),
            Effect::Close(stream) => format!("{stream} closed"),
        })
        .collect()
}

struct Scene {
    conversation: Conversation,
}

impl Scene {
    fn new(remaps: bool) -> Self {
        Self { conversation: Conversation::new(remaps) }
    }

    fn ask(&mut self, client: Client, stream: Stream, message: &Bytes) -> Vec<String> {
        let mut effects = Vec::new();
        self.conversation.ask(client, stream, message, &mut effects).expect("passed on");
        shown(effects)
    }

    fn hear(&mut self, message: &str) -> Vec<String> {
        let mut effects = Vec::new();
        self.conversation.hear(&line(message), &mut effects);
        shown(effects)
    }

    /// With sessions of these clients on one program.
    fn shared_by(clients: &[Client]) -> Self {
        let mut scene = Self::new(true);
        clients.iter().for_each(|client| scene.conversation.begin_session(*client));
        scene
    }

    fn refused(&mut self, client: Client, message: &Bytes) -> Refused {
        self.conversation.ask(client, 99, message, &mut Vec::new()).expect_err("refused")
    }

    fn listen(&mut self, client: Client, stream: Stream, purpose: Purpose) -> Vec<String> {
        let mut effects = Vec::new();
        assert!(self.conversation.listen(client, stream, purpose, &mut effects));
        shown(effects)
    }

    fn leave(&mut self, stream: Stream, cancels: bool) -> Vec<String> {
        let mut effects = Vec::new();
        self.conversation.leave(stream, cancels, &mut effects);
        shown(effects)
    }
}

#[test]
fn shared_process_ids() {
    let mut scene = Scene::new(true);
    assert_eq!(
        scene.ask(1, 11, &call("1", "0")),
        [format!("> {}", str::from_utf8(&call("1", "1")).unwrap())]
    );
    assert_eq!(
        scene.ask(2, 12, &call("\"1\"", "0")),
        [format!("> {}", str::from_utf8(&call("2", "2")).unwrap())]
    );
    let progress = |token: &str| {
        format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#)
    };
    assert_eq!(scene.hear(&progress("2")), [format!("12 {}", progress("0"))]);
    assert_eq!(scene.hear(&progress("1")), [format!("11 {}", progress("0"))]);
    assert_eq!(scene.hear(r#"{"result":{},"id":2}"#), [r#"12 {"result":{},"id":"1"}"#, "12 closed"]);
    assert_eq!(scene.hear(&progress("2")), [""; 0], "it has been answered");
    assert_eq!(scene.hear(r#"{"id":1,"result":{}}"#), [r#"11 {"id":1,"result":{}}"#, "11 closed"]);
    assert!(scene.conversation.is_idle());
    assert_eq!(scene.conversation.dropped(), Dropped { late: 1, stray: 0 });
}

#[test]
fn a_client_that_leaves_a_shared_program_cancels_exactly_its_own_request() {
    let mut scene = Scene::new(true);
    scene.ask(1, 11, &call("1", "0"));
    scene.ask(2, 12, &call("1", "0"));
    assert_eq!(
        scene.leave(12, true),
        [
            r#"> {"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2,"reason":"the client has left"}}"#
        ]
    );
    assert_eq!(scene.leave(12, true), [""; 0]);
    assert_eq!(scene.hear(r#"{"id":2,"result":{}}"#), [""; 0], "the late answer goes nowhere");
    assert_eq!(scene.hear(r#"{"id":1,"result":{}}"#).len(), 2);
}

#[test]
fn what_a_client_cancels_by_itself_is_its_own_request_or_none() {
    let mut scene = Scene::new(true);
    scene.ask(1, 11, &call("5", "0"));
    scene.ask(2, 12, &call("6", "0"));
    let cancel =
        |id: &str| line(&format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#));
    let told = |id: &str| format!("> {}", str::from_utf8(&cancel(id)).unwrap());
    assert_eq!(scene.ask(2, 13, &cancel("6")), [told("2")]);
    assert_eq!(scene.ask(2, 14, &cancel("5")), [told("0")], "5 is another client's");
    assert_eq!(scene.ask(2, 15, &cancel("1")), [told("0")], "1 is another client's in the program's words");
}

#[test]
fn a_subscription_is_known_to_each_client_by_its_own_id() {
    let mut scene = Scene::new(true);
    let listen = r#"{"id":5,"method":"subscriptions/listen","params":{}}"#;
    assert_eq!(
        scene.ask(1, 11, &line(listen)),
        [r#"> {"id":1,"method":"subscriptions/listen","params":{}}"#]
    );
    assert_eq!(
        scene.ask(2, 12, &line(listen)),
        [r#"> {"id":2,"method":"subscriptions/listen","params":{}}"#]
    );
    let changed = |id: u8| {
        format!(
            r#"{{"method":"notifications/tools/list_changed","params":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}}}}"#
        )
    };
    assert_eq!(scene.hear(&changed(2)), [format!("12 {}", changed(5))]);
    assert_eq!(scene.hear(&changed(1)), [format!("11 {}", changed(5))]);
    assert_eq!(scene.hear(&changed(5)), [""; 0]);
    let end = |id: u8| {
        format!(r#"{{"result":{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{id}}}}},"id":{id}}}"#)
    };
    assert_eq!(scene.hear(&end(1)), [format!("11 {}", end(5)), "11 closed".to_owned()]);
    let cancelled =
        |id: u8| format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    assert_eq!(scene.hear(&cancelled(2)), [format!("12 {}", cancelled(5)), "12 closed".to_owned()]);
}

#[test]
fn a_program_of_one_session_hears_its_client_word_for_word() {
    let mut scene = Scene::new(false);
    let message = call("\"a\\u0062\"", "\"t\"");
    assert_eq!(scene.ask(SOLE_CLIENT, 1, &message), [format!("> {}", str::from_utf8(&message).unwrap())]);
    assert_eq!(scene.hear(r#"{"id":"ab","result":{}}"#), [r#"1 {"id":"ab","result":{}}"#, "1 closed"]);
}

#[test]
fn an_id_that_is_in_flight_is_refused_in_a_session() {
    let mut scene = Scene::new(false);
    scene.ask(SOLE_CLIENT, 1, &call("1", "0"));
    let mut effects = Vec::new();
    for again in ["1", "1.0"] {
        let refused = scene.conversation.ask(SOLE_CLIENT, 2, &call(again, "0"), &mut effects);
        assert_eq!(refused, Err(Refused::DuplicateId));
    }
    let nothing = scene.conversation.ask(SOLE_CLIENT, 3, &line(r#"{"id":3}"#), &mut effects);
    assert_eq!((nothing, effects), (Err(Refused::NoMessage), Vec::new()));
}

#[test]
fn a_batch_is_one_line_and_its_answers_may_be() {
    let mut scene = Scene::new(false);
    let batch = r#"[{"id":1,"method":"a"},{"method":"b"},{"id":2,"method":"c"}]"#;
    assert_eq!(scene.ask(SOLE_CLIENT, 1, &line(batch)), [format!("> {batch}")]);
    let answers = r#"[{"id":2,"result":{}},{"id":1,"error":{"code":1}}]"#;
    assert_eq!(scene.hear(answers), [format!("1 {answers}"), "1 closed".to_owned()]);
    scene.ask(SOLE_CLIENT, 2, &line(batch));
    assert_eq!(scene.hear(r#"{"id":1,"result":{}}"#), [r#"2 {"id":1,"result":{}}"#]);
    assert_eq!(scene.hear(r#"{"id":2,"result":{}}"#), [r#"2 {"id":2,"result":{}}"#, "2 closed"]);
}

#[test]
fn a_batch_of_answers_for_two_clients_is_taken_apart() {
    let mut scene = Scene::new(true);
    scene.ask(1, 11, &call("7", "0"));
    scene.ask(2, 12, &call("7", "0"));
    let heard = scene.hear(r#"[{"id":1,"result":{}},{"id":2,"result":{}}]"#);
    assert_eq!(heard, [r#"11 {"id":7,"result":{}}"#, "11 closed", r#"12 {"id":7,"result":{}}"#, "12 closed"]);
}

#[test]
fn what_a_program_asks_goes_to_the_newest_call_then_to_the_stream_then_waits() {
    let mut scene = Scene::new(false);
    let sampling = |id: u8| format!(r#"{{"id":{id},"method":"sampling/createMessage"}}"#);
    assert_eq!(scene.hear(&sampling(0)), [""; 0], "it waits");
    assert_eq!(scene.listen(SOLE_CLIENT, 1, Purpose::Unasked), [format!("1 {}", sampling(0))]);
    assert_eq!(scene.hear(&sampling(1)), [format!("1 {}", sampling(1))]);
    scene.ask(SOLE_CLIENT, 2, &line(r#"{"id":9,"method":"tools/list"}"#));
    assert_eq!(scene.hear(&sampling(2)), [format!("1 {}", sampling(2))], "a list asks nothing");
    scene.ask(SOLE_CLIENT, 3, &call("1", "0"));
    scene.ask(SOLE_CLIENT, 4, &call("2", "1"));
    assert_eq!(scene.hear(&sampling(3)), [format!("4 {}", sampling(3))]);
    assert_eq!(
        scene.hear(r#"{"method":"notifications/message"}"#),
        [r#"1 {"method":"notifications/message"}"#]
    );
    let mut effects = Vec::new();
    assert!(!scene.conversation.listen(SOLE_CLIENT, 5, Purpose::Unasked, &mut effects), "one stream each");
}

#[test]
fn what_belongs_to_a_task_goes_to_who_waits_for_its_result() {
    let mut scene = Scene::new(false);
    scene.listen(SOLE_CLIENT, 1, Purpose::Unasked);
    scene.ask(SOLE_CLIENT, 2, &line(r#"{"id":1,"method":"tasks/result","params":{"taskId":"t"}}"#));
    scene.ask(SOLE_CLIENT, 3, &call("2", "0"));
    let elicit = |task: &str| {
        format!(
            r#"{{"id":0,"method":"elicitation/create","params":{{"_meta":{{"io.modelcontextprotocol/related-task":{{"taskId":"{task}"}}}}}}}}"#
        )
    };
    assert_eq!(scene.hear(&elicit("t")), [format!("2 {}", elicit("t"))]);
    assert_eq!(scene.hear(&elicit("u")), [format!("3 {}", elicit("u"))]);
}

#[test]
fn on_a_shared_program_only_who_was_asked_may_answer() {
    let mut scene = Scene::shared_by(&[1]);
    scene.ask(1, 11, &call("1", "0"));
    let roots = r#"{"id":"r","method":"roots/list"}"#;
    assert_eq!(scene.hear(roots), [format!("11 {roots}")]);
    scene.conversation.begin_session(2);
    scene.ask(2, 12, &call("1", "0"));
    let answer = line(r#"{"id":"r","result":{}}"#);
    assert_eq!(scene.ask(2, 13, &answer), [""; 0], "another client's answer");
    assert_eq!(scene.ask(1, 14, &answer), [r#"> {"id":"r","result":{}}"#]);
    assert_eq!(scene.ask(1, 15, &answer), [""; 0], "a second answer");
    // Two could be meant now, and nobody is guessed.
    assert_eq!(
        scene.hear(roots),
        [r#"> {"jsonrpc":"2.0","id":"r","error":{"code":-32601,"message":"no client can be asked"}}"#]
    );
    assert_eq!(scene.hear(r#"{"method":"notifications/message"}"#), [""; 0]);
}

#[test]
fn a_session_that_has_no_stream_open_is_one_of_several_all_the_same() {
    let mut scene = Scene::shared_by(&[1, 2]);
    scene.listen(1, 11, Purpose::Unasked);
    // It may have been meant for the one that is not listening at this moment.
    let updated = r#"{"method":"notifications/resources/updated","params":{"uri":"x"}}"#;
    assert_eq!(scene.hear(updated), [""; 0]);
    let refusal = r#"> {"jsonrpc":"2.0","id":5,"error":{"code":-32601,"message":"no client can be asked"}}"#;
    assert_eq!(scene.hear(r#"{"id":5,"method":"sampling/createMessage"}"#), [refusal]);
    let mut effects = Vec::new();
    scene.conversation.end_client(2, &mut effects);
    assert_eq!(scene.hear(updated), [format!("11 {updated}")], "nobody else is left");
}

#[test]
fn without_sessions_what_names_no_request_goes_to_the_only_one_that_was_open() {
    let mut scene = Scene::new(true);
    let log = r#"{"method":"notifications/message","params":{"data":"secret"}}"#;
    scene.ask(1, 11, &call("1", "0"));
    assert_eq!(scene.hear(log), [format!("11 {log}")]);
    scene.ask(2, 12, &call("1", "0"));
    assert_eq!(scene.hear(log), [""; 0], "one of two");
    scene.hear(r#"{"id":2,"result":{}}"#);
    assert_eq!(scene.hear(log), [""; 0], "it may be a late word of the other");
    scene.hear(r#"{"id":1,"result":{}}"#);
    scene.ask(3, 13, &call("1", "0"));
    assert_eq!(scene.hear(log), [format!("13 {log}")]);
    assert_eq!(scene.hear(r#"{"id":"q","method":"roots/list"}"#).len(), 1, "nobody is asked");
}

#[test]
fn of_a_batch_that_is_refused_nothing_is_registered() {
    let mut scene = Scene::shared_by(&[1, 2]);
    let batch = line(r#"[{"id":1,"method":"tools/list"},{"id":"x","result":{}}]"#);
    assert_eq!(scene.refused(1, &batch), Refused::NotAsked);
    assert!(scene.conversation.is_idle());
}

#[test]
fn on_a_shared_program_no_key_may_be_read_in_two_ways() {
    for message in [
        r#"{"ID":1,"method":"tools/call"}"#,
        r#"{"id":1,"Method":"tools/call"}"#,
        r#"{"method":"notifications/cancelled","params":{"RequestId":1}}"#,
        r#"{"id":1,"method":"tools/call","params":{"_META":{}}}"#,
        r#"{"id":1,"method":"tools/call","params":{"_meta":{"progresstoken":1}}}"#,
    ] {
        assert!(matches!(
            Scene::shared_by(&[1]).refused(1, &line(message)),
            Refused::Doubtful | Refused::NoMessage
        ));
        assert!(
            Scene::new(false).conversation.ask(SOLE_CLIENT, 1, &line(message), &mut Vec::new())
                != Err(Refused::Doubtful)
        );
    }
    Scene::shared_by(&[1]).ask(
        1,
        11,
        &line(r#"{"id":1,"method":"a","params":{"arguments":{"ID":1},"Id":2}}"#),
    );
}

#[test]
fn a_token_that_is_used_twice_stays_with_who_used_it_last() {
    let mut scene = Scene::new(false);
    scene.ask(SOLE_CLIENT, 1, &call("1", "7"));
    scene.ask(SOLE_CLIENT, 2, &call("2", "7"));
    scene.hear(r#"{"id":1,"result":{}}"#);
    let progress = r#"{"method":"notifications/progress","params":{"progressToken":7,"progress":1}}"#;
    assert_eq!(scene.hear(progress), [format!("2 {progress}")]);
    scene.hear(r#"{"id":2,"result":{}}"#);
    scene.listen(SOLE_CLIENT, 3, Purpose::Unasked);
    assert_eq!(scene.hear(progress), [format!("3 {progress}")], "its task may go on");
}

#[test]
fn a_client_of_one_stream_gets_everything_on_it() {
    let mut scene = Scene::new(false);
    scene.listen(SOLE_CLIENT, 1, Purpose::Everything);
    scene.ask(SOLE_CLIENT, 1, &call("1", "0"));
    assert_eq!(scene.hear(r#"{"id":1,"result":{}}"#), [r#"1 {"id":1,"result":{}}"#], "it stays open");
    assert_eq!(scene.hear(r#"{"method":"notifications/message"}"#).len(), 1);
    assert_eq!(scene.conversation.end(), [1]);
}

#[test]
fn a_session_that_ends_takes_its_requests_and_streams_along() {
    let mut scene = Scene::new(true);
    scene.ask(1, 11, &call("1", "0"));
    scene.listen(1, 12, Purpose::Unasked);
    scene.ask(2, 13, &call("1", "0"));
    let mut effects = Vec::new();
    scene.conversation.end_client(1, &mut effects);
    let ended = shown(effects);
    assert!(ended[0].contains("\"requestId\":1,"), "{ended:?}");
    assert_eq!(ended[1..], ["11 closed", "12 closed"]);
    assert_eq!(scene.hear(r#"{"id":2,"result":{}}"#).len(), 2);
}

/// Many clients with the same ids and tokens on one program that answers in any order: each gets its own answers, once,
/// with its own ids, whoever leaves meanwhile.
#[test]
fn every_answer_finds_its_client_in_any_order() {
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut scene = Scene::new(true);
        let mut open: Vec<(Client, Stream, u64)> = Vec::new();
        let mut told = 0;
        for stream in 1..2_000 {
            if random.bool() || open.is_empty() {
                let client = random.u64(1..5);
                scene.ask(client, stream, &call("1", "\"same\""));
                told += 1;
                open.push((client, stream, told));
                continue;
            }
            let (_, stream, number) = open.swap_remove(random.usize(..open.len()));
            match random.u8(..10) {
                0 => assert_eq!(scene.leave(stream, true).len(), 1),
                1 => {
                    let progress = |token: &str| {
                        format!(
                            r#"{{"method":"notifications/progress","params":{{"progressToken":{token}}}}}"#
                        )
                    };
                    let heard = scene.hear(&progress(&number.to_string()));
                    assert_eq!(heard, [format!("{stream} {}", progress("\"same\""))]);
                    open.push((0, stream, number));
                }
                _ => {
                    let heard = scene.hear(&format!(r#"{{"id":{number},"result":{number}}}"#));
                    assert_eq!(
                        heard,
                        [format!(r#"{stream} {{"id":1,"result":{number}}}"#), format!("{stream} closed")]
                    );
                }
            }
        }
        for (_, stream, _) in open {
            scene.leave(stream, false);
        }
        assert!(scene.conversation.is_idle() && scene.conversation.tokens.is_empty());
    }
}
