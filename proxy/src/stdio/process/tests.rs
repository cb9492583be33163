//! Real programs, and everything that they can do wrong.

use super::{launch::PASSED_ON, *};
use bytes::Bytes;
use mcpmeter_config::Secret;
use std::collections::BTreeMap;

const PATIENCE: Duration = Duration::from_secs(30);

fn launch(words: &[&str]) -> Launch {
    Launch {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        env: BTreeMap::new(),
        cwd: None,
        max_line: 1 << 20,
    }
}

fn shell(script: &str) -> Process {
    Process::spawn(&launch(&["sh", "-c", script]), None).expect("sh is there")
}

fn python(script: &str) -> Process {
    Process::spawn(&launch(&["python3", "-c", script]), None).expect("python3 is there")
}

/// Everything that happens until the end.
async fn watch(process: &mut Process) -> (Vec<String>, Exit) {
    let mut seen = Vec::new();
    loop {
        let event = tokio::time::timeout(PATIENCE, process.next()).await.expect("something happens");
        match event {
            Event::Line(line) => seen.push(String::from_utf8_lossy(&line).into_owned()),
            Event::Noise => seen.push("noise".to_owned()),
            Event::TooLong => seen.push("too long".to_owned()),
            Event::Exited(exit) => return (seen, exit),
        }
    }
}

/// Whether anything of a session is there, a zombie included.
fn is_anybody_left(session: u32) -> bool {
    let stat = |entry: std::fs::DirEntry| std::fs::read_to_string(entry.path().join("stat")).ok();
    let processes = std::fs::read_dir("/proc").expect("procfs").flatten().filter_map(stat);
    // Behind the name in parentheses: state, parent, group, session.
    processes.into_iter().any(|stat| {
        let behind = stat.rsplit(')').next().unwrap_or_default();
        behind.split_whitespace().nth(3) == Some(&session.to_string())
    })
}

async fn assert_nobody_is_left(session: u32) {
    let gone = async {
        while is_anybody_left(session) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("nobody is left");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_explained() {
    let problem = |words: &[&str]| {
        Process::spawn(&launch(words), None).err().map(|error| error.to_string()).expect("it cannot start")
    };
    assert!(problem(&["no-such-program-7"]).starts_with("there is no program `no-such-program-7`"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plain");
    std::fs::write(&file, "text").expect("a file");
    let file = file.to_str().expect("a path");
    assert!(problem(&[file]).starts_with(&format!("`{file}` is not executable")));
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/no/such/interpreter\n").expect("a file");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("ours");
    let script = script.to_str().expect("a path");
    assert!(
        problem(&[script]).starts_with(&format!("`{script}` is there, but not")),
        "{}",
        problem(&[script])
    );
    let nowhere = Launch { cwd: Some("/no/such/folder".into()), ..launch(&["sh"]) };
    let problem = Process::spawn(&nowhere, None).err().expect("no folder").to_string();
    assert_eq!(problem, "its working directory /no/such/folder does not exist");
}

#[tokio::test]
async fn a_program_that_exits_at_once_tells_why() {
    let mut process = shell("echo one >&2; echo two >&2; exit 3");
    let (seen, exit) = watch(&mut process).await;
    assert_eq!((seen.len(), exit.to_string().as_str()), (0, "exited with status 3"));
    assert_eq!(exit.stderr, ["one", "two"]);
    let mut process = shell("kill -SEGV $$");
    assert_eq!(watch(&mut process).await.1.to_string(), "was killed by signal 11 (SIGSEGV)");
}

#[tokio::test]
async fn the_last_words_of_a_program_are_heard_when_its_end_is_seen_first() {
    let mut process = shell("exec >&-; read word; sleep 0.3; echo the reason >&2; kill -SEGV $$");
    // It closes its stdout, and so its stdin is closed.
    let early = tokio::time::timeout(Duration::from_millis(100), process.next()).await;
    assert!(early.is_err(), "{early:?}");
    let stat = format!("/proc/{}/stat", process.pid());
    // The runtime sees nothing meanwhile: then the words and the end at once.
    while !std::fs::read_to_string(&stat).expect("a zombie at least").contains(") Z ") {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(watch(&mut process).await.1.stderr, ["the reason"]);
}

#[tokio::test]
async fn noise_is_told_from_messages() {
    let mut process = shell(
        r#"echo banner; printf '{"a":1}\r\n'; head -c 100000 /dev/urandom | tr -d '[{\n'; echo; echo '[1]'; printf '{"last":1}'"#,
    );
    let (seen, _) = watch(&mut process).await;
    assert_eq!(seen, ["noise", "{\"a\":1}", "noise", "[1]", "{\"last\":1}"]);
}

#[tokio::test]
async fn ten_megabytes_on_stderr_stop_nobody() {
    let mut process =
        python("import sys\nfor _ in range(100): sys.stderr.write('x' * 99_999 + '\\n')\nprint('{}')");
    let (seen, exit) = watch(&mut process).await;
    assert_eq!((seen, exit.to_string().as_str()), (vec!["{}".to_owned()], "exited with status 0"));
    assert!(exit.stderr.iter().all(|line| line.len() <= 64 << 10));
}

#[tokio::test]
async fn a_line_of_a_hundred_megabytes_is_dropped_without_being_kept() {
    let before = resident_kib();
    let mut process =
        python("import sys\nfor _ in range(100): sys.stdout.write('{' * 1_000_000)\nprint(); print('{}')");
    let (seen, _) = watch(&mut process).await;
    assert_eq!(seen, ["too long", "{}"]);
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more");
}

/// Without the program file, of which a panic elsewhere reads a lot.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[tokio::test]
async fn a_program_that_says_as_much_as_it_is_told_blocks_nobody() {
    let mut process = shell("exec cat");
    let writer = process.writer();
    let line = Bytes::from([&b"{"[..], &[b' '; 100_000], b"}"].concat());
    for _ in 0..80 {
        writer.write(line.clone());
    }
    process.stop();
    let (seen, exit) = watch(&mut process).await;
    assert_eq!((seen.len(), exit.to_string().as_str()), (80, "exited with status 0"));
}

#[tokio::test]
async fn a_program_that_does_not_read_is_told_no_more_than_is_kept() {
    let mut process = shell("exec sleep 60");
    let writer = process.writer();
    let line = Bytes::from(vec![b' '; 1 << 20]);
    let told = (0..64)
        .take_while(|_| {
            let has_room = writer.has_room_for(line.len());
            if has_room {
                writer.write(line.clone());
            }
            has_room
        })
        .count();
    assert!((8..=9).contains(&told), "{told}");
    process.kill();
    assert_eq!(watch(&mut process).await.1.to_string(), "was killed by signal 9 (SIGKILL)");
    assert_nobody_is_left(process.pid()).await;
}

#[tokio::test]
async fn a_program_ends_when_its_stdin_does() {
    let mut process = shell("cat > /dev/null; echo '{\"bye\":1}'");
    process.stop();
    let (seen, exit) = watch(&mut process).await;
    assert_eq!((seen, exit.to_string().as_str()), (vec!["{\"bye\":1}".to_owned()], "exited with status 0"));
}

#[tokio::test]
async fn one_that_ignores_its_end_gets_sigterm_and_one_that_ignores_that_gets_sigkill() {
    let mut polite = shell("trap 'echo \"{}\"; exit 0' TERM; while :; do sleep 0.05; done");
    let mut deaf = shell("trap '' TERM; echo '{}'; while :; do sleep 0.05; done");
    polite.stop();
    deaf.stop();
    let ((seen, polite_exit), (_, deaf_exit)) = tokio::join!(watch(&mut polite), watch(&mut deaf));
    assert_eq!((seen.len(), polite_exit.to_string().as_str()), (1, "exited with status 0"));
    assert_eq!(deaf_exit.to_string(), "was killed by signal 9 (SIGKILL)");
    assert_nobody_is_left(polite.pid()).await;
    assert_nobody_is_left(deaf.pid()).await;
}

#[tokio::test]
async fn one_that_never_stops_talking_to_a_slow_listener_is_ended_all_the_same() {
    let mut process = shell("exec yes '{}'");
    assert!(matches!(process.next().await, Event::Line(_)));
    process.stop();
    let begun = std::time::Instant::now();
    let exit = loop {
        match process.next().await {
            Event::Exited(exit) => break exit,
            _ => tokio::time::sleep(Duration::from_millis(1)).await,
        }
        assert!(begun.elapsed() < PATIENCE, "it goes on");
    };
    assert_eq!(exit.to_string(), "was killed by signal 15 (SIGTERM)");
    assert_nobody_is_left(process.pid()).await;
}

#[tokio::test]
async fn what_a_program_has_started_ends_with_it() {
    // It holds the pipes, and ignores SIGTERM.
    let mut process =
        shell("(trap '' TERM HUP; sleep 60) & (setsid -f sleep 0.01); echo '{\"started\":1}'; exit 5");
    let (seen, exit) = watch(&mut process).await;
    assert_eq!((seen.len(), exit.to_string().as_str()), (1, "exited with status 5"));
    assert_nobody_is_left(process.pid()).await;
}

#[tokio::test]
async fn one_that_closes_its_stdout_is_ended() {
    let mut process = shell("exec >&-; exec sleep 60");
    let (_, exit) = watch(&mut process).await;
    assert_eq!(exit.to_string(), "was killed by signal 15 (SIGTERM)");
}

#[tokio::test]
async fn one_that_closes_its_stdin_is_ended_when_it_is_told_something() {
    let mut process = shell("exec <&-; echo '{}'; exec sleep 60");
    assert!(matches!(process.next().await, Event::Line(_)));
    let writer = process.writer();
    // More than once: in the instant in which another test starts a program, that one has the reader's end, too.
    let tell = async {
        loop {
            writer.write(Bytes::from_static(b"{}"));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let (_, exit) = tokio::select! {
        seen = watch(&mut process) => seen,
        () = tell => unreachable!("it goes on"),
    };
    assert_eq!(exit.to_string(), "was killed by signal 15 (SIGTERM)");
}

#[tokio::test]
async fn its_environment_has_nothing_of_ours_but_a_few() {
    let launch = Launch {
        env: [("GIVEN".to_owned(), Secret::new("it"))].into(),
        cwd: Some("/".into()),
        ..launch(&["sh", "-c", "pwd >&2; env | sed 's/=.*//' >&2; ls /proc/self/fd | wc -l >&2"])
    };
    let mut process = Process::spawn(&launch, None).expect("sh is there");
    let said = watch(&mut process).await.1.stderr;
    assert_eq!(said[0], "/");
    // `ls` has its own folder open.
    let expected = 4 + handed_down_to_us();
    assert_eq!(said.last(), Some(&expected.to_string()), "no descriptor that we have opened is there");
    let own = ["PWD", "OLDPWD", "SHLVL", "_", "GIVEN"];
    for name in &said[1..said.len() - 1] {
        assert!(own.contains(&name.as_str()) || PASSED_ON.contains(&name.as_str()), "{name}");
    }
    assert!(said.iter().any(|name| name == "GIVEN") && std::env::var_os("CARGO").is_some());
}

/// Descriptors that whoever has started us meant for all its children, such as those of cargo's job server.
fn handed_down_to_us() -> usize {
    const CLOEXEC: u32 = 0o2_000_000;
    let flags = |entry: std::fs::DirEntry| {
        let number: u32 = entry.file_name().to_str()?.parse().ok().filter(|number| *number > 2)?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim();
        u32::from_str_radix(flags, 8).ok()
    };
    let open = std::fs::read_dir("/proc/self/fd").expect("procfs").flatten();
    open.filter_map(flags).filter(|flags| flags & CLOEXEC == 0).count()
}

#[tokio::test]
async fn fifty_that_are_dropped_leave_nothing() {
    let processes: Vec<_> = (0..50).map(|_| shell("sleep 60 & exec sleep 61")).collect();
    let sessions: Vec<_> = processes.iter().map(Process::pid).collect();
    drop(processes);
    for session in sessions {
        assert_nobody_is_left(session).await;
    }
}
