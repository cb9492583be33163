//! Sums that are being added up, by bucket and dimensions. Pure; the same for rows and for cells.

use super::sums::Sums;
use mcpmeter_observer::Timestamp;
use std::collections::HashMap;

/// What a group is told apart by: the bucket (absent if all are added up), and a value per dimension.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Label {
    pub(super) bucket_start: Option<Timestamp>,
    pub(super) values: Vec<Option<String>>,
}

/// The groups so far.
#[derive(Debug, Default)]
pub(super) struct Groups {
    /// Found by the label's bytes, so that a row of a known group costs no allocation.
    groups: HashMap<Box<[u8]>, (Label, Sums)>,
    label: Vec<u8>,
}

impl Groups {
    /// The sums of the group.
    pub(super) fn of(&mut self, bucket_start: Option<Timestamp>, values: &[Option<&str>]) -> &mut Sums {
        self.label.clear();
        self.label.extend(bucket_start.map_or(i64::MIN, |start| start.0).to_ne_bytes());
        for value in values {
            // An absent value is told from an empty one.
            self.label.extend(value.map_or(u64::MAX, |value| value.len() as u64).to_ne_bytes());
            self.label.extend(value.unwrap_or_default().as_bytes());
        }
        if !self.groups.contains_key(self.label.as_slice()) {
            let values = values.iter().map(|value| value.map(str::to_owned)).collect();
            let group = (Label { bucket_start, values }, Sums::default());
            self.groups.insert(self.label.as_slice().into(), group);
        }
        let (_, sums) = self.groups.get_mut(self.label.as_slice()).expect("it was just inserted");
        sums
    }

    /// All groups, by bucket and then by value, the absent one first.
    pub(super) fn into_sorted(self) -> Vec<(Label, Sums)> {
        let mut groups: Vec<_> = self.groups.into_values().collect();
        groups.sort_by(|(a, _), (b, _)| a.cmp(b));
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_told_apart_by_bucket_and_by_every_value() {
        let mut groups = Groups::default();
        let labels = [
            (None, [Some("a"), None]),
            (None, [Some("a"), Some("")]),
            (None, [None, Some("a")]),
            (Some(Timestamp(0)), [Some("a"), None]),
            (None, [Some("a"), None]),
        ];
        for (bucket, values) in &labels {
            groups.of(*bucket, values).calls += 1;
        }
        let sorted = groups.into_sorted();
        let calls: Vec<_> = sorted.iter().map(|(_, sums)| sums.calls).collect();
        assert_eq!(calls, [1, 2, 1, 1]);
    }
}
