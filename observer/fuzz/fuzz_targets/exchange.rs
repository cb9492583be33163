//! Exchanges and what ties them together, as a sequence of operations of four bytes each: what, on which of four
//! exchanges, and two parameters. After it everything is closed, and the books are checked: every call that was asked
//! is exactly one record, and nothing else is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mcpmeter_observer_fuzz::world::World;

fuzz_target!(|input: &[u8]| {
    let mut world = World::new();
    for operation in input.chunks_exact(4).take(200) {
        let [what, slot, a, b] = operation else { return };
        world.step(*what, usize::from(*slot) % 4, *a, *b);
    }
    world.close();
});
