//! Somebody who makes JSON Web Tokens, right ones and wrong ones (proxy/tests/peers/token_issuer.mjs).

use crate::support::peer::peers;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

/// The `iss` of every token.
pub(crate) const ISSUER: &str = "https://login.example";
/// The `aud` of every token.
pub(crate) const AUDIENCE: &str = "https://mcp.example/a/mcp";

/// The issuer; it ends when it is dropped.
pub(crate) struct TokenIssuer {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl TokenIssuer {
    /// With new keys.
    pub(crate) fn start() -> Self {
        let mut child = Command::new("node")
            .arg(peers().join("token_issuer.mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, stdin, stdout: BufReader::new(stdout) }
    }

    fn order(&mut self, order: &Value) -> Value {
        writeln!(self.stdin, "{order}").expect("it reads");
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).expect("JSON")
    }

    /// The set of these keys: `rsa1`, `rsa2`, `ec1` (P-256), `ec2` (P-384), `ed1`.
    pub(crate) fn jwks(&mut self, keys: &[&str]) -> Value {
        self.order(&json!({ "jwks": keys }))
    }

    /// A token with these claims over the usual ones; `null` takes a claim away.
    pub(crate) fn token(&mut self, key: &str, alg: &str, header: &Value, claims: &Value) -> String {
        let mut all = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ann", "org": "acme", "exp": now() + 600, "iat": now(),
        });
        for (name, value) in claims.as_object().expect("claims") {
            all[name] = value.clone();
        }
        all.as_object_mut().expect("claims").retain(|_, value| !value.is_null());
        let order = json!({ "key": key, "alg": alg, "header": header, "claims": all });
        self.order(&order).as_str().expect("a token").to_owned()
    }

    /// A token that is right.
    pub(crate) fn right(&mut self) -> String {
        self.token("rsa1", "RS256", &json!({}), &json!({}))
    }
}

impl Drop for TokenIssuer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_secs()).expect("before the end of time")
}
