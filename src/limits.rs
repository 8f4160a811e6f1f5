//! Every bound of the router, with its arithmetic. A queue, cache, retry or loop without a name here is a defect.

use std::time::Duration;

/// Events that one `ReadNextEvents` asks for: vCenter's own maximum (vSphere API reference, EventHistoryCollector).
pub const PAGE_EVENTS: usize = 1_000;
/// Events in one batch at most: a page, rounded up to whole 64-bit words of a `Selection`.
pub const BATCH_EVENTS_MAX: usize = 1_024;
/// Bytes of one answer from a vCenter: 1,000 events of 64 KiB. A larger page is read again in halves.
pub const PAGE_BYTES_MAX: usize = 64 << 20;
/// Nesting of elements in an answer: the deepest vSphere event type nests 9 levels; 128 leaves room and keeps a recursive decoder's stack under 128 * 1 KiB.
pub const XML_DEPTH_MAX: usize = 128;

/// Bytes of events in memory, over all sources and destinations: half of the 100 MB that the router may take, the rest is the allocator, TLS, SQLite and the runtime.
pub const MEMORY_BYTES: usize = 48 << 20;
/// What a source reserves for a page before it knows the page's size: 1,000 events * 256 bytes.
pub const PAGE_RESERVE_BYTES: usize = 256 << 10;

/// Pages between the sources and the decoder: enough to keep two decoders busy over a network round trip.
pub const PAGES_QUEUED_MAX: usize = 8;

/// Longest wait between two tries to reach a vCenter.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// First wait after a failure.
pub const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Wait after InvalidLogin unless the password file changed: SSO locks an account after five failures in three minutes.
pub const LOGIN_RETRY: Duration = Duration::from_secs(300);

/// Sources of which one destination keeps rendered envelope fragments: 3 categories * 2 KiB * 64 = 384 KiB. More are rendered again.
pub const ENVELOPE_SOURCES_MAX: usize = 64;
