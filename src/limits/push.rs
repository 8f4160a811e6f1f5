//! Bounds of push sources: their inboxes and their listeners.

use std::time::Duration;

/// Jobs of one inbox at the storage thread: one append, one read, and one search for recent ids.
pub const INBOX_JOBS_MAX: usize = 3;
/// Default bound of an inbox on disk: 6 million events of 160 bytes compressed are five minutes at
/// 20,000 events/s.
pub const INBOX_BYTES: u64 = 1 << 30;
/// Bytes of memory for the rows of an inbox that are read at a time: 1,000 events of 1 KiB.
pub const INBOX_READ_BYTES: usize = 1 << 20;
/// Rows of the inbox that one checkpoint removes. A source writes some 200 rows a second and a
/// checkpoint follows every 500 ms, so 4,096 catch up with a long outage in short steps.
pub const INBOX_ROWS_REMOVED_MAX: i64 = 4_096;
/// Bytes of the requests that one row of an inbox gathers. A larger request has a row of its own.
pub const INBOX_GROUP_BYTES_MAX: usize = 1 << 20;
/// Interval at which a push source looks at an inbox whose events are all on their way.
pub const INBOX_LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two turns of an idle push source, which show the supervisor that it lives.
pub const PUSH_REST: Duration = Duration::from_secs(30);
/// Requests that wait for one group: as many as a listener may have in progress (1,024
/// connections).
pub const PUSH_REQUESTS_QUEUED_MAX: usize = 1_024;
/// Default number of events whose ids are remembered to drop copies: 100,000 * 55 bytes = 5.5 MB of
/// memory, and 16 bytes each on disk.
pub const PUSH_DEDUP_EVENTS: u64 = 100_000;
/// Bytes of memory that one remembered id takes: 16 + 1 bytes in a hash table at a load of at least
/// 7/16, and 16 bytes in the queue of rows.
pub const PUSH_DEDUP_ID_BYTES: usize = 17 * 16 / 7 + 17;
/// Share of the memory budget that remembered ids are charged with: one part in four. A larger
/// window takes memory beyond the budget.
pub const PUSH_DEDUP_MEMORY_SHARE: usize = 4;

/// Share of the memory budget that requests in progress may take: one part in eight.
pub const WEBHOOK_MEMORY_SHARE: usize = 8;
/// Share of that memory that one request may take before its signature is checked: one part in
/// four. One larger body at a time may pass it.
pub const WEBHOOK_REQUEST_SHARE: usize = 4;
/// Bytes of memory for a header beside its name and value: a hash, two handles of 40 bytes, and a
/// slot of a table.
pub const WEBHOOK_HEADER_BYTES: usize = 128;
/// Bytes of memory for the events of a request, as a multiple of their size: a batch, its copy in a
/// group, and the group compressed.
pub const WEBHOOK_EVENT_COPIES: usize = 3;
/// Bytes of memory for a request, as a multiple of its body: the body and the copies of its events.
pub const WEBHOOK_BODY_COPIES: usize = 1 + WEBHOOK_EVENT_COPIES;
/// The same for a body that a mapping reads. A parsed JSON value of short members takes up to 16
/// times its text twice over: as a tree, and as a value of a template.
pub const WEBHOOK_MAPPED_COPIES: usize = 32;
/// Bytes of the events that a mapping makes of a body, as a multiple of the body: it may copy parts
/// of the body into each event. [`WEBHOOK_MAPPED_COPIES`] pays for them and for the values.
pub const WEBHOOK_MAPPED_GROWTH: usize = 8;
/// The same for a short body.
pub const WEBHOOK_MAPPED_BYTES_MIN: usize = 64 << 10;
/// Time that a request waits for memory before it is refused with 503.
pub const WEBHOOK_ROOM_WAIT: Duration = Duration::from_secs(2);
/// Time for a request's body.
pub const WEBHOOK_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// `Retry-After` of an answer that refuses for a lack of room.
pub const WEBHOOK_RETRY_AFTER: Duration = Duration::from_secs(5);
/// Requests of one HTTP/2 connection at a time.
pub const WEBHOOK_STREAMS_MAX: u32 = 128;
/// Bytes of one attribute of an event. Targets take attributes as headers, and common servers
/// accept headers of 8 KiB.
pub const WEBHOOK_ATTRIBUTE_BYTES_MAX: usize = 8 << 10;
/// Extension attributes of one event. Common servers accept 100 headers.
pub const WEBHOOK_EXTENSIONS_MAX: usize = 64;
/// Instructions of one template or expression of a mapping, over all events of a request: some
/// 10 ms.
pub const WEBHOOK_MAPPING_FUEL: u64 = 100_000;
/// Time between two tries to listen on an address that is taken.
pub const WEBHOOK_BIND_RETRY: Duration = Duration::from_secs(5);
