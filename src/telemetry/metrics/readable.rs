//! Counters and gauges whose values can be read back, for numbers that are also shown elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use metrics::{Counter, Gauge};

/// A counter whose value can be read back. Clones count together.
#[derive(Clone)]
pub struct Total {
    counter: Counter,
    value: Arc<AtomicU64>,
}

impl Total {
    pub fn new(counter: Counter) -> Self {
        Total { counter, value: Arc::default() }
    }

    pub fn increment(&self, by: u64) {
        self.counter.increment(by);
        self.value.fetch_add(by, Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.value.load(Relaxed)
    }
}

/// A gauge whose value can be read back. Clones share the value.
#[derive(Clone)]
pub struct Reading {
    gauge: Gauge,
    /// The bits of an `f64`.
    value: Arc<AtomicU64>,
}

impl Reading {
    pub fn new(gauge: Gauge) -> Self {
        Reading { gauge, value: Arc::default() }
    }

    pub fn set(&self, value: f64) {
        self.gauge.set(value);
        self.value.store(value.to_bits(), Relaxed);
    }

    pub fn get(&self) -> f64 {
        f64::from_bits(self.value.load(Relaxed))
    }

    /// The value as a count; 0 if it is negative.
    pub fn count(&self) -> u64 {
        self.get() as u64
    }

    /// Returns true if the value is not 0.
    pub fn is_set(&self) -> bool {
        self.get() != 0.0
    }
}
