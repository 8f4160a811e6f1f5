//! One lane: its key, its queue of events, and its state.

use std::collections::VecDeque;
use std::time::Duration;

use crate::event::Batch;
use crate::pipeline::deliver::evidence::Trial;
use crate::pipeline::deliver::item::LaneItem;

/// Key of a lane.
pub(in crate::pipeline::deliver) type LaneKey = u64;

/// The shared lane of `ordering: none`.
pub(in crate::pipeline::deliver) const SHARED: LaneKey = 0;
/// Flag of own lanes, which hold refused events.
pub(super) const OWN: LaneKey = 1 << 63;
/// Flag of lanes for dead letters under replay.
pub(super) const REPLAY: LaneKey = 1 << 62;

/// Returns true for a lane of dead letters under replay.
pub(in crate::pipeline::deliver) fn is_replay(key: LaneKey) -> bool {
    key & REPLAY != 0
}

#[derive(Debug)]
pub(in crate::pipeline::deliver) struct Lane {
    pub items: VecDeque<LaneItem>,
    pub state: LaneState,
    /// Events that one request may take from this lane. A failure that may be an event's fault
    /// halves it or sets it to 1, to find the event. Each success doubles it.
    pub cap: usize,
    /// The refusals of the first event.
    pub trial: Trial,
    /// Failures of the target since the last success.
    pub target_tries: u32,
    /// Time of the first event's first try.
    pub first_try: Option<Duration>,
    /// Consecutive events that this lane lost to the dead letters.
    pub convictions: u32,
    /// Time of the first event's first refusal, by the clock that stands still while the target is
    /// gone.
    pub refused_at: Option<Duration>,
    /// Shares of the events that wait.
    pub(super) bytes: usize,
}

/// The arithmetic of `limits::LANE_ITEM_BYTES` counts on these sizes.
const _: () = assert!(size_of::<Lane>() <= 136 && size_of::<LaneItem>() <= 40);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::deliver) enum LaneState {
    /// The lane has nothing to send.
    Idle,
    /// The lane is in the queue of ready lanes.
    Ready,
    /// A request of the lane is in flight.
    Busy,
    /// The lane is in back-off.
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
    /// Returns true if the first event was refused and the others wait for it.
    pub fn is_parked(&self) -> bool {
        self.trial.has_begun()
    }
}

/// The kinds of lanes, by their first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pipeline::deliver) enum LaneKind {
    /// An event that the destination has not refused.
    Fresh,
    /// An event that was refused and is sent again.
    Refused,
    /// A dead letter under replay.
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

/// The kinds of lanes that may send now.
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

/// Returns true for an own lane of refused events.
pub(in crate::pipeline::deliver) fn is_own(key: LaneKey) -> bool {
    key & OWN != 0 && !is_replay(key)
}

/// Returns the lane of event `i` in `ordering: entity`. The key is the same in every run, since it
/// names the spool of a parked lane in the store.
pub(in crate::pipeline::deliver) fn lane_of(batch: &Batch, i: usize) -> LaneKey {
    let source = u64::from(crc32fast::hash(batch.source.name.as_bytes()));
    // The top bits flag own lanes and replays; 0 is the shared lane.
    ((batch.records[i].lane ^ source.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & !(OWN | REPLAY)).max(1)
}

/// Returns the lane of a source. A source that is no longer configured has the highest index; the
/// cap keeps its lane clear of the flags.
pub(super) fn lane_of_source(source: usize) -> LaneKey {
    (source as LaneKey).min(u64::from(u32::MAX)) + 1
}
