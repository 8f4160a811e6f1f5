//! Bounds of the sets of seen events (`pipeline/seen`).

/// Events of one source that are remembered beyond the overlap, for sweeps that do not complete.
/// 100 million * 1 to 2 bits = 12 to 25 MB. Further ones are forgotten, and a later sweep delivers
/// them again.
pub const SEEN_HELD_MAX: u64 = 100_000_000;
/// Minutes in the set of seen events of one source: 45 days. The set begins an overlap before the
/// oldest event that is not settled, and a destination that is away for longer costs duplicates
/// after a restart. 65,536 * 200 bytes = 13 MB.
pub const SEEN_MINUTES_MAX: usize = 64 << 10;
/// Minutes beyond the position of the source that are remembered. Pages are decoded ahead of the
/// position, which is published when they are in order. Twice 8 queued and 4 under way have 24,000
/// events, each in a minute of its own at worst. 32,768 * 200 bytes = 6.5 MB.
pub const SEEN_AHEAD_MINUTES_MAX: usize = 32 << 10;
/// Distance beyond the position from which a minute is forgotten before old ones are: no page of a
/// busy vCenter reaches a day ahead.
pub const SEEN_FAR_MINUTES: u32 = 24 * 60;
/// Bytes of the set of seen events of one source. The keys of 100 million events take 25 MB; keys
/// that are scattered take 60 bytes each.
pub const SEEN_BYTES_MAX: usize = 32 << 20;
/// Bytes of all sets of seen events that the memory budget does not count.
pub const SEEN_BYTES_FREE: usize = 1 << 20;
/// The sets of seen events take this part of the memory budget at most, so that events fit beside
/// them.
pub const SEEN_MEMORY_SHARE: usize = 4;
/// Rows of seen events that one transaction deletes from an oversized state: 10,000 * 200 bytes = 2
/// MB of write-ahead log.
pub const SEEN_DELETED_AT_ONCE: u32 = 10_000;
