//! What the head of a request says of its body: that it is JSON in UTF-8, as it is, and (2026-07-28) what it asks for.

use super::{Envelope, Message, TOOLS_CALL, Unreadable};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use std::borrow::Cow;

const MCP_METHOD: HeaderName = HeaderName::from_static("mcp-method");
const MCP_NAME: HeaderName = HeaderName::from_static("mcp-name");

impl Envelope<'_> {
    /// Whether a body with this head is surely no message, whatever its reader makes of its type: there is nothing in it, or
    /// it is a form without a single character that an object or array of JSON needs, and without a field that a server
    /// which makes an object of it would take for a member of a message. Authorization servers are asked with forms
    /// (RFC 6749, 4.1.3).
    pub(crate) fn is_surely_none(headers: &HeaderMap, body: &[u8]) -> bool {
        let of_form = |byte: &u8| byte.is_ascii_alphanumeric() || b"%&+=-._~*:/@!,".contains(byte);
        let may_be_form = || {
            !headers.contains_key(header::CONTENT_ENCODING)
                && sole_type(headers).is_some_and(is_plain_form)
                && form_urlencoded::parse(body).all(|(name, _)| is_harmless_field(&name))
        };
        !announces_call(headers) && (body.is_empty() || (body.iter().all(of_form) && may_be_form()))
    }

    /// Whether a server may read characters of another encoding than UTF-8 in the body, as it is told to.
    pub(crate) fn check_charset(headers: &HeaderMap) -> Result<(), Unreadable> {
        let says_utf8 = |value: &HeaderValue| {
            let text = value.to_str().unwrap_or("?;charset=?");
            !text.contains(',') && text.split(';').skip(1).map(str::trim).all(is_harmless)
        };
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        if types.all(says_utf8) { Ok(()) } else { Err(Unreadable::ContentType) }
    }

    /// Whether a body with this head can be judged at all.
    pub(crate) fn check_head(headers: &HeaderMap) -> Result<(), Unreadable> {
        if headers.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
            return Err(Unreadable::Coding);
        }
        let is_json = sole_type(headers).is_some_and(is_json_in_utf8);
        if is_json { Ok(()) } else { Err(Unreadable::ContentType) }
    }

    /// Whether the routing headers, where there are any, say what the body does: servers may go by either.
    pub(crate) fn check_agreement(&self, headers: &HeaderMap) -> Result<(), Unreadable> {
        let (method, name) = (sole(headers, &MCP_METHOD)?, sole(headers, &MCP_NAME)?);
        if method.is_none() && name.is_none() {
            return Ok(());
        }
        // There are no batches where there are such headers.
        let [message] = self.messages.as_slice() else { return Err(Unreadable::HeaderMismatch) };
        if agree(message, method.as_deref(), name.as_deref()) {
            Ok(())
        } else {
            Err(Unreadable::HeaderMismatch)
        }
    }
}

/// Whether routing headers say that a tool is called, whatever the body does.
pub(crate) fn announces_call(headers: &HeaderMap) -> bool {
    headers.contains_key(MCP_NAME) || headers.get_all(MCP_METHOD).iter().any(|method| method == TOOLS_CALL)
}

/// Nothing but the type itself: readers have been seen that look for `application/json` anywhere in the header.
fn is_plain_form(content_type: &str) -> bool {
    let (essence, charset) = content_type.split_once(';').unwrap_or((content_type, "charset=utf-8"));
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
        && charset.trim().eq_ignore_ascii_case("charset=utf-8")
}

/// Brackets and dots make objects of fields (`params[name]`); the members of a message need none.
fn is_harmless_field(name: &str) -> bool {
    let is_member = ["jsonrpc", "method", "params"].iter().any(|member| name.eq_ignore_ascii_case(member));
    !is_member && !name.contains(['[', ']', '.'])
}

fn sole_type(headers: &HeaderMap) -> Option<&str> {
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(content_type), None) = (types.next(), types.next()) else { return None };
    content_type.to_str().ok()
}

/// A server that reads `charset` would decode the body by it, and see other characters than we. There is more than one way
/// to write a parameter (RFC 2231: `charset*`, `charset*0`, `charset*0*`), and servers that read it as mail does know all
/// of them; so a name has to be a plain token.
fn is_json_in_utf8(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(str::trim);
    let is_json = parts.next().is_some_and(|essence| essence.eq_ignore_ascii_case("application/json"));
    is_json && !content_type.contains(',') && parts.all(is_harmless)
}

fn is_harmless(parameter: &str) -> bool {
    let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
    let (name, value) = (name.trim(), value.trim().trim_matches('"'));
    let is_plain =
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    is_plain
        && (!name.eq_ignore_ascii_case("charset")
            || ["utf-8", "utf8"].iter().any(|charset| value.eq_ignore_ascii_case(charset)))
}

/// `Mcp-Name` of other methods repeats other members, which nothing is decided by.
fn agree(message: &Message<'_>, method: Option<&str>, name: Option<&str>) -> bool {
    let own = message.method.as_deref();
    (method.is_none() || method == own)
        && (own != Some(TOOLS_CALL) || name.is_none() || name == message.tool())
}

/// The value of a header that may be there once; what is no plain text comes as `=?base64?…?=`.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<Cow<'a, str>>, Unreadable> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => decode(value.as_bytes()).map(Some).ok_or(Unreadable::HeaderMismatch),
        (Some(_), Some(_)) => Err(Unreadable::HeaderMismatch),
    }
}

fn decode(value: &[u8]) -> Option<Cow<'_, str>> {
    let text = str::from_utf8(value).ok()?.trim();
    let Some(encoded) = text.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(Cow::Borrowed(text));
    };
    String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).map(Cow::Owned).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                HeaderName::from_static(name),
                HeaderValue::from_bytes(value.as_bytes()).expect("a value"),
            );
        }
        map
    }

    #[test]
    fn a_form_and_nothing_are_surely_no_message() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let body = "grant_type=authorization_code&code=a%2Fb+c&redirect_uri=http%3A%2F%2Flocalhost";
        let form = headers(&[("content-type", FORM)]);
        assert!(Envelope::is_surely_none(&form, body.as_bytes()));
        assert!(Envelope::is_surely_none(&HeaderMap::new(), b""));
        for (content_type, body) in [
            (FORM, "{\"method\":\"tools/call\"}"),
            (FORM, "a={}"),
            (FORM, " a=b"),
            (FORM, "\u{feff}a=b"),
            ("application/x-www-form-urlencoded; charset=utf-7", "+AHsAIg-"),
            ("application/json", "a=b"),
            ("application/x-www-form-urlencoded, application/json", "a=b"),
            ("application/x-www-form-urlencoded; x=application/json", "a=b"),
            (FORM, "jsonrpc=2.0&id=1&method=tools%2Fcall&params%5Bname%5D=rm"),
            (FORM, "Method=tools%2Fcall"),
            (FORM, "m%65thod=x"),
            (FORM, "params.name=rm"),
            (FORM, "a%5B%5D=rm"),
        ] {
            let headers = headers(&[("content-type", content_type)]);
            assert!(!Envelope::is_surely_none(&headers, body.as_bytes()), "{content_type} {body}");
        }
        let packed = headers(&[("content-type", FORM), ("content-encoding", "identity")]);
        assert!(!Envelope::is_surely_none(&packed, b"a=b"));
        let two = headers(&[("content-type", FORM), ("content-type", "application/json")]);
        assert!(!Envelope::is_surely_none(&two, b"a=b"));
        let utf8 = headers(&[("content-type", "application/x-www-form-urlencoded; charset=UTF-8")]);
        assert!(Envelope::is_surely_none(&utf8, b"a=b"));
        for announced in [("mcp-method", "tools/call"), ("mcp-name", "rm")] {
            assert!(!Envelope::is_surely_none(&headers(&[announced]), b""), "{announced:?}");
        }
        assert!(Envelope::is_surely_none(&headers(&[("mcp-method", "tools/list")]), b""));
    }

    #[test]
    fn no_other_characters_are_read_than_those_of_utf8() {
        for good in ["", "text/plain", "application/json; charset=utf-8", "multipart/form-data; boundary=x"] {
            assert_eq!(Envelope::check_charset(&headers(&[("content-type", good)])), Ok(()), "{good}");
        }
        for bad in [
            "application/json; charset=utf-7",
            "a/b; charset*=us-ascii''utf-7",
            "a/b, c/d; x=y",
            "a/b; x=\u{e9}",
        ] {
            let told = Envelope::check_charset(&headers(&[("content-type", bad)]));
            assert_eq!(told, Err(Unreadable::ContentType), "{bad}");
        }
        assert_eq!(Envelope::check_charset(&HeaderMap::new()), Ok(()));
    }

    #[test]
    fn only_plain_json_in_utf8_is_read() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/json;charset=\"UTF-8\"",
            "application/json; profile=x",
            "application/json;",
        ] {
            assert_eq!(Envelope::check_head(&headers(&[("content-type", good)])), Ok(()), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/jsonx",
            "application/json; charset=utf-16",
            "application/json; CharSet = \"utf-7\"",
            "application/json; charset=utf-8; charset=utf-16",
            "application/json; charset=us-ascii",
            "application/json; charset",
            "application/json; charset*=us-ascii''utf-7",
            "application/json; charset*0=utf; charset*1=-7",
            "application/json; charset*0*=us-ascii''utf-7",
            "application/json; charset=utf-8; charset*=us-ascii''utf-7",
            "application/json; profile*=x",
            "application/json; (x)charset=utf-7",
            "application/json; x=\"; charset=utf-7\"",
            "application/json, text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=application/json",
        ] {
            assert_eq!(
                Envelope::check_head(&headers(&[("content-type", bad)])),
                Err(Unreadable::ContentType),
                "{bad}"
            );
        }
        let json = ("content-type", "application/json");
        assert_eq!(Envelope::check_head(&headers(&[])), Err(Unreadable::ContentType));
        assert_eq!(Envelope::check_head(&headers(&[json, json])), Err(Unreadable::ContentType));
        assert_eq!(Envelope::check_head(&headers(&[json, ("content-encoding", "identity")])), Ok(()));
        for coding in ["gzip", "br", "identity, gzip", "Identity", ""] {
            let coded = headers(&[json, ("content-encoding", coding)]);
            assert_eq!(Envelope::check_head(&coded), Err(Unreadable::Coding), "{coding}");
        }
    }

    #[test]
    fn routing_headers_have_to_say_what_the_body_does() {
        let call = r#"{"id":1,"method":"tools/call","params":{"name":"é"}}"#;
        let list = r#"{"id":1,"method":"tools/list"}"#;
        let prompt = r#"{"id":1,"method":"prompts/get","params":{"name":"p"}}"#;
        let response = r#"{"id":1,"result":{}}"#;
        let (is_call, is_e) = (("mcp-method", "tools/call"), ("mcp-name", "=?base64?w6k=?="));
        let check = |pairs: &[_], body: &str| {
            Envelope::read(body.as_bytes()).expect("readable").check_agreement(&headers(pairs))
        };
        for (pairs, body) in [
            (vec![], call),
            (vec![is_call, is_e], call),
            (vec![is_call], call),
            (vec![is_call, ("mcp-name", "é")], call),
            (vec![("mcp-method", " tools/list ")], list),
            (vec![("mcp-method", "prompts/get"), ("mcp-name", "anything")], prompt),
            (vec![], "[{},{}]"),
            (vec![], response),
        ] {
            assert_eq!(check(&pairs, body), Ok(()), "{pairs:?} {body}");
        }
        for (pairs, body) in [
            (vec![is_call, ("mcp-name", "e")], call),
            (vec![is_call, ("mcp-name", "É")], call),
            (vec![is_call, ("mcp-name", "=?base64?!?=")], call),
            (vec![is_call, ("mcp-name", "=?base64?/w==?=")], call),
            (vec![is_call, is_e, is_e], call),
            (vec![is_call, is_call, is_e], call),
            (vec![("mcp-method", "Tools/Call"), is_e], call),
            (vec![("mcp-name", "other")], call),
            (vec![is_call, is_e], list),
            (vec![("mcp-method", "tools/list")], response),
            (vec![is_call, is_e], "[{\"id\":1,\"method\":\"tools/call\",\"params\":{\"name\":\"é\"}},{}]"),
        ] {
            assert_eq!(check(&pairs, body), Err(Unreadable::HeaderMismatch), "{pairs:?} {body}");
        }
    }
}
