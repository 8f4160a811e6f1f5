//! The decision that a part is stalled. Pure: heartbeats and time come in as values.
//!
//! A part is stalled if it has work and its heartbeat has stood still for its bound. Idle is not a
//! stall. The time counts from one look to the next, and a look that comes late counts as one
//! interval: a process that was suspended is not stalled.

use std::collections::HashMap;
use std::time::Duration;

use super::part::HeartbeatReading;

/// The number of a part in its supervisor.
pub(super) type PartId = u64;

/// Compares the heartbeats of one look with those of the looks before.
#[derive(Debug, Default)]
pub(super) struct StallDetector {
    parts: HashMap<PartId, StandingStill>,
}

#[derive(Clone, Copy, Debug)]
struct StandingStill {
    beats: u64,
    /// Time for which the part has had work and no heartbeat.
    time: Duration,
}

impl StallDetector {
    /// Takes the heartbeats of all parts, `elapsed` after the look before. Returns the parts that
    /// are stalled now, in the order of `readings`.
    pub fn step(
        &mut self,
        elapsed: Duration,
        readings: impl IntoIterator<Item = (PartId, HeartbeatReading)>,
    ) -> Vec<PartId> {
        let mut stalled = Vec::new();
        let mut parts = HashMap::with_capacity(self.parts.len());
        for (id, reading) in readings {
            let before = self.parts.get(&id).filter(|before| before.beats == reading.beats);
            let time = match before {
                Some(before) if reading.has_work => before.time + elapsed,
                _ => Duration::ZERO,
            };
            if time >= reading.stall_after {
                stalled.push(id);
            }
            parts.insert(id, StandingStill { beats: reading.beats, time });
        }
        self.parts = parts;
        stalled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn reading(beats: u64, has_work: bool) -> HeartbeatReading {
        HeartbeatReading { beats, has_work, stall_after: 3 * SECOND }
    }

    /// Looks once a second at a part with these readings. Returns the looks that found it stalled.
    fn stalled(readings: &[(u64, bool)]) -> Vec<usize> {
        let mut detector = StallDetector::default();
        let look = |(beats, has_work): &(u64, bool)| {
            !detector.step(SECOND, [(1, reading(*beats, *has_work))]).is_empty()
        };
        let looks: Vec<bool> = readings.iter().map(look).collect();
        (0..looks.len()).filter(|look| looks[*look]).collect()
    }

    #[test]
    fn a_step_that_does_not_end_is_a_stall_until_it_ends() {
        assert_eq!(stalled(&[(1, true); 6]), [3, 4, 5]);
        assert_eq!(stalled(&[(1, true), (1, true), (1, true), (1, true), (2, false), (3, true)]), [3]);
    }

    #[test]
    fn idle_is_not_a_stall() {
        assert!(stalled(&[(2, false); 9]).is_empty());
    }

    #[test]
    fn steps_that_end_are_progress_however_busy_the_part_is() {
        let busy: Vec<(u64, bool)> = (0..9).map(|look| (2 * look + 1, true)).collect();
        assert!(stalled(&busy).is_empty());
    }

    #[test]
    fn work_that_nobody_takes_is_a_stall() {
        assert_eq!(stalled(&[(4, false), (4, true), (4, true), (4, true), (4, true)]), [3, 4]);
    }

    #[test]
    fn a_part_that_is_gone_is_forgotten() {
        let mut detector = StallDetector::default();
        assert!(detector.step(SECOND, [(1, reading(1, true))]).is_empty());
        assert!(detector.step(SECOND, []).is_empty());
        assert!(detector.step(9 * SECOND, [(1, reading(1, true))]).is_empty());
        assert!(detector.parts.len() == 1);
    }

    #[test]
    fn each_part_has_its_own_bound() {
        let mut detector = StallDetector::default();
        let slow = HeartbeatReading { stall_after: 9 * SECOND, ..reading(1, true) };
        let readings = [(1, slow), (2, reading(1, true))];
        detector.step(SECOND, readings);
        assert_eq!(detector.step(4 * SECOND, readings), [2]);
        assert_eq!(detector.step(5 * SECOND, readings), [1, 2]);
    }
}
