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

/// How long a target may ask to be left alone (`Retry-After`): a day in a wrong header must not stop a destination for a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Bytes of a target's answer that are read, so that the connection can be used again; 1,024 requests * 64 KiB = 64 MiB if all answered so at once.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of a target's answer that go into the reason of a failure.
pub const EXCERPT_BYTES_MAX: usize = 256;
/// Idle connections that one client keeps: as many as requests may be in flight.
pub const IDLE_CONNECTIONS_MAX: usize = 1_024;
/// How long a connection stays open unused: less than what common servers and balancers allow (75 s and 60 s), so that we close first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// How often certificate and secret files are looked at.
pub const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Events in one batched POST: one page of vCenter.
pub const BATCHED_EVENTS_MAX: usize = 1_000;
/// Bytes of lines in one write to stdout.
pub const CONSOLE_BYTES_MAX: usize = 1 << 20;
/// How long the reader of stdout may take for one request.
pub const CONSOLE_TIMEOUT: Duration = Duration::from_secs(30);
