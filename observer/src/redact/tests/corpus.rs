//! Harmless texts (`tests/redaction/harmless.txt`, one a line) stay whole, byte for byte.

use super::Redactor;
use std::fs;

/// Of a thousand lines so many may be changed.
const TOLERATED: usize = 5;

#[test]
fn harmless_texts_stay_as_they_are() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/redaction/harmless.txt");
    let text = fs::read_to_string(path).expect("the corpus");
    let redactor = Redactor::default();
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() >= 400);
    let mut changed = Vec::new();
    for line in &lines {
        let kept = redactor.redact(line);
        let document = redactor.redact_document(line, usize::MAX);
        let is_changed = kept != *line || (line.starts_with('{') && *document != **line);
        if is_changed {
            changed.push(format!("{line}\n  -> {kept}\n  -> {document}"));
        }
    }
    let whole = redactor.redact(&text);
    let rate = 100.0 * (lines.len() - changed.len()) as f64 / lines.len() as f64;
    changed.iter().for_each(|line| println!("{line}"));
    println!("harmless: {} lines, {} changed, {rate:.2} % whole", lines.len(), changed.len());
    assert!(changed.len() * 1000 <= lines.len() * TOLERATED, "{rate:.2} %\n{}", changed.join("\n"));
    assert_eq!(whole.len(), text.len(), "nothing is found across lines either");
}
