//! The ring under kills, damage and threads. A kill is a copy of the file: what another process would find.

use super::*;
use crate::{
    inscribe::{Sheet, Target, inscribe},
    lock::Noted,
    outbox, recover, sqlite,
};
use mcpmeter_observer::{CallId, Identity, Method, Timestamp};
use rusqlite::Connection;
use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt, thread};
use tempfile::TempDir;

fn record(number: u64, text: &str) -> CallRecord {
    let id = CallId(uuid::Uuid::from_u64_pair(number, 0));
    let identity = Identity { instance_id: text.into(), user_id: None, organization_id: None };
    CallRecord::begin(id, Timestamp(0), Method::ToolsCall, &identity)
}

fn number(record: &[u8]) -> u64 {
    outbox::decode(FORMAT.into(), record).unwrap().id.0.as_u64_pair().0
}

/// A directory with a ring and a SQLite file.
struct Bench {
    directory: TempDir,
    connection: Connection,
}

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let connection = sqlite::open_writer(&directory.path().join("journal.db")).unwrap();
        connection.pragma_update(None, "synchronous", "off").unwrap();
        Self { directory, connection }
    }

    fn ring(&self, segments: usize) -> (PathBuf, Made) {
        let plan = Plan::new(segments * SEGMENT_BYTES, self.directory.path());
        let path = plan.file();
        let made = plan.make().unwrap();
        assert_eq!(made.drain.file(), Some(&*path));
        (path, made)
    }

    /// What the outbox holds, in its order.
    fn outbox(&self) -> Vec<u64> {
        let mut select = self.connection.prepare("select record from outbox order by seq").unwrap();
        let rows = select.query_map([], |row| Ok(number(row.get_ref(0)?.as_blob()?))).unwrap();
        rows.collect::<Result<_, _>>().unwrap()
    }

    fn recover(&mut self, path: &Path) -> recover::Recovered {
        let noted = [Noted::made(path.to_owned())];
        let recovered = recover::recover(&mut self.connection, &noted, Target::Outbox).unwrap();
        recover::delete(&recovered.emptied);
        recovered
    }
}

/// A further thread's view of the ring.
fn another(ring: &Ring) -> Ring {
    Ring { memory: Arc::clone(&ring.memory), header: ring.header, held: ThreadLocal::new() }
}

/// Writes what is pending and commits, or not.
fn write(bench: &mut Bench, drain: &mut Drain, ranges: &[Range], commit: bool) {
    let transaction = bench.connection.transaction().unwrap();
    for range in ranges {
        inscribe(&transaction, Target::Outbox, FORMAT, drain.frames(range), &Sheet::default()).unwrap();
        drain.note(&transaction, range).unwrap();
    }
    if commit {
        transaction.commit().unwrap();
    }
}

#[test]
fn a_segment_cut_at_any_byte_gives_exactly_the_records_wholly_before_the_cut() {
    let bench = Bench::new();
    let (path, made) = bench.ring(4);
    let mut ends = vec![memory::SEGMENT_HEAD];
    while made.ring.memory.segments_in_use() < 2 {
        made.ring.put(&record(ends.len() as u64 - 1, "some instance")).unwrap();
        ends.push(made.drain.committed(0));
    }
    // The last one went into the next segment.
    ends.pop();
    let whole = fs::read(&path).unwrap();
    let segment = &whole[memory::HEADER_BYTES..][..SEGMENT_BYTES];
    let damaged = bench.directory.path().join("damaged");
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&damaged).unwrap();
    file.write_all_at(&whole[..memory::HEADER_BYTES], 0).unwrap();
    // Every byte at the frames' edges and heads, and in the first records; then every 7th.
    for cut in (0..SEGMENT_BYTES).filter(|cut| cut % 7 == 0 || *cut < 1_000 || *cut > SEGMENT_BYTES - 500) {
        let wholly_before = |cut| match cut {
            0..memory::SEGMENT_HEAD => 0,
            cut => ends.iter().filter(|end| **end <= cut).count() - 1,
        };
        // Where zeros were already, zeroing is no damage.
        let next_set = segment[cut..].iter().position(|byte| *byte != 0).map_or(SEGMENT_BYTES, |at| cut + at);
        let zeroed = [&segment[..cut], &vec![0; SEGMENT_BYTES - cut]].concat();
        let mut flipped = segment.to_vec();
        flipped[cut..].iter_mut().for_each(|byte| *byte ^= 0xff);
        let mut one_bit = segment.to_vec();
        one_bit[cut] ^= 1 << (cut % 8);
        for (kind, bytes) in [
            ("truncated", &segment[..cut]),
            ("zeroed", &zeroed),
            ("flipped", &flipped),
            ("one bit", &one_bit),
        ] {
            file.set_len(memory::HEADER_BYTES as u64).unwrap();
            file.write_all_at(bytes, memory::HEADER_BYTES as u64).unwrap();
            let left = LeftRing::open(&damaged).unwrap().unwrap();
            let remains = left.remains(0, &Default::default()).unwrap();
            let found: Vec<_> = remains.iter().flat_map(|remains| remains.frames().map(number)).collect();
            // A bit of the state alone may hide records, and never adds any.
            if kind == "one bit" && cut < memory::SEGMENT_HEAD {
                assert!(found.len() < ends.len());
            } else {
                let cut = if kind == "zeroed" { next_set } else { cut };
                assert_eq!(found.len(), wholly_before(cut), "{kind} at {cut}");
            }
            assert!(found.iter().copied().eq(0..found.len() as u64), "{kind} at {cut}: {found:?}");
        }
    }
}

#[test]
fn neither_bytes_that_a_user_chose_nor_an_earlier_life_pass_for_a_frame() {
    let mut bench = Bench::new();
    let (path, Made { ring, mut drain }) = bench.ring(4);
    let hidden = record(666, "x");
    let mut forged = [0; 512];
    // Even somebody who knew the format could only guess the seed.
    let length = frame::write(&hidden, Seed::new(0, 0, 1), &mut forged).unwrap();
    let text: String = forged[..length].iter().map(|byte| char::from(byte & 0x7f)).collect();
    for life in 0..3 {
        while ring.memory.segments_in_use() < 2 {
            ring.put(&record(life, &text)).unwrap();
        }
        let ranges = drain.pending();
        write(&mut bench, &mut drain, &ranges, true);
        ranges.iter().for_each(|range| drain.settle(range));
        // Segment 0 is free and is used next.
        ring.held.get().unwrap().borrow_mut().take().unwrap().segment.seal();
        assert!(drain.pending().is_empty());
        assert_eq!(ring.memory.segments_in_use(), 0);
    }
    let before = bench.outbox().len();
    ring.put(&record(9, "the only one of this life")).unwrap();
    // All bytes of the segment are said to be committed, those of the earlier lives too.
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let state = state::State { generation: 4, sealed: false, committed: SEGMENT_BYTES };
    file.write_all_at(&state.word().to_le_bytes(), memory::HEADER_BYTES as u64).unwrap();
    drop((ring, drain));
    let recovered = bench.recover(&path);
    assert_eq!(recovered.records, 1);
    assert!(recovered.damaged > 0);
    assert_eq!(bench.outbox()[before..], [9]);
}

/// One random life of a process: producers, a writer, and a kill. It begins with a new ring, or goes on with the one
/// that is there.
fn live_and_die(
    bench: &mut Bench,
    left: Option<PathBuf>,
    next: &mut u64,
    accepted: &mut BTreeSet<u64>,
    random: &mut fastrand::Rng,
) -> PathBuf {
    let (path, Made { ring, mut drain }) = match left {
        None => bench.ring(random.usize(4..9)),
        Some(path) => {
            let mut made = take_over(&path).unwrap();
            // New records may come before SQLite has been asked.
            let early = made.ring.put(&record(*next, "early")).is_ok().then_some(*next);
            *next += 1;
            let known = made.drain.known(&bench.connection).unwrap();
            let found = made.drain.resume(&known) as usize;
            assert_eq!(found, accepted.len() - bench.outbox().len(), "the new one is not from before");
            accepted.extend(early);
            (path, made)
        }
    };
    let producers: Vec<_> = (0..random.usize(1..4)).map(|_| another(&ring)).collect();
    let text = "x".repeat(random.usize(0..3_000));
    for _ in 0..random.usize(0..40) {
        for _ in 0..random.usize(0..120) {
            let producer = &producers[random.usize(..producers.len())];
            if producer.put(&record(*next, &text[..random.usize(..=text.len())])).is_ok() {
                accepted.insert(*next);
            }
            *next += 1;
        }
        let mut ranges = drain.pending();
        ranges.truncate(random.usize(..=ranges.len()));
        match random.u8(..10) {
            // Killed before COMMIT, and (in a life that goes on) a disk that refuses.
            0 => write(bench, &mut drain, &ranges, false),
            // Killed between COMMIT and the freeing of segments.
            1 => {
                write(bench, &mut drain, &ranges, true);
                break;
            }
            _ => {
                write(bench, &mut drain, &ranges, true);
                ranges.iter().for_each(|range| drain.settle(range));
            }
        }
    }
    drop((ring, producers, drain));
    path
}

#[test]
fn whatever_is_killed_when_every_accepted_record_is_found_once() {
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut bench, mut next, mut accepted) = (Bench::new(), 0, BTreeSet::new());
        for _ in 0..4 {
            let mut path = live_and_die(&mut bench, None, &mut next, &mut accepted, &mut random);
            // Lives that begin while the disk takes nothing.
            for _ in 0..random.u8(..3) {
                path = live_and_die(&mut bench, Some(path), &mut next, &mut accepted, &mut random);
            }
            let found = fs::read(&path).unwrap();
            bench.recover(&path);
            assert!(!path.exists());
            // Killed between the recovery's COMMIT and the deletion: nothing is found twice.
            fs::write(&path, found).unwrap();
            assert_eq!(bench.recover(&path).records, 0);
            let found = bench.outbox();
            assert_eq!(found.len(), accepted.len(), "seed {seed}");
            assert!(found.into_iter().collect::<BTreeSet<_>>() == accepted, "seed {seed}");
        }
    }
}

#[test]
fn a_ring_that_is_shut_takes_nothing_more_from_anybody_and_keeps_what_it_has() {
    let (memory, consumer) = Consumer::of(Memory::anonymous(64).unwrap());
    let header = Header::new(FORMAT, 64);
    let ring = Ring { memory, header, held: ThreadLocal::new() };
    let mut drain = Drain::new(consumer, header, None);
    let ledger = Ledger::new(false);
    // Some are in the middle of a segment, some take one just then, some come afterwards.
    thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (ring, ledger) = (&ring, &ledger);
            scope.spawn(move || {
                let mut number = thread << 32;
                while ledger.lost(LossReason::Closed) < 100 {
                    ring.accept(&record(number, &"x".repeat(3_000)), ledger);
                    number += 1;
                }
            });
        }
        while ledger.lost(LossReason::QueueFull) == 0 && ledger.snapshot().finished < 300 {
            thread::yield_now();
        }
        drain.shut();
        let count = |drain: &mut Drain| {
            drain.pending().iter().map(|range| drain.frames(range).count() as u64).sum::<u64>()
        };
        let taken = count(&mut drain);
        while ledger.lost(LossReason::Closed) < 100 {
            thread::yield_now();
        }
        assert_eq!(count(&mut drain), taken, "nothing has come in");
        let ranges = drain.pending();
        ranges.iter().for_each(|range| drain.settle(range));
        assert!(drain.pending().is_empty());
        ring.accept(&record(1, "late"), &ledger);
        assert!(drain.pending().is_empty(), "a segment that is written down is not taken again");
        ledger.count_written(taken, 0);
    });
    let accounts = ledger.snapshot();
    assert_eq!((accounts.queued, accounts.balance()), (0, true), "{accounts:?}");
}

#[test]
fn only_a_whole_ring_of_our_own_making_is_gone_on_with() {
    let bench = Bench::new();
    let (path, made) = bench.ring(4);
    assert!(matches!(take_over(&path), Err(RingFileError::InUse)));
    made.ring.put(&record(1, "x")).unwrap();
    drop(made);
    let whole = fs::read(&path).unwrap();
    for cut in [0, 100, memory::HEADER_BYTES, whole.len() - 1] {
        fs::write(&path, &whole[..cut]).unwrap();
        assert!(take_over(&path).is_err(), "{cut} bytes: to touch what is missing would be fatal");
    }
    let other = Header::new(FORMAT + 1, 4);
    fs::remove_file(&path).unwrap();
    drop(file::create(&path, other).unwrap());
    assert!(matches!(take_over(&path), Err(RingFileError::BadHeader)));
    fs::write(&path, &whole).unwrap();
    assert!(take_over(&path).is_ok());
}

#[test]
fn eight_threads_and_a_writer_lose_nothing_and_keep_each_threads_order() {
    const THREADS: u64 = 8;
    const CALLS: u64 = 20_000;
    let (memory, consumer) = Consumer::of(Memory::anonymous(64).unwrap());
    let header = Header::new(FORMAT, 64);
    let ring = Ring { memory, header, held: ThreadLocal::new() };
    let mut drain = Drain::new(consumer, header, None);
    let ledger = Ledger::new(false);
    let mut seen = vec![0_u64; 0];
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (ring, ledger) = (&ring, &ledger);
            scope.spawn(move || {
                for call in 0..CALLS {
                    // A full ring is waited for here; a request would go on.
                    while ring.put(&record(thread * CALLS + call, "instance")).is_err() {
                        thread::yield_now();
                    }
                    ledger.count_finished();
                }
            });
        }
        while seen.len() < (THREADS * CALLS) as usize {
            for range in drain.pending() {
                let mut frames = drain.frames(&range);
                seen.extend(frames.by_ref().map(number));
                assert_eq!(frames.count_damaged(), 0);
                drain.settle(&range);
            }
        }
    });
    assert!(drain.pending().is_empty());
    let different: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!((seen.len() as u64, different.len() as u64), (THREADS * CALLS, THREADS * CALLS));
}

#[test]
fn a_record_larger_than_a_segment_is_lost_and_counted_and_harms_no_other() {
    let (memory, consumer) = Consumer::of(Memory::anonymous(4).unwrap());
    let header = Header::new(FORMAT, 4);
    let ring = Ring { memory, header, held: ThreadLocal::new() };
    let mut drain = Drain::new(consumer, header, None);
    let ledger = Ledger::new(false);
    for (number, bytes) in [(0, 10), (1, SEGMENT_BYTES), (2, 20_000_000), (3, 30_000), (4, 10)] {
        ring.accept(&record(number, &"x".repeat(bytes)), &ledger);
    }
    let found: BTreeSet<_> = drain
        .pending()
        .iter()
        .flat_map(|range| drain.frames(range).map(number).collect::<Vec<_>>())
        .collect();
    assert_eq!(found, BTreeSet::from([0, 3, 4]));
    let accounts = ledger.snapshot();
    assert_eq!((accounts.finished, accounts.queued, accounts.lost(LossReason::Oversize)), (5, 3, 2));
}
