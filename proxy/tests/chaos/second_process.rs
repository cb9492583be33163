//! Two programs on one folder: the second refuses at once and says why; the first does not notice.

use crate::{rounds, world::World};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_program_on_the_same_folder_refuses_and_does_no_harm() {
    let mut world = World::new("").await;
    world.program.start();
    let traffic = world.traffic();
    for _ in 0..rounds(3) {
        world.hear(50).await;
        let second = world.program.run(&["serve"]);
        let said = String::from_utf8_lossy(&second.stderr).into_owned();
        assert_eq!(second.status.code(), Some(1), "{said}");
        assert!(said.contains("outbox.db is in use by another mcpmeter"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
    world.judge(Some(traffic)).await.assert_complete();
}
