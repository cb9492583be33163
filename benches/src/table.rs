//! Markdown tables that are readable on a terminal as they are. Knows nothing of what is in them.

use std::fmt::Write;

use crate::stats::Spread;

/// Rows with as many cells each as the first, which is the head.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (cell, &width) in row.iter().zip(&widths) {
            let _ = write!(text, "| {cell:width$} ");
        }
        text.push_str("|\n");
        if number == 0 {
            widths.iter().for_each(|&width| text.extend(["|", &"-".repeat(width + 2)]));
            text.push_str("|\n");
        }
    }
    text
}

/// `median (minimum–maximum)`.
pub(crate) fn render_spread(spread: Spread, decimals: usize) -> String {
    let Spread { min, median, max } = spread;
    format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
}

/// A whole number with commas between its thousands.
pub(crate) fn group_digits(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_of_a_column_are_as_wide_as_its_widest() {
        let rows = [vec!["a".to_owned(), "µs".to_owned()], vec!["long".to_owned(), "1".to_owned()]];
        assert_eq!(align(&rows), "| a    | µs |\n|------|----|\n| long | 1  |\n");
    }

    #[test]
    fn thousands_are_told_apart() {
        assert_eq!([0, 999, 1_000, 3_000_000].map(group_digits), ["0", "999", "1,000", "3,000,000"]);
    }
}
