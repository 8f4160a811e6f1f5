//! The state of every processor's registry, for `/readyz`. The core thread writes it.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

/// The state of the functions or rules of one processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegistryState {
    /// Events go to the destinations that want them.
    Live,
    /// The functions or rules are not known yet.
    Unknown,
    /// They are known, and events that waited for them are being moved.
    Moving,
}

/// The states by processor index.
#[derive(Debug)]
pub struct Registries(Box<[AtomicU8]>);

impl Registries {
    /// All processors are live.
    pub fn new(processors: usize) -> Self {
        Registries((0..processors).map(|_| AtomicU8::new(RegistryState::Live as u8)).collect())
    }

    pub fn set(&self, processor: usize, state: RegistryState) {
        self.0[processor].store(state as u8, Relaxed);
    }

    pub fn get(&self, processor: usize) -> RegistryState {
        let Some(state) = self.0.get(processor) else { return RegistryState::Live };
        let state = state.load(Relaxed);
        let all = [RegistryState::Live, RegistryState::Unknown, RegistryState::Moving];
        all.into_iter().find(|one| *one as u8 == state).unwrap_or(RegistryState::Live)
    }
}
