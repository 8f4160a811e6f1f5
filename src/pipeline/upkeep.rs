//! Upkeep of the dead letters: shows how full they are, warns in time, and removes old ones.
//!
//! ```text
//!  every second ─► a job of the storage thread: remove some old letters, measure
//!                     └─► DeadLettersKept ─► core thread: gauges, counters, warnings
//! ```
//!
//! One upkeep is in flight at a time. It removes a bounded number of letters, so that other writes
//! do not wait for long. The next one follows at once if there are more.

use std::collections::BTreeMap;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

use super::control::{Control, ControlSender};
use super::driver::now_us;
use super::observe::Observations;
use super::storage::StoreHandle;
use crate::limits::{DEAD_LETTER_CALM_PERCENT, DEAD_LETTER_WARN_PERCENT, DEAD_LETTERS_EXPIRED_MAX};
use crate::state::{DeadLetterUsage, Storage, Store, StoreError, shown_destination};
use crate::telemetry::metrics::{self as names, DestinationMetrics};
use crate::telemetry::paced::Paced;

/// The fill levels of the dead letters, and the removal of old ones.
pub(super) struct DeadLetterUpkeep {
    /// Limit of all dead letters.
    bytes_max: u64,
    /// Age at which a letter is removed; `None` keeps all.
    max_age: Option<Duration>,
    usage: DeadLetterUsage,
    /// Number of destinations that share the store.
    destinations: usize,
    levels: BTreeMap<String, DestinationLevel>,
    all_bytes: Gauge,
    all_limit: Gauge,
    observations: Observations,
    /// True while a job is with the store.
    is_busy: bool,
    /// Letters that this sweep has removed so far.
    removed: u64,
    damage_told: Paced,
}

/// The level of one destination.
struct DestinationLevel {
    bytes: Gauge,
    limit: Gauge,
    expired: Counter,
    alarm: FillAlarm,
}

/// Decides when a fill level is worth a warning: once when it becomes high, and again only after it
/// was low.
#[derive(Debug, Default)]
struct FillAlarm {
    is_raised: bool,
}

impl FillAlarm {
    /// Returns true if a warning is due at `used` of `limit` bytes.
    fn step(&mut self, used: u64, limit: u64) -> bool {
        let is_above = |percent: u64| u128::from(used) * 100 >= u128::from(limit) * u128::from(percent);
        let was_raised = self.is_raised;
        self.is_raised = used > 0
            && is_above(if was_raised { DEAD_LETTER_CALM_PERCENT } else { DEAD_LETTER_WARN_PERCENT });
        self.is_raised && !was_raised
    }
}

/// The result of one upkeep.
pub(super) struct DeadLettersKept {
    /// `None` if nothing has changed since the last upkeep.
    usage: Option<DeadLetterUsage>,
    /// Number of removed letters by destination, or the damage that prevents the removal.
    expired: Result<BTreeMap<String, u64>, String>,
}

impl DeadLetterUpkeep {
    /// `usage`: the letters that former runs left. `names`: the destinations that are known so far.
    pub fn new<'a>(
        bytes_max: u64,
        max_age: Option<Duration>,
        usage: DeadLetterUsage,
        observations: Observations,
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut upkeep = DeadLetterUpkeep {
            bytes_max,
            max_age,
            usage,
            destinations: 0,
            levels: BTreeMap::new(),
            all_bytes: gauge!(names::DEAD_LETTER_BYTES),
            all_limit: gauge!(names::DEAD_LETTER_LIMIT),
            observations,
            is_busy: false,
            removed: 0,
            damage_told: Paced::default(),
        };
        names.for_each(|destination| upkeep.add(destination));
        upkeep.show();
        upkeep
    }

    /// Shows a destination from now on, even if it has no dead letters.
    pub fn add(&mut self, destination: &str) {
        if !self.levels.contains_key(destination) {
            // Every metric of a destination is there from the start, before its first event.
            DestinationMetrics::new(shown_destination(destination));
            let level = DestinationLevel::new(destination);
            level.show(destination, &self.usage, self.bytes_max, self.destinations);
            self.levels.insert(destination.to_owned(), level);
        }
    }

    /// Changes the limits.
    pub fn set_limits(&mut self, bytes_max: u64, max_age: Option<Duration>) {
        (self.bytes_max, self.max_age) = (bytes_max, max_age);
        self.show();
    }

    /// Begins the next upkeep unless one is in flight.
    pub fn begin(&mut self, store: &StoreHandle<Store>, control: &ControlSender) {
        if std::mem::replace(&mut self.is_busy, true) {
            return;
        }
        let (control, known) = (control.clone(), self.usage.changes);
        let before_us = self.max_age.map(|age| now_us().saturating_sub_unsigned(age.as_micros() as u64));
        store.with(move |store| {
            let expired = before_us.map_or(Ok(BTreeMap::new()), |before_us| {
                store.expire_dead_letters(before_us, DEAD_LETTERS_EXPIRED_MAX)
            });
            let expired = match expired {
                // A damaged letter stays where it is and ends nothing.
                Err(error @ StoreError::Damaged { .. }) => Err(error.to_string()),
                other => Ok(other?),
            };
            let usage = store.dead_letter_usage();
            let usage = (usage.changes != known).then(|| usage.clone());
            control.send(Control::DeadLettersKept(Box::new(DeadLettersKept { usage, expired })));
            Ok(())
        });
    }

    /// Ends an upkeep. `destinations`: number of destinations that share the store now. Returns
    /// true if more letters are to be removed.
    pub fn end(&mut self, kept: DeadLettersKept, destinations: usize) -> bool {
        self.is_busy = false;
        let DeadLettersKept { usage, expired } = kept;
        if usage.is_some() || destinations != self.destinations {
            self.usage = usage.unwrap_or_else(|| std::mem::take(&mut self.usage));
            self.destinations = destinations;
            self.show();
        }
        match expired {
            Ok(expired) => self.count(&expired),
            Err(damage) => {
                if self.damage_told.is_due() {
                    tracing::error!(reason = damage, "old dead letters cannot be removed");
                }
                false
            }
        }
    }

    /// Writes the gauges, and the warnings that are due.
    fn show(&mut self) {
        let unknown: Vec<String> = self
            .usage
            .by_destination
            .keys()
            .filter(|name| !self.levels.contains_key(*name))
            .cloned()
            .collect();
        unknown.iter().for_each(|destination| self.add(destination));
        self.observations.set_dead_letters(&self.usage, self.bytes_max);
        self.all_bytes.set(self.usage.bytes as f64);
        self.all_limit.set(self.bytes_max as f64);
        for (destination, level) in &mut self.levels {
            let (used, limit) = level.show(destination, &self.usage, self.bytes_max, self.destinations);
            if level.alarm.step(used, limit) {
                let hint = "look at them with `event-router dlq list`, then replay or drop some with `event-router dlq`, or raise `deadLetters.bytesMax`";
                tracing::warn!(
                    destination = shown_destination(destination),
                    used_bytes = used,
                    limit_bytes = limit,
                    hint,
                    "the dead letters of this destination are nearly full"
                );
            }
        }
    }

    /// Counts removed letters. The end of a sweep is logged, with the number of all its steps.
    fn count(&mut self, expired: &BTreeMap<String, u64>) -> bool {
        let mut step = 0;
        for (destination, letters) in expired {
            step += letters;
            self.add(destination);
            if let Some(level) = self.levels.get(destination) {
                level.expired.increment(*letters);
            }
        }
        self.removed += step;
        let has_more = step >= DEAD_LETTERS_EXPIRED_MAX as u64;
        if !has_more && self.removed > 0 {
            let letters = std::mem::take(&mut self.removed);
            tracing::warn!(letters, max_age = ?self.max_age.unwrap_or_default(), "removed dead letters that are older than `deadLetters.maxAge`");
        }
        has_more
    }
}

impl DestinationLevel {
    fn new(destination: &str) -> Self {
        let shown = shown_destination(destination).to_owned();
        DestinationLevel {
            bytes: gauge!(names::DESTINATION_DEAD_LETTER_BYTES, "destination" => shown.clone()),
            limit: gauge!(names::DESTINATION_DEAD_LETTER_LIMIT, "destination" => shown.clone()),
            expired: counter!(names::DEAD_LETTERS_EXPIRED, "destination" => shown),
            alarm: FillAlarm::default(),
        }
    }

    /// Writes the gauges. Returns the bytes used and their limit.
    fn show(
        &self,
        destination: &str,
        usage: &DeadLetterUsage,
        bytes_max: u64,
        destinations: usize,
    ) -> (u64, u64) {
        let (used, limit) =
            (usage.of(destination).bytes, usage.limit_of(destination, bytes_max, destinations));
        self.bytes.set(used as f64);
        self.limit.set(limit as f64);
        (used, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_high_level_is_told_once_until_it_was_low() {
        let mut alarm = FillAlarm::default();
        let mut told = |levels: &[u64]| -> Vec<u64> {
            levels.iter().copied().filter(|used| alarm.step(*used, 1_000)).collect()
        };
        assert_eq!(told(&[0, 500, 799]), [0; 0]);
        assert_eq!(told(&[800, 900, 1_000, 700, 600, 850]), [800]);
        assert_eq!(told(&[599, 700, 799, 800, 801]), [800]);
        assert_eq!(told(&[0, 1_500]), [1_500]);
    }

    #[test]
    fn a_destination_without_letters_is_never_near_its_limit() {
        assert!(!FillAlarm::default().step(0, 0), "the others hold all");
        assert!(FillAlarm::default().step(1, 0));
    }
}
