//! What clients are told of a resource whose tokens are checked here (RFC 9728): who makes the tokens, and for which name.

use crate::{answer::Content, auth::PublicUrl};
use http::{HeaderValue, Response, header};
use http_body_util::Full;
use mcpmeter_config::Identity;
use serde_json::{Map, Value, json};

/// The document, where the identity of the resource is one that tokens prove. It is public, for pages, too.
pub(crate) fn metadata(identity: &Identity, public: &PublicUrl, inside: &str) -> Option<Response<Content>> {
    let Identity::Jwt { tokens, resource, scopes, .. } = identity else { return None };
    let mut document = Map::new();
    let resource = resource.clone().unwrap_or_else(|| public.resource(inside));
    document.insert("resource".to_owned(), resource.into());
    document.insert("authorization_servers".to_owned(), json!([tokens.issuer]));
    document.insert("bearer_methods_supported".to_owned(), json!(["header"]));
    if !scopes.is_empty() {
        document.insert("scopes_supported".to_owned(), json!(scopes));
    }
    let mut response = Response::new(Content::Own(Full::from(Value::Object(document).to_string())));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    Some(response)
}
