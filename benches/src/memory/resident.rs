//! The resident memory of a process tree. Pages that processes share count once for each: they are few, and the same at
//! both ends of a difference.

use std::fs;
use std::io;

use crate::cpu::list_tree;

/// In KiB.
pub(super) fn resident_kib(root: u32) -> io::Result<u64> {
    let mut sum = 0;
    for process in list_tree(root)? {
        match fs::read_to_string(format!("/proc/{process}/status")) {
            Ok(status) => sum += parse_resident(&status).unwrap_or(0),
            // It has ended since.
            Err(error) if process != root && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sum)
}

/// The line `VmRSS` of `/proc/*/status`; none for a process without memory of its own.
fn parse_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse_resident("VmPeak:\t 99 kB\nVmRSS:\t   1234 kB\nRssAnon: 7 kB\n"), Some(1234));
        assert_eq!(parse_resident("Name:\tkthreadd\n"), None);
        assert!(resident_kib(std::process::id()).unwrap() > 1_000);
    }
}
