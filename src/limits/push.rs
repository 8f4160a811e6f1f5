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
/// Bytes of the shortest event in a batch:
/// `{"specversion":"1.0","id":"1","source":"s","type":"t"}`.
pub const WEBHOOK_EVENT_BYTES_MIN: usize = 54;
/// Bytes of memory for a value in a list: 24, twice while the list grows.
pub const WEBHOOK_VALUE_BYTES: usize = 2 * 24;
/// Bytes of memory for a member of an object: its name and value in a list that grows by doubling,
/// their entry of 56 bytes in a map, and 2 * 9 * 8/7 bytes of its index.
pub const WEBHOOK_MEMBER_BYTES: usize = 2 * 48 + 56 + 21;
/// Bytes of memory for a list or an object itself: a handle of 16 + 72 bytes, four slots of 48
/// bytes, and an index of 64 bytes.
pub const WEBHOOK_CONTAINER_BYTES: usize = 88 + 4 * 48 + 64;
/// Steps in which the values of a body are charged.
pub const WEBHOOK_VALUES_STEP: usize = 64 << 10;
/// Bytes of the events that a mapping makes of a body, as a multiple of the body: it may copy parts
/// of the body into each event.
pub const WEBHOOK_MAPPED_GROWTH: usize = 8;
/// The same for a short body.
pub const WEBHOOK_MAPPED_BYTES_MIN: usize = 64 << 10;

/// The most bytes of the events that a mapping makes of a body of this size.
pub const fn webhook_mapped_bytes_max(body: usize) -> usize {
    let grown = body.saturating_mul(WEBHOOK_MAPPED_GROWTH);
    if grown > WEBHOOK_MAPPED_BYTES_MIN { grown } else { WEBHOOK_MAPPED_BYTES_MIN }
}

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
/// Members of one event in JSON: its extensions and other attributes, data, and some that are
/// `null`.
pub const WEBHOOK_MEMBERS_MAX: usize = 2 * WEBHOOK_EXTENSIONS_MAX;
/// Instructions of one template or expression of a mapping: some 10 ms.
pub const WEBHOOK_TEMPLATE_FUEL: u64 = 100_000;
/// Instructions of all templates and expressions of a request: some 100 ms. With 1,000 events in a
/// request, 1,000 for each event.
pub const WEBHOOK_MAPPING_FUEL: u64 = 1_000_000;
/// Time between two tries to listen on an address that is taken.
pub const WEBHOOK_BIND_RETRY: Duration = Duration::from_secs(5);
