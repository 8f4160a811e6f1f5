//! Randomness of a test: from `EVENT_ROUTER_SEED`, or from a fresh seed, which it prints.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator for this test. The output of a failing test shows the seed, and
/// `EVENT_ROUTER_SEED=SEED` repeats it.
pub fn random() -> StdRng {
    let given = std::env::var("EVENT_ROUTER_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("EVENT_ROUTER_SEED is a number"));
    println!("EVENT_ROUTER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// The number of rounds of a random test: `usual`, or `EVENT_ROUTER_EFFORT` times that.
pub fn rounds(usual: usize) -> usize {
    let effort = std::env::var("EVENT_ROUTER_EFFORT")
        .map_or(1, |text| text.parse().expect("EVENT_ROUTER_EFFORT is a number"));
    usual * effort
}

/// Prints what a test did and how often; `scripts/torture` adds it up.
pub fn tried(times: usize, what: &str) {
    println!("tried {times} {what}");
}
