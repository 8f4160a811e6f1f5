//! One lane: its number, what stands first in it, and what it may do now.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::Batch;
use crate::pipeline::deliver::evidence::Trial;
use crate::pipeline::deliver::item::LaneItem;

/// A lane's number.
pub(in crate::pipeline::deliver) type LaneKey = u64;

/// The lane of scope `none`.
pub(in crate::pipeline::deliver) const SHARED: LaneKey = 0;
/// Lanes of scope `none` that hold what failed.
pub(super) const OWN: LaneKey = 1 << 63;
/// Lanes of dead letters that are replayed.
pub(super) const REPLAY: LaneKey = 1 << 62;

/// Whether it is a lane of dead letters that are replayed.
pub(in crate::pipeline::deliver) fn is_replay(key: LaneKey) -> bool {
    key & REPLAY != 0
}

#[derive(Debug)]
pub(in crate::pipeline::deliver) struct Lane {
    pub items: VecDeque<LaneItem>,
    pub state: LaneState,
    /// Events that one request may take from this lane: halved when a request fails for an event's
    /// sake, to find the event; doubled by success.
    pub cap: usize,
    /// The refusals of the first event.
    pub trial: Trial,
    /// Failures of the target since the last success.
    pub target_tries: u32,
    /// When the first event was first tried.
    pub first_try: Option<Duration>,
    /// Events in a row that this lane lost to the dead letters.
    pub convictions: u32,
    /// When the first event was first refused, by the clock that stands while the target is gone.
    pub refused_at: Option<Duration>,
    /// Shares of the events that wait.
    pub(super) bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::deliver) enum LaneState {
    /// Has nothing to send.
    Idle,
    /// Stands in the queue of ready lanes.
    Ready,
    /// Has a request under way.
    Busy,
    /// Waits for its next try.
    Waiting,
}

impl Default for Lane {
    fn default() -> Self {
        Lane {
            items: VecDeque::new(),
            state: LaneState::Idle,
            cap: usize::MAX,
            trial: Trial::default(),
            target_tries: 0,
            first_try: None,
            refused_at: None,
            convictions: 0,
            bytes: 0,
        }
    }
}

impl Lane {
    /// Whether its first event was refused, and the others wait for it.
    pub fn is_parked(&self) -> bool {
        self.trial.has_begun()
    }
}

/// The kinds of lanes, by what stands first in them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::deliver) enum LaneKind {
    /// An event that the destination has not refused.
    Fresh,
    /// An event that was refused, and is sent again.
    Refused,
    /// A dead letter that is replayed.
    Replay,
}

impl LaneKind {
    pub(super) const ALL: [LaneKind; 3] = [LaneKind::Fresh, LaneKind::Refused, LaneKind::Replay];

    pub fn of(key: LaneKey, lane: &Lane) -> Self {
        match lane.is_parked() {
            _ if is_replay(key) => LaneKind::Replay,
            true => LaneKind::Refused,
            false => LaneKind::Fresh,
        }
    }
}

/// Which kinds of lanes may send now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::pipeline::deliver) struct LaneKinds {
    pub fresh: bool,
    pub refused: bool,
    pub replays: bool,
}

impl LaneKinds {
    pub const ALL: LaneKinds = LaneKinds { fresh: true, refused: true, replays: true };

    pub(super) fn has(self, kind: LaneKind) -> bool {
        match kind {
            LaneKind::Fresh => self.fresh,
            LaneKind::Refused => self.refused,
            LaneKind::Replay => self.replays,
        }
    }
}

/// Returns true for a lane of its own of events that failed.
pub(in crate::pipeline::deliver) fn is_own(key: LaneKey) -> bool {
    key & OWN != 0 && !is_replay(key)
}

/// The lane of event `i` in scope `entity`: the same in every run, since what is parked waits in
/// the store under this number.
pub(in crate::pipeline::deliver) fn lane_of(batch: &Batch, i: usize) -> LaneKey {
    let source = u64::from(crc32fast::hash(batch.source.name.as_bytes()));
    // The top bits are for lanes of scope `none` and for replays, 0 for the shared one.
    ((batch.records[i].lane ^ source.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !(OWN | REPLAY)).max(1)
}

/// A source that is not configured any more has the highest index.
pub(super) fn lane_of_source(source: usize) -> LaneKey {
    (source as LaneKey).min(u64::from(u32::MAX)) + 1
}
