//! Where the chance of a test comes from: `EVENT_ROUTER_SEED`, or else a seed of its own, which it prints.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// A generator for this test. A failing test's output has the seed; `EVENT_ROUTER_SEED=SEED` draws the same again.
pub fn random() -> StdRng {
    let given = std::env::var("EVENT_ROUTER_SEED").ok();
    let seed = given.map_or_else(rand::random, |text| text.parse().expect("EVENT_ROUTER_SEED is a number"));
    println!("EVENT_ROUTER_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// How often a test that draws from a seed does so: `usual`, or `EVENT_ROUTER_EFFORT` times that.
pub fn rounds(usual: usize) -> usize {
    let effort = std::env::var("EVENT_ROUTER_EFFORT")
        .map_or(1, |text| text.parse().expect("EVENT_ROUTER_EFFORT is a number"));
    usual * effort
}

/// Says what a test did and how often, for `scripts/torture` to add up.
pub fn tried(times: usize, what: &str) {
    println!("tried {times} {what}");
}
