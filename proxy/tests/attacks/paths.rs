//! Targets that mean another route to somebody else.

use super::{Attack, Carried, Fate, Refused, Scene};

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

#[tokio::test]
async fn no_path_leads_around_the_guard() {
    let mut attacks: Vec<_> = REFUSED.iter().map(|target| get(target, Refused)).collect();
    attacks.extend(
        ["/open/mcp", "/open/a/../b", "/open/%20", "/open//mcp", "/open/...", "/open/SAFE"]
            .map(|target| get(target, Carried)),
    );
    Scene::start().check(&attacks).await;
}
