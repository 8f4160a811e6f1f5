//! The lease against a simulated store and several nodes: answers are lost, late or missing, writes
//! are applied late, and nodes stop for any time.

use std::collections::VecDeque;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;

const TIMES: LeaseTimes = LeaseTimes {
    renew_every: ms(1_000),
    look_every: ms(200),
    act_for: ms(3_000),
    take_over_after: ms(6_000),
};
/// Longest time for an answer of a healthy store.
const ANSWER_MAX_MS: u64 = 50;
const STEP_MS: u64 = 10;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

struct Node {
    lease: LeaseEngine,
    paused_until: u64,
    is_dead: bool,
    /// Answers on their way, each with the time of its arrival.
    answers: VecDeque<(u64, LeaseInput)>,
    actions: Vec<LeaseAction>,
    acquired_at: Vec<u64>,
    released_at: Vec<u64>,
    deposed: usize,
}

#[derive(Default)]
struct World {
    now: u64,
    revision: u64,
    state: Option<LeaseState>,
    /// All states that the record had.
    history: Vec<LeaseState>,
    /// Writes on their way: time of arrival, node, time of the answer if it arrives.
    writes: Vec<(u64, usize, LeaseWrite, Option<u64>)>,
    nodes: Vec<Node>,
}

impl World {
    fn new(nodes: usize) -> Self {
        let node = |n: usize| Node {
            lease: LeaseEngine::new(holder(n), TIMES),
            paused_until: 0,
            is_dead: false,
            answers: VecDeque::new(),
            actions: Vec::new(),
            acquired_at: Vec::new(),
            released_at: Vec::new(),
            deposed: 0,
        };
        World { nodes: (0..nodes).map(node).collect(), ..World::default() }
    }

    /// The nodes that act.
    fn acting(&self) -> Vec<usize> {
        let acts = |node: &Node| {
            !node.is_dead
                && node.paused_until <= self.now
                && node.lease.until().is_some_and(|until| ms(self.now) < until)
        };
        (0..self.nodes.len()).filter(|n| acts(&self.nodes[*n])).collect()
    }

    fn want(&mut self, n: usize, is_wanted: bool) {
        let node = &mut self.nodes[n];
        node.lease.step(ms(self.now), LeaseInput::Want(is_wanted), &mut node.actions);
    }

    /// One step of time. `trouble`: the share of requests whose answer is lost or late.
    fn step(&mut self, random: &mut StdRng, trouble: f64) {
        self.now += STEP_MS;
        let (arrived, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.writes).into_iter().partition(|(at, ..)| *at <= self.now);
        self.writes = later;
        for (_, n, write, answer_at) in arrived {
            let is_next = write.replaces == self.revision;
            if is_next {
                self.revision += 1;
                self.state = Some(write.state.clone());
                self.history.push(write.state);
            }
            let outcome = if is_next { LeaseWritten::Accepted(self.revision) } else { LeaseWritten::Refused };
            if let Some(at) = answer_at {
                self.nodes[n].answers.push_back((at, LeaseInput::Written(outcome)));
            }
        }
        for n in 0..self.nodes.len() {
            if self.nodes[n].is_dead || self.nodes[n].paused_until > self.now {
                continue;
            }
            self.run_node(n, random, trouble);
        }
    }

    fn run_node(&mut self, n: usize, random: &mut StdRng, trouble: f64) {
        let now = self.now;
        let node = &mut self.nodes[n];
        let mut inputs = vec![LeaseInput::Tick];
        node.answers.retain(|(at, input)| {
            if *at <= now {
                inputs.insert(0, input.clone());
            }
            *at > now
        });
        for input in inputs {
            node.lease.step(ms(now), input, &mut node.actions);
        }
        for action in std::mem::take(&mut self.nodes[n].actions) {
            self.act(n, action, random, trouble);
        }
    }

    fn act(&mut self, n: usize, action: LeaseAction, random: &mut StdRng, trouble: f64) {
        let now = self.now;
        let in_trouble = random.random_bool(trouble);
        let there = now + random.random_range(0..ANSWER_MAX_MS / 2);
        let back = there + random.random_range(0..ANSWER_MAX_MS / 2);
        let gave_up = now + 1_000;
        match action {
            LeaseAction::Read => {
                let found = LeaseRead { revision: self.revision, state: self.state.clone() };
                let answer = if in_trouble { (gave_up, None) } else { (back, Some(found)) };
                self.nodes[n].answers.push_back((answer.0, LeaseInput::Read(answer.1)));
            }
            LeaseAction::Write(write) if in_trouble => {
                // Applied at once, much later or never, and without an answer.
                self.nodes[n].answers.push_back((gave_up, LeaseInput::Written(LeaseWritten::Unknown)));
                match random.random_range(0..3) {
                    0 => self.writes.push((there, n, write, None)),
                    1 => self.writes.push((now + random.random_range(0..9_000), n, write, None)),
                    _ => {}
                }
            }
            LeaseAction::Write(write) => self.writes.push((there, n, write, Some(back))),
            LeaseAction::Acquired => {
                assert!(self.has_written(n, None), "an acquisition without its write");
                self.nodes[n].acquired_at.push(now);
            }
            LeaseAction::Kept(counter) => {
                assert!(self.has_written(n, Some(counter)), "a write that is not there")
            }
            LeaseAction::Released => self.nodes[n].released_at.push(now),
            LeaseAction::Deposed { .. } => self.nodes[n].deposed += 1,
        }
    }

    fn has_written(&self, n: usize, counter: Option<u64>) -> bool {
        self.history.iter().any(|state| {
            state.owner.as_ref() == Some(&holder(n)) && counter.is_none_or(|counter| counter == state.counter)
        })
    }

    fn run_until(&mut self, until: u64, random: &mut StdRng) {
        while self.now < until {
            self.step(random, 0.0);
        }
    }
}

fn holder(n: usize) -> LeaseHolder {
    LeaseHolder { node: format!("node-{n}"), incarnation: Uuid::from_u128(n as u128) }
}

#[test]
fn two_nodes_never_act_at_the_same_time() {
    let (mut take_overs, mut depositions) = (0, 0);
    for seed in 0..200 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(3);
        while world.now < 60_000 {
            world.step(&mut random, 0.2);
            if random.random_bool(0.002) {
                let n = random.random_range(0..3);
                world.nodes[n].paused_until = world.now + random.random_range(0..12_000);
            }
            if random.random_bool(0.001) {
                let n = random.random_range(0..3);
                let is_wanted = random.random_bool(0.7);
                world.want(n, is_wanted);
            }
            let acting = world.acting();
            assert!(acting.len() <= 1, "seed {seed} at {} ms: {acting:?} act", world.now);
        }
        take_overs += world.nodes.iter().map(|node| node.acquired_at.len()).sum::<usize>();
        depositions += world.nodes.iter().map(|node| node.deposed).sum::<usize>();
        // When all is well again, one node acts.
        world.nodes.iter_mut().for_each(|node| node.paused_until = 0);
        (0..3).for_each(|n| world.want(n, true));
        let until = world.now + 20_000;
        world.run_until(until, &mut random);
        assert_eq!(world.acting().len(), 1, "seed {seed}");
    }
    assert!(take_overs > 400 && depositions > 100, "{take_overs} take-overs, {depositions} depositions");
}

#[test]
fn the_lease_of_a_dead_owner_is_taken_over_within_the_bound() {
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(2);
        let death = 5_000 + random.random_range(0..1_000);
        world.run_until(death, &mut random);
        let [owner] = world.acting()[..] else { panic!("seed {seed}: no owner") };
        world.nodes[owner].is_dead = true;
        world.run_until(death + 8_000, &mut random);
        let other = &world.nodes[1 - owner];
        let at = *other.acquired_at.first().expect("it takes over");
        assert!((death + 5_000..=death + 6_500).contains(&at), "seed {seed}: {} ms", at - death);
        assert_eq!(world.acting(), [1 - owner], "seed {seed}");
    }
}

#[test]
fn a_released_lease_changes_hands_at_once() {
    for seed in 0..100 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut world = World::new(2);
        let at = 5_000 + random.random_range(0..1_000);
        world.run_until(at, &mut random);
        let [owner] = world.acting()[..] else { panic!("seed {seed}: no owner") };
        world.want(owner, false);
        assert!(world.acting().is_empty(), "it has finished its work");
        world.run_until(at + 1_000, &mut random);
        assert_eq!(world.acting(), [1 - owner], "seed {seed}");
        assert!(!world.nodes[owner].released_at.is_empty() && world.nodes[owner].deposed == 0);
        let taken = world.nodes[1 - owner].acquired_at[0] - at;
        assert!(taken <= 400, "seed {seed}: {taken} ms");
    }
}

#[test]
fn an_owner_that_wakes_up_does_not_act_and_is_deposed() {
    let mut random = StdRng::seed_from_u64(1);
    let mut world = World::new(2);
    world.run_until(5_000, &mut random);
    let [owner] = world.acting()[..] else { panic!("no owner") };
    world.nodes[owner].paused_until = 15_000;
    world.run_until(15_000 - STEP_MS, &mut random);
    assert_eq!(world.acting(), [1 - owner]);
    world.run_until(16_000, &mut random);
    assert_eq!((world.acting(), world.nodes[owner].deposed), (vec![1 - owner], 1));
}

#[test]
fn a_store_that_forgot_the_newest_records_deposes_the_owner() {
    let mut random = StdRng::seed_from_u64(1);
    let mut world = World::new(2);
    world.run_until(5_000, &mut random);
    let [owner] = world.acting()[..] else { panic!("no owner") };
    world.revision -= 3;
    world.run_until(14_000, &mut random);
    assert_eq!(world.nodes[owner].deposed, 1);
    assert_eq!(world.acting().len(), 1, "somebody goes on");
}
