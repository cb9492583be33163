//! A disk that hangs on demand: an ext4 file system in a file, frozen, so that every write waits until it is thawed. Needs
//! root. However the bench ends, a shell process thaws and unmounts it: nothing stays frozen.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits for the end of its standard input, which the system closes with us.
const CLEAN_UP: &str = r#"read -r _; fsfreeze -u "$0"; umount -l "$0""#;

/// The volume; unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Volume {
    /// Where its files are.
    pub(crate) mounted: PathBuf,
    watchdog: Child,
}

impl Volume {
    /// Makes and mounts one below `directory`; `None` where we may not.
    pub(crate) fn mount(directory: &Path) -> io::Result<Option<Self>> {
        let (image, mounted) = (directory.join("volume.img"), directory.join("volume"));
        std::fs::create_dir(&mounted)?;
        std::fs::File::create(&image)?.set_len(1 << 30)?;
        let is_made = run("mkfs.ext4", &["-q", "-F"], &[&image])?
            && run("mount", &["-o", "loop"], &[&image, &mounted])?;
        if !is_made {
            return Ok(None);
        }
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", CLEAN_UP]).arg(&mounted).process_group(0);
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Some(Self { mounted, watchdog: watchdog.spawn()? }))
    }

    /// Makes every write wait, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        let done = run("fsfreeze", &[if frozen { "-f" } else { "-u" }], &[&self.mounted])?;
        if done { Ok(()) } else { Err(io::Error::other("fsfreeze failed")) }
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        // It has nothing to tell.
        let _ = self.watchdog.wait();
    }
}

fn run(program: &str, options: &[&str], paths: &[&Path]) -> io::Result<bool> {
    let mut command = Command::new(program);
    command.args(options).args(paths).stdout(Stdio::null()).stderr(Stdio::null());
    match command.status() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        status => Ok(status?.success()),
    }
}
