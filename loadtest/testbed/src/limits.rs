//! All bounds of the testbed, with their arithmetic and, where there is one, the source of the
//! fact.

/// Largest page of `ReadNextEvents` and of `SetCollectorPageSize` (vSphere API reference,
/// `EventHistoryCollector`), and largest `EventFilterSpec.maxCount`, as in VMware's simulator.
pub const PAGE_EVENTS_MAX: usize = 1_000;
/// Size of `latestPage` until `SetCollectorPageSize` sets another.
pub const LATEST_PAGE_EVENTS: usize = 10;
/// Collectors that one session may hold; `EventManager.maxCollector` reads this.
pub const COLLECTORS_PER_SESSION_MAX: usize = 32;
/// Views that one session may hold; many scripts never destroy theirs. A container view takes 100
/// bytes.
pub const VIEWS_PER_SESSION_MAX: usize = 10_000;
/// Unfinished `RetrievePropertiesEx` that one session may hold. One of 1,000,000 objects takes
/// about 150 MB.
pub const RETRIEVALS_PER_SESSION_MAX: usize = 4;
/// Sessions that one vCenter holds (VMware's published maximum).
pub const SESSIONS_MAX: usize = 2_000;
/// Largest result of `QueryEvents` without `maxCount`. VMware documents that there is a default,
/// but not its value.
pub const QUERY_EVENTS_DEFAULT: usize = 1_000;
/// Largest request body, 64 MiB: no client of events sends more than a few KiB, and the rest is
/// room for batches and PutEvents.
pub const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Page buffers kept for the next answer: 16 buffers * 1,000 events * 1 KiB = 16 MiB.
pub const PAGE_BUFFERS_MAX: usize = 16;
/// Requests that a `Sink` keeps for tests.
pub const RECORDS_MAX: usize = 10_000;
/// Entries of one PutEvents request (AWS's limit).
pub const PUT_EVENTS_ENTRIES_MAX: usize = 10;
/// Bytes of one PutEvents request by AWS's formula: the documented 256 KB.
pub const PUT_EVENTS_BYTES_MAX: usize = 256 * 1024;
/// Calls that wait for an async function: 100,000 calls * about 1.5 KB = 150 MB at most.
pub const ASYNC_QUEUE_MAX: usize = 100_000;
