//! Many clients at once, all with the same JSON-RPC ids and no sessions: every call has its own row, and every
//! row its own call.

use crate::support::{
    Mcpmeter,
    conversation::{on_route, route},
    expected_row::{ExpectedRow, assert_rows},
    obedient_server::{self, ObedientServer, PlainClient},
};
use serde_json::{Value, json};
use std::{collections::HashMap, net::SocketAddr};
use tokio::task::JoinSet;

const CLIENTS: usize = 50;
const CALLS: usize = 200;

/// One call: what is asked, and what its row has to say.
struct Asked {
    row: ExpectedRow,
    input_bytes: usize,
    output_bytes: usize,
    http_response_bytes: usize,
}

/// The call number `number` of a client: its tool, its sizes and its user agent are no other call's.
fn request(client: usize, number: usize) -> (String, Value) {
    let padding = "p".repeat((client * 37 + number * 101) % 3000);
    let size = (client * 53 + number * 211) % 5000;
    // Two of three answers are plain JSON.
    let arguments = json!({ "padding": padding, "size": size, "sse": number.is_multiple_of(3) });
    let params = json!({ "name": format!("tool_{client}_{number}"), "arguments": arguments });
    let message = json!({ "jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params });
    (format!("agent-{client}/{number}"), message)
}

/// Makes the calls one after the other on one connection; every answer has to be the call's own.
async fn converse(proxy: SocketAddr, client: usize) -> Vec<Asked> {
    let mut connection = PlainClient::connect(proxy).await;
    let mut asked = Vec::new();
    for number in 0..CALLS {
        let (agent, message) = request(client, number);
        let body = message.to_string();
        let input_bytes = body.len();
        let (status, got) = connection.post("/peer/mcp", &[("user-agent", &agent)], body).await;
        let answer = obedient_server::answer(&message).to_string();
        assert!(status == 200 && got.windows(answer.len()).any(|part| part == answer.as_bytes()), "{got:?}");
        let sse = message["params"]["arguments"]["sse"] == true;
        let row = ExpectedRow {
            protocol_version: Some("2025-03-26".into()),
            user_agent: Some(agent),
            rpc_id: Some(number.to_string()),
            framing: Some(if sse { "sse" } else { "json" }),
            ..on_route().call(message["params"]["name"].as_str().expect("a name"))
        };
        asked.push(Asked { row, input_bytes, output_bytes: answer.len(), http_response_bytes: got.len() });
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_calls_of_fifty_clients_are_ten_thousand_right_rows() {
    let server = ObedientServer::start().await;
    let proxy = Mcpmeter::start(&route(server.port));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        clients.spawn(converse(proxy.proxy, client));
    }
    let by_tool = |asked: Asked| (asked.row.tool_name.clone().expect("a call"), asked);
    let mut asked: HashMap<_, _> = clients.join_all().await.into_iter().flatten().map(by_tool).collect();
    let rows = proxy.stop().await;
    assert_eq!((rows.len(), asked.len()), (CLIENTS * CALLS, CLIENTS * CALLS));
    let expected: Vec<_> = rows
        .iter()
        .map(|row| {
            let of_tool = asked.remove(row["tool_name"].as_str().expect("a call"));
            let of_tool = of_tool.unwrap_or_else(|| panic!("a second row, or one of nobody: {row:#}"));
            let Asked { row: expected, input_bytes, output_bytes, http_response_bytes } = of_tool;
            assert_eq!(row["input_bytes"], input_bytes, "{row:#}");
            assert_eq!(row["output_bytes"], output_bytes, "{row:#}");
            assert_eq!(row["http_response_bytes"], http_response_bytes, "{row:#}");
            expected
        })
        .collect();
    assert!(asked.is_empty(), "{} calls have no row", asked.len());
    assert_rows(&rows, &expected);
}
