//! What must not be kept, from the configuration to whoever keeps something: records ([`mcpmeter_observer`] applies it to
//! everything that a server or a client has said) and log lines, which quote both.

use mcpmeter_config::{self as config, Privacy};
use mcpmeter_observer::{Pattern, Personal, Redactor};
use std::{
    io::{self, Write},
    sync::Arc,
};

/// What the configuration wants to be taken out of texts.
pub(crate) fn redactor(privacy: &Privacy) -> Arc<Redactor> {
    let kept: Vec<_> = privacy.keep.iter().map(|kind| personal(*kind)).collect();
    let pattern = |pattern: &config::SecretPattern| Pattern {
        name: pattern.name.as_str().into(),
        regex: pattern.regex.clone(),
    };
    Redactor::new(&kept, privacy.redact.iter().map(pattern).collect())
}

const fn personal(kind: config::Personal) -> Personal {
    match kind {
        config::Personal::Email => Personal::Email,
        config::Personal::Phone => Personal::Phone,
        config::Personal::Card => Personal::Card,
        config::Personal::MyNumber => Personal::MyNumber,
        config::Personal::Iban => Personal::Iban,
    }
}

/// Takes log lines, each of them written at once, and writes them without what must not be in them.
pub(crate) struct RedactedLines<W> {
    pub(crate) to: W,
    pub(crate) redactor: Arc<Redactor>,
    /// Whether a line is a JSON document.
    pub(crate) is_json: bool,
}

impl<W: Write> Write for RedactedLines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        // What is written in the place of a line that cannot be looked through is a line, too.
        let (words, end) = text.strip_suffix('\n').map_or((&*text, ""), |words| (words, "\n"));
        let mut kept = match self.is_json {
            true => self.redactor.redact_document(words, usize::MAX).to_string(),
            false => self.redactor.redact(words).into_owned(),
        };
        kept.push_str(end);
        self.to.write_all(kept.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_written_without_secrets() {
        let write = |line: &str, is_json| {
            let redactor = redactor(&Privacy::default());
            let mut lines = RedactedLines { to: Vec::new(), redactor, is_json };
            lines.write_all(line.as_bytes()).expect("memory");
            String::from_utf8(lines.to).expect("text")
        };
        assert_eq!(write("WARN it said password=hunter2\n", false), "WARN it said password=[redacted]\n");
        let line = "{\"level\":\"WARN\",\"stderr\":\"\\u001b[31mghp_0123456789abcdef\"}\n";
        let expected = "{\"level\":\"WARN\",\"stderr\":\"\\u001b[31m[redacted GitHub token]\"}\n";
        assert_eq!(write(line, true), expected);
    }
}
