//! What was lost is told to PostgreSQL: when, how many, why.

use crate::{
    harness::{Place, eventually},
    postgres::Cluster,
};
use rusqlite::Connection;

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_told_to_postgresql_and_again_when_it_has_grown() {
    let place = Place::new(Cluster::shared());
    let running = place.run();
    let told =
        "select coalesce((select calls || ' ' || reason || ' ' || extract(epoch from to_at - from_at)::int
                from mcpmeter.mcp_log_gap), '') where to_regclass('mcpmeter.mcp_log_gap') is not null";
    eventually("PostgreSQL has its tables", || running.journal.health().postgres.unwrap().ok).await;
    let file = Connection::open(place.file()).unwrap();
    file.busy_timeout(crate::harness::PATIENCE).unwrap();
    file.execute_batch(
        "insert into mcp_log_gap (from_at, to_at, calls, reason) values (1000000, 3000000, 7, 'queue_full')",
    )
    .unwrap();
    eventually("the gap is there", || place.cluster.query(&place.url, told) == "7 queue_full 2").await;
    file.execute_batch("update mcp_log_gap set to_at = 5000000, calls = 9").unwrap();
    eventually("it has grown", || place.cluster.query(&place.url, told) == "9 queue_full 4").await;
    eventually("that is noted", || {
        file.query_row("select shipped from mcp_log_gap", [], |row| row.get::<_, i64>(0)).unwrap() == 9
    })
    .await;
    running.close().await;
    assert_eq!(place.count("select count(*) from mcpmeter.mcp_log_gap"), 1);
}
