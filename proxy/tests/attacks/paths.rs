//! Targets that mean another route to somebody else.

use super::{Attack, Carried, Fate, Refused, Scene};
use crate::{
    raw::Wire,
    scripted_http::{Reply, ScriptedHttp},
    support::Mcpmeter,
};

fn get(target: &str, fate: Fate) -> Attack {
    let name = Box::leak(format!("GET {target}").into_boxed_str());
    (name, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(), fate)
}

/// None of them leads to the guarded server.
const REFUSED: &[&str] = &[
    // Out of the open route.
    "/open/../safe/mcp",
    "/open/..%2fsafe/mcp",
    "/open/..%2Fsafe/mcp",
    "/open/%2e%2e/safe/mcp",
    "/open/%2E%2E/safe/mcp",
    "/open/%2e./safe/mcp",
    "/open/.%2e%2fsafe/mcp",
    "/open/..;/safe/mcp",
    "/open/..;a=b/safe/mcp",
    "/open/..\\safe\\mcp",
    "/open/..%5csafe/mcp",
    "/open/./../safe/mcp",
    "/open//../../safe/mcp",
    "/open/a/../../safe/mcp",
    "/open/a/..//..//safe/mcp",
    "/open/%2e%2e%2f%2e%2e%2fsafe",
    // Other names for the guarded route are no names at all.
    "//safe/mcp",
    "///safe/mcp",
    "/./safe/mcp",
    "/%2e/safe/mcp",
    "/%73afe/mcp",
    "/saf%65/mcp",
    "/SAFE/mcp",
    "/Safe/mcp",
    "/safe%2fmcp",
    "/safe%2Fmcp",
    "/safe;x=1/mcp",
    "/safe%00/mcp",
    "/safe%20/mcp",
    "/safe./mcp",
    "/safe%2e/mcp",
    "/\\safe/mcp",
    "/%5csafe/mcp",
    "/safe\\mcp",
    "/%c0%afsafe/mcp",
    "/x/../safe/mcp",
    "/mcp",
    "/",
    "*",
    // The guarded route itself, in every form that it has.
    "/safe",
    "/safe/",
    "/safe?",
    "/safe?x=/open/mcp",
    "/safe/mcp",
    "/safe//mcp",
    "/safe/./mcp",
    "/safe/mcp/",
    "/safe/mcp?access_token=x",
    "/safe/../open/mcp",
    "/safe/%2e%2e/open/mcp",
    "/safe/..%2fopen/mcp",
    "http://localhost/safe/mcp",
    "http://localhost:80/safe/mcp",
    "HTTP://LOCALHOST/safe/mcp",
    "http://127.0.0.1/open/../safe/mcp",
    // Documents about authorization.
    "/.well-known/oauth-protected-resource/safe/mcp",
    "/.well-known/oauth-authorization-server/safe/mcp",
    "/.well-known/openid-configuration/safe/mcp",
    "/.well-known/oauth-protected-resource/../safe/mcp",
    "/.well-known/oauth-protected-resource%2fsafe/mcp",
    "/.well-known/../safe/mcp",
];

/// To somebody, each of them leads out of the upstream's base path.
const OUT_OF_THE_BASE: &[&str] = &[
    "POST /ten/../two/mcp",
    "POST /ten/a%2fb/../../two/mcp",
    "POST /ten/a%2Fb/..%2f../two/mcp",
    "POST /ten/a%5cb/../../two/mcp",
    "POST /ten/a\\b/../../two/mcp",
    "GET /.well-known/oauth-protected-resource/ten/../../../two/mcp",
    "GET /.well-known/oauth-protected-resource/ten/%2e%2e/%2e%2e/%2e%2e/two/mcp",
    "GET /.well-known/openid-configuration/ten/../../../two/mcp",
    "POST /.well-known/oauth-protected-resource/ten/../../../two/mcp",
    // It would come back with what we put into it.
    "TRACE /ten/mcp",
];

#[tokio::test]
async fn nothing_leads_out_of_a_routes_base_path() {
    let server = ScriptedHttp::start(|_| Reply::empty(204)).await;
    let proxy =
        Mcpmeter::start(&format!("[[route]]\nname = \"ten\"\nupstream = \"{}\"\n", server.url("/one")));
    for line in OUT_OF_THE_BASE {
        let mut client = Wire::connect(proxy.proxy).await;
        client.send(format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")).await;
        assert_eq!(client.read_response().await.status(), 400, "{line}");
    }
    assert_eq!(server.seen().len(), 0);
    let mut client = Wire::connect(proxy.proxy).await;
    client.send("GET /ten/a/../b HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(client.read_response().await.status(), 204, "inside, dots are the server's");
}

#[tokio::test]
async fn no_path_leads_around_the_guard() {
    let mut attacks: Vec<_> = REFUSED.iter().map(|target| get(target, Refused)).collect();
    attacks.extend(
        ["/open/mcp", "/open/a/../b", "/open/%20", "/open//mcp", "/open/...", "/open/SAFE"]
            .map(|target| get(target, Carried)),
    );
    Scene::start().check(&attacks).await;
}
