//! One mapping: both stores hold the same, and the schema has the same columns.

use crate::{
    harness::{Place, open_embedded},
    postgres::Cluster,
    records::{extremes, full, plain, unicode},
};
use mcpmeter_journal::{COLUMNS, CallFilter, Reader, Row, Value, migrate};
use mcpmeter_observer::CallRecord;
use std::collections::BTreeMap;

fn every_kind() -> Vec<Box<CallRecord>> {
    let mut records = vec![plain(1), full(2), unicode(3)];
    records.extend(extremes(4));
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn both_stores_give_back_what_was_recorded_column_by_column() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let embedded = open_embedded(&place.directory.path().join("embedded.db"));
    for record in every_kind() {
        running.journal.accept(record.clone());
        embedded.journal.accept(record);
    }
    running.close().await;
    tokio::task::block_in_place(|| embedded.writer.close()).unwrap();

    let all = CallFilter::default();
    let sqlite = Reader::sqlite(&place.directory.path().join("embedded.db")).unwrap();
    let sqlite = sqlite.calls(&all, None, 100).await.unwrap();
    let postgres = Reader::postgres(&place.url.parse().unwrap()).unwrap();
    let postgres = postgres.calls(&all, None, 100).await.unwrap();
    let live: BTreeMap<_, _> =
        every_kind().iter().map(|record| (record.id, Row::from_record(record))).collect();
    assert_eq!((sqlite.len(), postgres.len()), (live.len(), live.len()));
    for (from_sqlite, from_postgres) in sqlite.iter().zip(&postgres) {
        let live = &live[&from_sqlite.cursor().unwrap().id];
        for column in COLUMNS {
            let values = [live, from_sqlite, from_postgres].map(|row| row.get(column.name).unwrap());
            // jsonb keeps a document, not its spelling; the JSON below is equal all the same.
            if !matches!(values[0], Value::Json(_)) {
                assert_eq!([values[0]; 3], values, "{}", column.name);
            }
        }
        let [live, from_sqlite, from_postgres] =
            [live, from_sqlite, from_postgres].map(|row| serde_json::to_string(row).unwrap());
        assert_eq!(live, from_sqlite);
        assert_eq!(live, from_postgres);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_has_the_columns_of_the_mapping_in_their_order() {
    let place = Place::new(Cluster::shared());
    migrate(&place.url.parse().unwrap()).await.unwrap();
    let told = place.cluster.query(
        &place.url,
        "select column_name, data_type, is_nullable from information_schema.columns
         where table_schema = 'mcpmeter' and table_name = 'mcp_server_request_log' order by ordinal_position",
    );
    let mapping: Vec<_> = COLUMNS
        .iter()
        .map(|column| {
            let nullable = if column.nullable { "YES" } else { "NO" };
            format!("{}|{}|{nullable}", column.name, column.kind.postgres_name())
        })
        .collect();
    assert_eq!(told.lines().collect::<Vec<_>>(), mapping);
}

#[test]
fn every_field_of_a_record_lands_in_its_own_column() {
    // The tests above compare the mapping with itself; this one was written by hand.
    let expected = include_str!("full_record.json");
    assert_eq!(serde_json::to_string_pretty(&Row::from_record(&full(1))).unwrap(), expected.trim_end());
}
