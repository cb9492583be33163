//! Calls that no database likes, and one that PostgreSQL will never take: the calls around them are stored.

use crate::world::World;

/// What the server is asked to answer with: NULs, half a character, a message of 20 MB.
const ANSWERS: [&str; 4] = ["nul", "raw nul", "surrogate", "20 MB"];
/// Tools as the caller spells them in JSON.
const TOOLS: [&str; 5] = [r"a\u0000b", "a\0b", r"a\ud800b", "", "🦀"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisonous_texts_are_stored_like_any_other() {
    let mut world = World::new("").await;
    world.program.start();
    let traffic = world.traffic();
    let mut caller = world.caller().await;
    for answer in ANSWERS {
        caller.call(&world.notes, answer).await.expect("an answer");
    }
    let long = "long".repeat(250_000);
    for tool in TOOLS.into_iter().chain([long.as_str()]) {
        let number = world.notes.number();
        caller.call_tool(&world.notes, number, tool, "").await.expect("an answer");
    }
    world.hear(50).await;
    let verdict = world.judge(Some(traffic)).await;
    verdict.assert_complete();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_postgresql_will_never_take_is_set_aside_alone_and_accounted_for() {
    let mut world = World::new("").await;
    world.program.start();
    world.until_connected().await;
    world.cluster.query(&world.url, REFUSAL);
    let traffic = world.traffic();
    let mut caller = world.caller().await;
    for _ in 0..3 {
        world.hear(50).await;
        let number = world.notes.number();
        caller.call_tool(&world.notes, number, "poison", "").await.expect("an answer");
    }
    let verdict = world.judge(Some(traffic)).await;
    assert_eq!(verdict.missing.len(), 3, "{verdict:?}");
    verdict.assert_accounted(&["quarantined"]);
}

/// A table that refuses a tool as if its name could not be a text.
const REFUSAL: &str = "
    create function public.refuse() returns trigger language plpgsql as $$
    begin
      if new.tool_name = 'poison' then
        raise exception 'no such text' using errcode = '22021';
      end if;
      return new;
    end $$;
    create trigger refuse before insert on mcpmeter.mcp_server_request_log
      for each row execute function public.refuse();";
