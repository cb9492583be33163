//! "Did you mean": the known word nearest to an unknown one.

/// The nearest known word, if it is near enough to be what was meant: a third of its letters, as in cargo.
pub(super) fn find_nearest<'k>(word: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    known
        .map(|candidate| (strsim::osa_distance(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.len().max(3) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::find_nearest;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let nearest = |word| find_nearest(word, ["listen", "workers", "url"].into_iter());
        assert_eq!(nearest("lisen"), Some("listen"));
        assert_eq!(nearest("wrokers"), Some("workers"));
        assert_eq!(nearest("ulr"), Some("url"));
        assert_eq!(nearest("threads"), None);
        assert_eq!(nearest(""), None);
    }
}
