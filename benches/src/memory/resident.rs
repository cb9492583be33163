//! The resident memory of a process tree, from `/proc/*/smaps_rollup`. Reads only.

use std::fs;
use std::io;

use crate::cpu::list_tree;

/// What a process tree holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Resident {
    /// All pages of each process, shared ones once for each.
    pub(super) rss_kib: u64,
    /// Shared pages divided among those who share them.
    pub(super) pss_kib: u64,
}

/// Sums over `root` and all its descendants.
pub(super) fn read_resident(root: u32) -> io::Result<Resident> {
    let mut sum = Resident::default();
    for process in list_tree(root)? {
        match fs::read_to_string(format!("/proc/{process}/smaps_rollup")) {
            Ok(text) => {
                sum.rss_kib += find_kib(&text, "Rss:").unwrap_or(0);
                sum.pss_kib += find_kib(&text, "Pss:").unwrap_or(0);
            }
            // It has ended since, or is about to: then it has no memory any more (ESRCH).
            Err(_) if process != root => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// The line of that name; none for a process without memory of its own.
fn find_kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        let text = "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:       1234 kB\nPss:        99 kB\nPss_Dirty:   7 kB\n";
        assert_eq!((find_kib(text, "Rss:"), find_kib(text, "Pss:")), (Some(1234), Some(99)));
        assert_eq!(find_kib("", "Rss:"), None);
    }

    #[test]
    fn our_own_memory_is_seen() {
        let own = read_resident(std::process::id()).unwrap();
        assert!(own.rss_kib >= own.pss_kib && own.pss_kib > 500, "{own:?}");
    }
}
