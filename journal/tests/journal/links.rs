//! What lies between the shipper and PostgreSQL: slow links, a pooler, TLS.

use crate::{
    harness::{Place, Running, eventually, open_patiently, options},
    keys::use_keys,
    postgres::{Cluster, unprivileged_user},
    records::plain,
};
use mcpmeter_journal::{KeyStore, Opened, Options, Retention, migrate};
use mcpmeter_observer::CallRecord;
use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::unix::{fs::PermissionsExt, fs::chown, process::CommandExt},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// A relay that lets through so many bytes a second, in each direction of each connection. Its threads end with
/// their connections.
struct SlowLink {
    port: u16,
    rate: Arc<AtomicU64>,
}

impl SlowLink {
    fn to(url: &str, bytes_per_second: u64) -> Self {
        let target = url.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let rate = Arc::new(AtomicU64::new(bytes_per_second));
        let shared = Arc::clone(&rate);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(&target) else { continue };
                let ways = [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)];
                for (from, to) in ways {
                    let rate = Arc::clone(&shared);
                    thread::spawn(move || relay(from, to, &rate));
                }
            }
        });
        Self { port, rate }
    }

    /// The database's URL, over this link.
    fn url(&self, url: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, url.rsplit('/').next().unwrap())
    }
}

/// Twenty pieces a second.
fn relay(mut from: TcpStream, mut to: TcpStream, rate: &AtomicU64) {
    let mut buffer = vec![0; 1 << 20];
    loop {
        let piece = usize::try_from(rate.load(Ordering::Relaxed) / 20).unwrap().clamp(1, buffer.len());
        match from.read(&mut buffer[..piece]) {
            Ok(read) if read > 0 && to.write_all(&buffer[..read]).is_ok() => {}
            _ => break,
        }
        thread::sleep(Duration::from_millis(50));
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn run_with_timeout(place: &Place, url: &str, timeout: Duration) -> Running {
    let opened = open_patiently(&options(&place.file(), Some(url)));
    let shipper = opened.shipper.map(|shipper| shipper.with_batch_timeout(timeout));
    Running::start(Opened { shipper, ..opened })
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_slow_link_batches_become_small_enough_to_arrive() {
    let place = Place::new(Cluster::shared());
    let link = SlowLink::to(&place.url, 1 << 30);
    let running = run_with_timeout(&place, &link.url(&place.url), Duration::from_secs(1));
    eventually("it is connected", || running.journal.health().postgres.unwrap().ok).await;
    // Whole, these need about seven seconds.
    link.rate.store(100_000, Ordering::Relaxed);
    for number in 0..2_000 {
        running.journal.accept(plain(number));
    }
    let journal = running.journal.clone();
    eventually("they are stored", || {
        assert!(journal.accounts().balance());
        journal.accounts().stored == 2_000
    })
    .await;
    let said = journal.health().postgres.unwrap().error.unwrap();
    assert!(said.contains("did not answer within 1 seconds"), "{said}");
    running.close().await;
    assert_eq!(place.stored(), (2_000, 2_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_link_too_slow_for_one_call_the_shipper_becomes_patient() {
    let place = Place::new(Cluster::shared());
    let link = SlowLink::to(&place.url, 1 << 30);
    let running = run_with_timeout(&place, &link.url(&place.url), Duration::from_millis(200));
    eventually("it is connected", || running.journal.health().postgres.unwrap().ok).await;
    // One call with its transaction needs more than a second.
    link.rate.store(1_200, Ordering::Relaxed);
    for number in 0..5 {
        running.journal.accept(plain(number));
    }
    eventually("they are stored", || running.journal.accounts().stored == 5).await;
    link.rate.store(1 << 30, Ordering::Relaxed);
    running.close().await;
    assert_eq!(place.stored(), (5, 5));
}

/// A running PgBouncer; killed when dropped.
struct Pooler {
    process: Child,
    port: u16,
}

impl Pooler {
    /// In transaction mode with two connections to the server; `None` where it is not installed.
    fn start(directory: &Path, server: &str) -> Option<Self> {
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"]
            .into_iter()
            .find(|path| Path::new(path).exists())?;
        let (host, port) = server.split_once(':').unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let settings = directory.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host={host} port={port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {free}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\n"
        );
        fs::write(&settings, text).unwrap();
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(program);
        // It refuses to be root.
        if let Some((uid, gid)) = unprivileged_user() {
            command.uid(uid).gid(gid);
        }
        command.arg(&settings).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().unwrap();
        let deadline = Instant::now() + crate::harness::PATIENCE;
        while TcpStream::connect(("127.0.0.1", free)).is_err() {
            assert!(Instant::now() < deadline, "PgBouncer does not listen");
            thread::yield_now();
        }
        Some(Self { process, port: free })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = (self.process.kill(), self.process.wait());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_through_a_pooler_in_transaction_mode() {
    let place = Place::new(Cluster::shared());
    let server = place.url.rsplit('@').next().unwrap().split('/').next().unwrap();
    let Some(pooler) = Pooler::start(place.directory.path(), server) else {
        eprintln!("skipped: pgbouncer is not installed (scripts/setup-tests installs it)");
        return;
    };
    let url =
        format!("postgres://postgres@127.0.0.1:{}/{}", pooler.port, place.url.rsplit('/').next().unwrap());
    migrate(&url.parse().unwrap()).await.unwrap();
    use_keys(&KeyStore::postgres(&url.parse().unwrap()).unwrap()).await;
    let retention = Retention { compress_after_days: 1, ..Retention::default() };
    let opened = open_patiently(&Options { retention, ..options(&place.file(), Some(&url)) });
    let (running, mut keeper) = Running::start_and_keep(opened);
    for number in 0..6_000 {
        running.journal.accept(plain(number));
    }
    // Duplicates, and a row that can never be stored: both ways through other statements.
    running.journal.accept(plain(17));
    running.journal.accept(Box::new(CallRecord { user_agent: Some("nul \0".into()), ..*plain(6_001) }));
    let journal = running.journal.clone();
    let trouble = || journal.health().postgres.unwrap().error;
    eventually("they are shipped, or it says why not", || {
        journal.accounts().stored == 6_001 || trouble().is_some()
    })
    .await;
    assert_eq!(trouble(), None);
    keeper.roll_up().await;
    keeper.retain().await;
    running.close().await;
    assert_eq!(place.stored(), (6_000, 6_000));
    assert_eq!((journal.health().duplicates, journal.accounts().lost_total()), (1, 1));
    let compressed =
        "select obj_description('mcpmeter.mcp_server_request_log_20260301'::regclass) like '%compressed'";
    assert_eq!(place.cluster.query(&place.url, compressed), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_shipped_over_tls_to_a_server_whose_certificate_is_checked_or_not() {
    let place = Place::new(Arc::new(Cluster::new()));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = place.directory.path().join("roots.pem");
    fs::write(&roots, made.cert.pem()).unwrap();
    let data = place.cluster.query(&place.url, "show data_directory");
    for (name, pem) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
        let file = Path::new(&data).join(name);
        fs::write(&file, pem).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = unprivileged_user() {
            chown(&file, Some(uid), Some(gid)).unwrap();
        }
    }
    place.cluster.query(&place.url, "alter system set ssl = on");
    place.cluster.query(&place.url, "select pg_reload_conf()");
    eventually("the server has TLS", || place.cluster.query(&place.url, "show ssl") == "on").await;

    let url = place.url.replace("127.0.0.1", "localhost");
    let verified = format!("{url}?sslmode=verify-full&sslrootcert={}", roots.display());
    for (number, url) in (0..).zip([format!("{url}?sslmode=require"), verified]) {
        let opened = open_patiently(&options(&place.file(), Some(&url)));
        let running = Running::start(opened);
        running.journal.accept(plain(number));
        eventually("it is stored", || running.journal.accounts().stored == 1).await;
        assert!(place.count("select count(*) from pg_stat_ssl where ssl") > 0);
        running.close().await;
    }
    // The same certificate for another name is refused, and the call waits.
    let other = format!("{}?sslmode=verify-full&sslrootcert={}", place.url, roots.display());
    let running = Running::start(open_patiently(&options(&place.file(), Some(&other))));
    running.journal.accept(plain(9));
    let refused = || {
        running.journal.health().postgres.unwrap().error.is_some_and(|error| error.contains("certificate"))
    };
    eventually("it is refused", refused).await;
    assert_eq!(place.stored(), (2, 2));
    running.abandon().await;
}
