//! Past calls: the same from both stores, page by page without a gap.

use crate::{
    harness::{Place, open_embedded},
    postgres::Cluster,
    records::{MARCH, full, plain},
};
use mcpmeter_journal::{CallFilter, Cursor, ReadError, Reader, Row};
use mcpmeter_observer::{CallRecord, Method, Status, Text, Timestamp};
use std::{collections::BTreeSet, path::Path};

/// Calls of three users, two instances and all statuses, of which some share their instant.
fn mixture() -> Vec<Box<CallRecord>> {
    (0..300)
        .map(|number| {
            let text = |of: u64| Some(Text::from(format!("{}", number % of)));
            let method = if number % 5 == 0 { Method::ToolsList } else { Method::ToolsCall };
            Box::new(CallRecord {
                created_at: Timestamp(MARCH.0 + i64::try_from(number / 7).unwrap()),
                user_id: text(3),
                organization_id: text(4),
                mcp_server_instance_id: text(2).unwrap(),
                tool_name: text(6),
                method,
                status: Status::ALL[number as usize % Status::ALL.len()],
                ..*full(number)
            })
        })
        .collect()
}

/// The mixture in both stores.
async fn both_stores(place: &Place) -> [Reader; 2] {
    let running = place.run();
    let file = place.directory.path().join("embedded.db");
    let embedded = open_embedded(&file);
    for record in mixture() {
        running.journal.accept(record.clone());
        embedded.journal.accept(record);
    }
    running.close().await;
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();
    [Reader::postgres(&place.url.parse().unwrap()).unwrap(), Reader::sqlite(&file).unwrap()]
}

/// What the filter beside it has to find.
type Wanted = Box<dyn Fn(&CallRecord) -> bool>;

fn filters() -> Vec<(CallFilter, Wanted)> {
    let is = |text: &str| Some(text.to_owned());
    let some = CallFilter::default;
    let at = |us| Timestamp(MARCH.0 + us);
    vec![
        (some(), Box::new(|_| true)),
        (CallFilter { user: is("1"), ..some() }, Box::new(|r| r.user_id.as_deref() == Some("1"))),
        (
            CallFilter { organization: is("3"), ..some() },
            Box::new(|r| r.organization_id.as_deref() == Some("3")),
        ),
        (CallFilter { instance: is("0"), ..some() }, Box::new(|r| &*r.mcp_server_instance_id == "0")),
        (CallFilter { tool: is("5"), ..some() }, Box::new(|r| r.tool_name.as_deref() == Some("5"))),
        (
            CallFilter { method: Some(Method::ToolsList), ..some() },
            Box::new(|r| r.method == Method::ToolsList),
        ),
        (
            CallFilter { status: vec![Status::Ok, Status::Denied], ..some() },
            Box::new(|r| matches!(r.status, Status::Ok | Status::Denied)),
        ),
        (CallFilter { errors_only: true, ..some() }, Box::new(|r| r.status.is_failure())),
        (
            CallFilter { errors_only: true, status: vec![Status::Ok, Status::Timeout], ..some() },
            Box::new(|r| r.status == Status::Timeout),
        ),
        (CallFilter { errors_only: true, status: vec![Status::Ok], ..some() }, Box::new(|_| false)),
        (
            CallFilter { since: Some(at(10)), until: Some(at(20)), ..some() },
            Box::new(|r| (MARCH.0 + 10..MARCH.0 + 20).contains(&r.created_at.0)),
        ),
        (
            CallFilter { user: is("2"), instance: is("1"), errors_only: true, since: Some(at(3)), ..some() },
            Box::new(|r| {
                r.user_id.as_deref() == Some("2")
                    && &*r.mcp_server_instance_id == "1"
                    && r.status.is_failure()
                    && r.created_at.0 >= MARCH.0 + 3
            }),
        ),
        (CallFilter { user: is("' or true --"), ..some() }, Box::new(|_| false)),
    ]
}

fn json(rows: &[Row]) -> String {
    serde_json::to_string(rows).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_finds_the_same_in_both_stores_and_nothing_else() {
    let place = Place::new(Cluster::shared());
    let [postgres, sqlite] = both_stores(&place).await;
    for (filter, wanted) in filters() {
        let mut expected: Vec<_> = mixture().into_iter().filter(|record| wanted(record)).collect();
        expected.sort_by_key(|record| std::cmp::Reverse((record.created_at, record.id)));
        let expected: Vec<_> = expected.iter().map(|record| Row::from_record(record)).collect();
        let from_postgres = postgres.calls(&filter, None, 1_000).await.unwrap();
        let from_sqlite = sqlite.calls(&filter, None, 1_000).await.unwrap();
        assert_eq!(json(&from_postgres), json(&expected), "{filter:?}");
        assert_eq!(json(&from_sqlite), json(&expected), "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_repeat_nor_miss_a_call_though_instants_are_shared() {
    let place = Place::new(Cluster::shared());
    for reader in both_stores(&place).await {
        for page in [1, 3, 50] {
            let (mut seen, mut before) = (BTreeSet::new(), None::<Cursor>);
            loop {
                let rows = reader.calls(&CallFilter::default(), before, page).await.unwrap();
                let Some(last) = rows.last() else { break };
                // As an API hands it out and takes it back.
                before = Some(last.cursor().unwrap().to_string().parse().unwrap());
                for row in &rows {
                    assert!(seen.insert(row.cursor().unwrap()), "twice: {row:?}");
                }
            }
            assert_eq!(seen.len(), 300);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_can_be_read_while_it_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("journal.db");
    let opened = open_embedded(&file);
    let reader = Reader::sqlite(&file).unwrap();
    for number in 0..50 {
        opened.journal.accept(plain(number));
        tokio::task::block_in_place(|| assert!(opened.writer.flush()));
        let rows = reader.calls(&CallFilter::default(), None, 1).await.unwrap();
        assert_eq!(json(&rows), json(&[Row::from_record(&plain(number))]));
    }
    tokio::task::block_in_place(|| opened.writer.close()).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_an_error_and_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("none.db");
    let error = Reader::sqlite(&file).map(drop).unwrap_err();
    assert!(matches!(error, ReadError::Sqlite { .. }));
    assert!(!Path::new(&file).exists());
}
