//! Bounds of the processors `http`, `file` and `nats`.

use std::time::Duration;

/// Fuel for one template and one event: 100,000 instructions, or 100,000 * 64 bytes = 6.4 MB that
/// it creates. A rendered message of 4 KiB takes some 200.
pub const TEMPLATE_FUEL: u64 = 100_000;
/// Memory of an event's values for templates, as a multiple of the event as JSON. Members with
/// short names and values take up to 16 times their text: a name and a value of 24 bytes each, in a
/// table that is half full, for `"a":1,`.
pub const EVENT_VALUES_FACTOR: usize = 16;
/// Bytes of a rendered path with its query. Servers accept 8 KiB (nginx, Apache).
pub const PATH_RENDERED_BYTES_MAX: usize = 8 << 10;
/// Bytes of a rendered header. Servers accept 8 KiB for a header.
pub const HEADER_RENDERED_BYTES_MAX: usize = 8 << 10;
/// Bytes of lines in one write to a file, and one fdatasync: a page of 1,000 events of 1 KiB.
pub const FILE_WRITE_BYTES_MAX: usize = 1 << 20;
/// Time that a disk may take to write and sync one request.
pub const FILE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for which an append waits for the lock of its file.
pub const FILE_LOCK_WAIT: Duration = Duration::from_secs(2);
/// Time between two attempts to lock a file.
pub const FILE_LOCK_LOOK: Duration = Duration::from_millis(20);
/// Bytes that are read at a time to find the last line break of a file.
pub const FILE_REPAIR_BYTES: usize = 64 << 10;
/// Rotated files with the same second in their names.
pub const FILE_SAME_SECOND_MAX: u32 = 1_000;
/// Messages in one atomic batch, which is the default limit of the server. Events of one request to
/// NATS.
pub const NATS_BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of events in one request to NATS: a page of 1,000 events of 4 KiB.
pub const NATS_REQUEST_BYTES_MAX: usize = 4 << 20;
/// Time after which a request to NATS begins no further message: one batch that timed out after
/// 10 s, a new connection after 10 s, and 40 s for 1,000 messages one by one.
pub const NATS_DELIVERY_MAX: Duration = Duration::from_secs(60);
/// Partitions of a stream. Each has a lock, a subject for each source, and one batch under way; a
/// server accepts 50 batches under way for a stream, and the rest goes message by message.
pub const NATS_PARTITIONS_MAX: u64 = 1_024;
/// Servers of one cluster in the configuration.
pub const NATS_SERVERS_MAX: usize = 32;
/// Time in which JetStream makes or describes the bucket of a cluster.
pub const NATS_MAKE_WAIT: Duration = Duration::from_secs(10);
/// Time in which the system account of a server answers to an inspection.
pub const NATS_SYSTEM_WAIT: Duration = Duration::from_secs(2);
