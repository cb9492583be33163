//! The ring by itself, and beside a real SQLite file.

use super::*;
use mcpmeter_journal::SecretHash;
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

const NOW: Timestamp = Timestamp(1_772_323_200_000_000);
const SECOND: i64 = 1_000_000;
/// Far more than anything takes.
const PATIENCE: Duration = Duration::from_secs(30);

fn secret() -> Secret<'static> {
    Secret::generate(PublicId::generate().unwrap()).unwrap()
}

fn key(secret: &Secret<'_>) -> ApiKey {
    ApiKey {
        id: secret.id().to_string().into(),
        hash: secret.hash(),
        previous: None,
        name: Some("laptop at home".into()),
        user_id: "user-00001@example.com".into(),
        organization_id: Some("organisation".into()),
        routes: vec!["github".into(), "files-*".into()],
        tools: vec!["search_*".into(), "read_file".into()],
        rate_per_minute: Some(60),
        created_at: NOW,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn ring(keys: Vec<ApiKey>) -> KeyRing {
    let ring = KeyRing::default();
    learn(&ring, keys);
    ring
}

fn learn(ring: &KeyRing, changed: Vec<ApiKey>) {
    let mut keys = ring.known();
    ring.add(&mut keys, changed);
    ring.know(keys);
}

fn found(ring: &KeyRing, secret: &Secret<'_>, at: Timestamp) -> Result<Text, KeyRefusal> {
    ring.find(secret.expose(), at).map(|known| Arc::clone(&known.key.id))
}

#[test]
fn nobody_is_told_that_his_key_is_wrong_before_the_keys_are_read() {
    let (ring, secret) = (KeyRing::default(), secret());
    assert!(!ring.is_ready());
    assert_eq!(found(&ring, &secret, NOW), Err(KeyRefusal::Unready));
    assert_eq!(ring.find("mcpm_typo", NOW).err(), Some(KeyRefusal::Malformed), "that needs no store");
    learn(&ring, Vec::new());
    assert!(ring.is_ready());
    assert_eq!(found(&ring, &secret, NOW), Err(KeyRefusal::Unknown));
}

#[test]
fn a_secret_opens_its_own_key_only() {
    let (one, two) = (secret(), secret());
    let ring = ring(vec![key(&one), key(&two)]);
    for secret in [&one, &two] {
        assert_eq!(found(&ring, secret, NOW), Ok(secret.id().to_string().into()));
    }
    let forged = Secret::generate(one.id()).unwrap();
    assert_eq!(found(&ring, &forged, NOW), Err(KeyRefusal::Unknown), "the id alone is worth nothing");
    let mut typo = one.expose().to_owned();
    typo.truncate(typo.len() - 1);
    assert_eq!(ring.find(&typo, NOW).err(), Some(KeyRefusal::Malformed));
}

#[test]
fn one_different_bit_of_the_hash_is_another_secret() {
    let secret = secret();
    for bit in 0..256 {
        let SecretHash(mut bytes) = secret.hash();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let ring = ring(vec![ApiKey { hash: SecretHash(bytes), ..key(&secret) }]);
        assert_eq!(found(&ring, &secret, NOW), Err(KeyRefusal::Unknown), "bit {bit}");
    }
}

#[test]
fn a_key_is_refused_from_its_expiry_on_and_once_it_is_revoked() {
    let secret = secret();
    let ring = ring(vec![ApiKey { expires_at: Some(NOW), ..key(&secret) }]);
    assert!(found(&ring, &secret, Timestamp(NOW.0 - 1)).is_ok());
    assert_eq!(found(&ring, &secret, NOW), Err(KeyRefusal::Expired));
    learn(&ring, vec![ApiKey { revoked_at: Some(NOW), ..key(&secret) }]);
    assert_eq!(found(&ring, &secret, NOW), Err(KeyRefusal::Revoked));
    let forged = Secret::generate(secret.id()).unwrap();
    assert_eq!(found(&ring, &forged, NOW), Err(KeyRefusal::Unknown), "only who has the key is told");
}

#[test]
fn after_an_exchange_both_secrets_open_the_key_until_the_grace_is_over() {
    let before = secret();
    let after = Secret::generate(before.id()).unwrap();
    let previous = Some(PreviousSecret { hash: before.hash(), valid_until: Timestamp(NOW.0 + SECOND) });
    let ring = ring(vec![ApiKey { previous, ..key(&after) }]);
    let late = Timestamp(NOW.0 + SECOND);
    assert_eq!(found(&ring, &before, NOW), found(&ring, &after, NOW));
    assert_eq!(found(&ring, &before, late), Err(KeyRefusal::Expired));
    assert!(found(&ring, &after, late).is_ok());
}

#[test]
fn a_store_that_starts_over_takes_the_keys_that_it_has_not() {
    let (one, two) = (secret(), secret());
    let ring = ring(vec![key(&one)]);
    learn(&ring, vec![key(&two)]);
    assert!(found(&ring, &one, NOW).is_ok() && found(&ring, &two, NOW).is_ok());
    ring.know(Keys::new());
    learn(&ring, vec![key(&two)]);
    assert_eq!(found(&ring, &one, NOW), Err(KeyRefusal::Unknown));
    assert!(found(&ring, &two, NOW).is_ok());
}

#[test]
fn uses_are_told_once_and_survive_a_change_of_the_key() {
    let (one, two) = (secret(), secret());
    let ring = ring(vec![key(&one), key(&two)]);
    assert_eq!(ring.take_uses(), []);
    found(&ring, &one, NOW).unwrap();
    let told = [(Text::from(one.id().to_string()), NOW)];
    assert_eq!(ring.take_uses(), told);
    assert_eq!(ring.take_uses(), []);
    ring.give_back(&told);
    learn(&ring, vec![key(&one)]);
    assert_eq!(ring.take_uses(), told, "the store could not be told");
    let later = Timestamp(NOW.0 + SECOND);
    found(&ring, &one, later).unwrap();
    learn(&ring, vec![key(&one)]);
    assert_eq!(ring.take_uses(), [(told[0].0.clone(), later)]);
    let refused = Secret::generate(one.id()).unwrap();
    found(&ring, &refused, Timestamp(later.0 + SECOND)).unwrap_err();
    assert_eq!(ring.take_uses(), [], "a refusal is no use");
}

/// Waits for a ring to answer so.
async fn until(ring: &KeyRing, secret: &Secret<'_>, expected: Result<(), KeyRefusal>) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = found(ring, secret, NOW).map(drop);
        if answer == expected {
            return;
        }
        assert!(Instant::now() < deadline, "still {answer:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Does something while two proxies keep their keys current by a file.
async fn beside_two_rings(file: &Path, work: impl AsyncFnOnce(&KeyRing, &KeyRing)) {
    let (rings, (stop, stopped)) = ([KeyRing::default(), KeyRing::default()], oneshot::channel::<()>());
    let (also_stop, also_stopped) = oneshot::channel::<()>();
    tokio::join!(
        rings[0].keep_current(KeyStore::sqlite(file), async { drop(stopped.await) }),
        rings[1].keep_current(KeyStore::sqlite(file), async { drop(also_stopped.await) }),
        async {
            work(&rings[0], &rings[1]).await;
            drop((stop, also_stop));
        }
    );
}

#[tokio::test]
async fn every_proxy_of_a_store_learns_of_a_change_and_the_store_of_the_uses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let (store, made) = (KeyStore::sqlite(&file), secret());
    Box::pin(beside_two_rings(&file, async |one, two| {
        assert_eq!(found(one, &made, NOW), Err(KeyRefusal::Unready), "there is no file yet");
        store.create(key(&made)).await.unwrap();
        for ring in [one, two] {
            until(ring, &made, Ok(())).await;
        }
        let other = Secret::generate(made.id()).unwrap();
        let id = made.id().to_string();
        store.rotate(&id, other.hash(), Duration::ZERO, NOW).await.unwrap();
        for ring in [one, two] {
            until(ring, &made, Err(KeyRefusal::Unknown)).await;
            until(ring, &other, Ok(())).await;
        }
        store.revoke(&id, NOW).await.unwrap();
        for ring in [one, two] {
            until(ring, &other, Err(KeyRefusal::Revoked)).await;
        }
    }))
    .await;
    assert_eq!(store.list().await.unwrap()[0].last_used_at, Some(NOW), "written at the end");
}

#[test]
fn keeping_keys_is_a_task() {
    fn is_task(_: impl Future<Output = ()> + Send + 'static) {}
    let (ring, store) = (Arc::new(KeyRing::default()), KeyStore::sqlite(Path::new("nowhere.db")));
    is_task(async move { Box::pin(ring.keep_current(store, std::future::pending())).await });
}

#[tokio::test]
async fn a_store_that_goes_away_takes_no_key_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.db");
    let (store, made, later) = (KeyStore::sqlite(&file), secret(), secret());
    store.create(key(&made)).await.unwrap();
    let ring = KeyRing::default();
    let mut reading = current::Reading::default();
    ring.read_changes(&store, &mut reading).await.unwrap();
    let aside = folder.path().join("aside.db");
    fs::rename(&file, &aside).unwrap();
    for _ in 0..3 {
        ring.read_changes(&store, &mut reading).await.unwrap_err();
        assert!(found(&ring, &made, NOW).is_ok());
    }
    fs::rename(&aside, &file).unwrap();
    store.create(key(&later)).await.unwrap();
    ring.read_changes(&store, &mut reading).await.unwrap();
    assert!(found(&ring, &made, NOW).is_ok() && found(&ring, &later, NOW).is_ok());
    // Another file with fewer changes is another beginning.
    fs::rename(&file, &aside).unwrap();
    store.create(key(&later)).await.unwrap();
    ring.read_changes(&store, &mut reading).await.unwrap();
    assert_eq!(found(&ring, &made, NOW), Err(KeyRefusal::Unknown));
    assert!(found(&ring, &later, NOW).is_ok());
}

/// How many keys a proxy is to know with ease.
const MANY: usize = 100_000;
const MANY_BYTES: u64 = 100_000_000;
/// Tells this test's other process what it is.
const MEASURES: &str = "MCPMETER_TEST_MEASURES_KEYS";

/// What this process has resident, in bytes.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Memory is that of a whole process, so this runs again in one of its own.
#[test]
fn a_hundred_thousand_keys_take_less_than_a_hundred_megabytes() {
    if std::env::var_os(MEASURES).is_some() {
        return measure_many_keys();
    }
    let name = "key_ring::tests::a_hundred_thousand_keys_take_less_than_a_hundred_megabytes";
    let program = std::env::current_exe().unwrap();
    let run =
        Command::new(program).args(["--exact", name, "--nocapture"]).env(MEASURES, "1").output().unwrap();
    let told = String::from_utf8(run.stdout).unwrap();
    let measured = told.lines().find(|line| line.starts_with("measured: ")).expect("it has measured");
    println!("{measured}");
    assert!(run.status.success(), "{told}");
}

/// What one lookup takes of the processor: other tests run at the same time.
fn time_lookups(ring: &KeyRing, secrets: &[Secret<'_>]) -> Duration {
    let (lookups, began) = (10 * MANY, processor_time());
    for number in 0..lookups {
        let secret = &secrets[number.wrapping_mul(7_919) % secrets.len()];
        assert!(ring.find(secret.expose(), Timestamp(NOW.0 + number as i64)).is_ok());
    }
    (processor_time() - began) / u32::try_from(lookups).unwrap()
}

fn processor_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn measure_many_keys() {
    let secrets: Vec<_> = (0..MANY).map(|_| secret()).collect();
    let ring = KeyRing::default();
    let before = resident();
    // As they come from the store: all of them, in pages; then one that has changed.
    let mut keys = Keys::new();
    secrets.chunks(5_000).for_each(|page| ring.add(&mut keys, page.iter().map(key).collect()));
    ring.know(keys);
    let bytes = resident() - before;
    let began = Instant::now();
    learn(&ring, vec![key(&secrets[0])]);
    let change = began.elapsed();
    // Each time another key, far from the one before: nothing of it is at hand. And a few keys again and again.
    let cold = time_lookups(&ring, &secrets);
    let warm = time_lookups(&ring, &secrets[..100]);
    let began = Instant::now();
    let uses = ring.take_uses().len();
    let gathering = began.elapsed();
    println!(
        "\nmeasured: {MANY} keys {bytes} bytes, {} a key; a lookup {cold:?}, of keys in use {warm:?}; one key changed in {change:?}; {uses} uses gathered in {gathering:?}",
        bytes / MANY as u64
    );
    assert!(bytes < MANY_BYTES, "{bytes} bytes");
}

#[test]
fn what_hangs_on_a_key_ends_with_it() {
    let (at, secret) = (|seconds: i64| Timestamp(NOW.0 + seconds * SECOND), secret());
    let ring = ring(vec![key(&secret)]);
    let was = ring.find(secret.expose(), NOW).unwrap();
    let standing = |change: fn(&mut ApiKey)| {
        let mut changed = key(&secret);
        change(&mut changed);
        learn(&ring, vec![changed]);
        ring.standing(&was, NOW)
    };
    assert_eq!(standing(|key| key.name = None), Ok(None));
    assert_eq!(standing(|key| key.revoked_at = Some(NOW)), Err(KeyRefusal::Revoked));
    assert_eq!(standing(|key| key.expires_at = Some(NOW)), Err(KeyRefusal::Expired));
    assert_eq!(standing(|key| key.expires_at = Some(Timestamp(NOW.0 + 9))), Ok(Some(Timestamp(NOW.0 + 9))));
    // Exchanged, with a time of grace and then without.
    let mut exchanged = key(&Secret::generate(secret.id()).unwrap());
    exchanged.previous = Some(PreviousSecret { hash: secret.hash(), valid_until: at(60) });
    learn(&ring, vec![exchanged.clone()]);
    assert_eq!(ring.standing(&was, NOW), Ok(Some(at(60))));
    assert_eq!(ring.standing(&was, at(60)), Err(KeyRefusal::Expired));
    exchanged.previous = None;
    learn(&ring, vec![exchanged]);
    assert_eq!(ring.standing(&was, NOW), Err(KeyRefusal::Expired));
    ring.know(Keys::new());
    assert_eq!(ring.standing(&was, NOW), Err(KeyRefusal::Unknown));
}
