//! Bounds of the lanes in which events wait for their destination (`pipeline/deliver/lanes`).

use super::SPOOL_REFETCH_BYTES;

/// Bytes of memory that an event which waits in a lane takes besides its batch, if it has the lane
/// to itself, as with `ordering: entity` and many entities. They count towards the share of the
/// destination and the memory budget.
///
/// The lane takes 144 bytes and its queue of one item 48, both with what the allocator adds. The
/// entry of 17 bytes in the table of lanes takes up to 58, while a full table moves to one of twice
/// its size. The entry of 24 bytes in the queue of waiting lanes takes up to 72, and that of 8
/// bytes in the queue of ready ones up to 24. 144 + 48 + 58 + 72 + 24 = 346, rounded up.
pub const LANE_ITEM_BYTES: usize = 384;
/// Steps in which the bytes of lanes are charged to the memory budget, so that the budget is not
/// locked for each event: 10 events of [`LANE_ITEM_BYTES`]. The last step is not charged until it
/// is full: a thousand functions leave at most 4 MB out.
pub const LANE_CHARGE_BYTES: usize = 4 << 10;
/// Entries below which a table or queue of lanes is not worth shrinking: it shrinks when it has
/// room for four times as many, which are 4 * 128 * 24 bytes = 12 KiB.
pub const LANES_KEPT: usize = 128;
/// Bytes of sparse batches from which on events that return to their lanes are moved into smaller
/// ones: below, the copies would cost more than they free. The destination may hold as much while
/// it spools ([`SPOOL_REFETCH_BYTES`]).
pub const LANES_SPARSE_BYTES: usize = SPOOL_REFETCH_BYTES;
/// Bytes that a destination reads back at once from the spool of one parked lane: 30 events of 1
/// KiB. A small number, so that many entities get their turn.
pub const SPOOL_LANE_FETCH_BYTES: usize = 32 << 10;
/// Refused events of one destination that others may overtake. When there are more, the lane of the
/// next one waits.
pub const ASIDES_MAX: usize = 1_000;
/// While fresh events are ready, one request in this many carries a refused one.
pub const REFUSED_TURN: u32 = 16;
