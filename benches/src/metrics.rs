//! Asks mcpmeter's admin port how many records are not in its store yet. Reads only.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// An answer takes milliseconds; what takes longer than this will not come.
const PATIENCE: Duration = Duration::from_secs(5);

/// The gauges of records on their way: in the queue, and in the outbox.
const WAITING: [&str; 2] = ["mcpmeter_log_queue_records", "mcpmeter_log_outbox_records"];

/// The records that are still waiting to be stored.
pub(crate) fn count_waiting(admin: SocketAddr) -> io::Result<u64> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let missing = || io::Error::other("/metrics does not tell how many records are waiting");
    WAITING.iter().map(|name| find_value(&answer, name)).sum::<Option<u64>>().ok_or_else(missing)
}

fn find_value(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_by_its_whole_name() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# HELP a_b words\na_b_total 9\na_b 12\n";
        assert_eq!(find_value(text, "a_b"), Some(12));
        assert_eq!(find_value(text, "a"), None);
    }
}
