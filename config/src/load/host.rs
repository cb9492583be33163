//! Host names as they are compared with `Host`: lower case, without port.

use super::found::Found;
use crate::Problem;

/// RFC 1035 section 2.3.4.
const MAX_HOST_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

pub(super) fn decode_host(found: &Found<'_>) -> Result<String, Problem> {
    let host = found.as_full_text()?.to_ascii_lowercase();
    if host.len() <= MAX_HOST_BYTES && host.split('.').all(is_label) {
        return Ok(host);
    }
    let problem = Problem::new("value-invalid", "it is not a host name").label("not a host name");
    Err(match host.as_str() {
        _ if !host.is_ascii() => problem.help("write it in ASCII, as the browser sends it: xn--…"),
        _ if host.contains('*') => problem.help("write each name in full; there are no wildcards"),
        _ if host.contains([':', '/', '@']) => problem.help("write the bare name, as in \"mcp.example.com\""),
        _ => problem,
    })
}

fn is_label(label: &str) -> bool {
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.bytes().all(valid)
}
