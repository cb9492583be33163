//! From the token to a cookie and back: a page that works without scripts, and the same for programs. What was typed is
//! never shown again.

use super::{Admin, AdminBody, access::Visitor, refused::Refused, text};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use std::time::Duration;

/// A token is at most 1,024 characters, each three if it is encoded.
const MAX_BODY_BYTES: usize = 8 << 10;
/// How long it may take to come.
const PATIENCE: Duration = Duration::from_secs(10);

const PAGE: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width\">\n<title>mcpmeter: log in</title>\n\
    <style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:24rem;margin:4rem auto;\
    padding:0 1rem}input,button{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;margin:.25rem 0}</style>\n\
    <h1>mcpmeter</h1>\n<!--why--><form method=\"post\" action=\"/login\">\n\
    <label for=\"token\">Token</label>\n\
    <input id=\"token\" name=\"token\" type=\"password\" autocomplete=\"current-password\" required autofocus>\n\
    <button>Log in</button>\n</form>\n<p>It is what <code>admin.token</code> of the configuration refers to.</p>\n</html>\n";

/// No script, nothing from elsewhere, in no frame. `same-origin` rather than `no-referrer`, which would make the form's
/// Origin `null`.
const PAGE_HEADERS: [(header::HeaderName, &str); 3] = [
    (header::CONTENT_TYPE, "text/html; charset=utf-8"),
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::REFERRER_POLICY, "same-origin"),
];

impl Admin {
    /// `POST /login`, with a form or with JSON.
    pub(super) async fn log_in(&self, request: Request<Incoming>, visitor: &Visitor) -> Response<AdminBody> {
        let is_json = has_json(request.headers());
        let body = Limited::new(request.into_body(), MAX_BODY_BYTES).collect();
        let Ok(Ok(body)) = tokio::time::timeout(PATIENCE, body).await else {
            return text(StatusCode::BAD_REQUEST, "the body does not come, or is too long\n");
        };
        let Some(token) = token_in(&body.to_bytes(), is_json) else {
            return text(
                StatusCode::BAD_REQUEST,
                "send token=TOKEN as a form, or {\"token\": \"TOKEN\"} as JSON\n",
            );
        };
        match self.entrance.access.log_in(token.as_bytes(), visitor) {
            Ok(cookie) => leave(&cookie, "/", is_json),
            Err(refused) => {
                self.entrance.access.count(&refused);
                if is_json { refused.into_response() } else { refused.explain(page(Some(refused))) }
            }
        }
    }

    /// `POST /logout`.
    pub(super) fn log_out(&self, headers: &HeaderMap) -> Response<AdminBody> {
        leave(&self.entrance.access.log_out(headers), "/login", has_json(headers))
    }
}

/// `GET /login`, and what follows a wrong token.
pub(super) fn page(why: Option<Refused>) -> Response<AdminBody> {
    let why = why.map_or_else(String::new, |refused| {
        format!("<p role=\"alert\">{}</p>\n", refused.advice().trim_end())
    });
    let page = PAGE.replace("<!--why-->", &why);
    let mut response = Response::new(Either::Left(Full::from(page)));
    for (name, value) in PAGE_HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Somebody who looks for a page and has no cookie is shown the way.
pub(super) fn show_the_way() -> Response<AdminBody> {
    let mut response = text(StatusCode::SEE_OTHER, "log in at /login\n");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/login"));
    response
}

/// Whether a request is a browser's for a page.
pub(super) fn wants_page(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn has_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.trim_start().to_ascii_lowercase().starts_with("application/json"))
}

fn token_in(body: &Bytes, is_json: bool) -> Option<String> {
    if is_json {
        let body: serde_json::Value = serde_json::from_slice(body).ok()?;
        return body.get("token")?.as_str().map(str::to_owned);
    }
    // A browser may have pasted a line break along.
    let token = form_urlencoded::parse(body).find(|(name, _)| name == "token")?.1;
    Some(token.trim().to_owned())
}

/// With another cookie, and to the next page if it was a page's form.
fn leave(cookie: &str, next: &'static str, is_json: bool) -> Response<AdminBody> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = if is_json { StatusCode::NO_CONTENT } else { StatusCode::SEE_OTHER };
    if !is_json {
        response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(next));
    }
    let cookie = HeaderValue::from_str(cookie).expect("a cookie is letters, digits and punctuation");
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}
