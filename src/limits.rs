//! All bounds of the router, each with its arithmetic.
//!
//! Every queue, cache, retry and loop has a bound, and the bound is a named constant in this file.
//! Anything unbounded is a defect. Defaults that the configuration can change are here as well.
//!
//! The arithmetic uses these numbers. A page has up to 1,000 events. An event takes some 750 bytes
//! on the wire, which most bounds round up to 1 KiB. A large installation has 64 vCenters.

mod backlog;
mod commands;
mod connections;
mod lanes;
mod leases;
mod logs;
mod processors;
mod push;
mod reload;
mod seen;
mod tap;
mod text;
mod view;

use std::time::Duration;

pub use backlog::*;
pub use commands::*;
pub use connections::*;
pub use lanes::*;
pub use leases::*;
pub use logs::*;
pub use processors::*;
pub use push::*;
pub use reload::*;
pub use seen::*;
pub use tap::*;
pub use text::*;
pub use view::*;

/// Events that one `ReadNextEvents` asks for: the highest number that vCenter accepts (vSphere API
/// reference, EventHistoryCollector).
pub const PAGE_EVENTS: usize = 1_000;
/// Events in one batch: a page of 1,000, rounded up to whole 64-bit words of a `Selection`. 16
/// words * 64 = 1,024.
pub const BATCH_EVENTS_MAX: usize = 1_024;
/// Bytes of one page from a vCenter: 1,000 events of 64 KiB = 64 MiB. A larger page is read again
/// in halves.
pub const PAGE_BYTES_MAX: usize = 64 << 20;

/// Default of the memory budget for events, over all sources and destinations.
///
/// The router may take 100 MB. 64 vCenters take 40 MB of that without any event. A page with one
/// event of 10 MB takes 30 MB while it is decoded. The allocator keeps some free memory. 24 MiB
/// remain: they hold 20,000 events, of which half are also rendered in request bodies. More memory
/// would only let more events wait.
pub const MEMORY_BYTES: usize = 24 << 20;
/// Bytes that a source reserves for a page if the page before had few or no events: 256 events
/// (`PAGE_EVENTS_UNSEEN`) of 1 KiB.
pub const PAGE_RESERVE_BYTES: usize = 256 << 10;
/// Events that a source asks for if the page before was small (`PAGE_LITTLE_BYTES`). With 1,000,
/// the first pages of 64 busy sources took 70 MB. With 256 they take 64 * 256 * 1 KiB = 16 MiB.
pub const PAGE_EVENTS_UNSEEN: u32 = 256;
/// Size below which a page counts as small. 16 KiB are some 20 events of 743 bytes, far fewer than
/// `PAGE_EVENTS_UNSEEN`, so asking for only that many does not slow such a source.
pub const PAGE_LITTLE_BYTES: usize = 16 << 10;
/// Bytes to reserve for a page of `page` bytes: enough for the page, and for the batch that is
/// decoded from it.
///
/// The JSON of a typical event is about as large as its XML, and its record takes 128 bytes.
/// Together they stay below 1.5 times the XML. Events with very few members take up to 2.5 times
/// their XML, as do events that are also kept as XML. Bytes beyond the reservation are taken later
/// without waiting, and the next reservation waits for them.
pub const fn batch_bytes(page: usize) -> usize {
    page + page / 2
}

/// Default bound of the spools of one destination: one hour * 18,000 events/s * 160 bytes
/// compressed = 10.4 GB. The bound of all spools together is the sum over the processors, so that
/// one full spool leaves the others their room.
pub const SPOOL_BYTES: u64 = 10 << 30;
/// Bytes by which moves from the spool of an undecided processor may exceed the bound of all
/// spools: eight moves of [`UNDECIDED_MOVE_BYTES`]. A row that two functions want needs twice its
/// room, so a full store would otherwise keep it from ever leaving.
pub const SPOOL_MOVE_BYTES: u64 = 8 * UNDECIDED_MOVE_BYTES as u64;
/// Bytes of events, before compression, that one move from the spool of an undecided processor
/// writes, or one event for all functions that want it: 8 MiB are a page of 1,000 events of 1 KiB
/// for eight functions.
pub const UNDECIDED_MOVE_BYTES: usize = 8 << 20;
/// Batches that one append to the spool of an undecided processor writes: 16 pages of 1 MiB share
/// one fsync.
pub const UNDECIDED_APPEND_BATCHES_MAX: usize = 16;
/// Interval at which the core thread checks the registries of undecided processors.
pub const UNDECIDED_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// Jobs of one undecided processor at the storage thread, and so its messages to the core thread:
/// one append, and one read or move.
pub const UNDECIDED_JOBS_MAX: usize = 2;
/// Default bound of all dead letters: 256 Ki events of 1 KiB = 256 MiB.
pub const DEAD_LETTER_BYTES: u64 = 256 << 20;
/// One part in this many of it is a reserve of equal shares: 64 MiB / 10 with 9 destinations.
pub const DEAD_LETTER_RESERVE_PART: u64 = 4;
/// Fill level of a destination's dead letters, in percent of their limit, that is worth a warning.
pub const DEAD_LETTER_WARN_PERCENT: u64 = 80;
/// Fill level below which the next warning may follow, so that a level at the edge warns once.
pub const DEAD_LETTER_CALM_PERCENT: u64 = 60;
/// Old dead letters removed at a time: 1,000 of 1 KiB add 1 MiB to the write-ahead log.
pub const DEAD_LETTERS_EXPIRED_MAX: usize = 1_000;
/// Bytes of the disk that stay free: below this nothing is spooled or dead-lettered. Checkpoints,
/// the write-ahead log (32 MiB kept) and a shrinking file need less than this.
pub const DISK_FREE_BYTES_MIN: u64 = 256 << 20;
/// Bytes of one stored batch before compression: the largest page, decoded to JSON that is at most
/// eight times as large because absent fields are spelled out. 8 * 64 MiB = 512 MiB.
pub const BLOB_BYTES_MAX: usize = 8 * PAGE_BYTES_MAX;
/// Page cache of the state database. 4 MiB hold the inner nodes of a spool of 40,000 rows many
/// times over.
pub const STORE_CACHE_BYTES: usize = 4 << 20;
/// Pages in the write-ahead log before SQLite moves them into the database: 2,048 * 8 KiB = 16 MiB,
/// or 160 batches of 100 KB.
pub const STORE_WAL_PAGES: u32 = 2_048;
/// Bytes of the write-ahead log that stay on disk after a burst: twice the size at which SQLite
/// empties it.
pub const STORE_WAL_BYTES_KEPT: u64 = 32 << 20;
/// Free bytes inside the state database that are kept for the next burst: 160 batches of 100 KB.
/// More than that is given back to the disk.
pub const STORE_FREE_BYTES_KEPT: u64 = 16 << 20;
/// Pages that one transaction gives back to the disk: 2,048 * 8 KiB = 16 MiB. Shrinking by 2 GiB
/// takes 128 short steps instead of one long stall.
pub const STORE_SHRINK_PAGES: u32 = 2_048;
/// Largest state database that is checked completely at each start: 64 MiB take 0.1 to 0.2 s. Rows
/// of a larger one are checked when they are read.
pub const STORE_CHECK_BYTES_MAX: u64 = 64 << 20;
/// Links that may lead to a data directory, as many as Linux follows in one path
/// (path_resolution(7)).
pub const DATA_DIR_LINKS_MAX: usize = 40;
/// Directories of crashed ephemeral runs that one start removes. A crash leaves one, so this is the
/// number of crashes in a row of a router that failed to remove any.
pub const EPHEMERAL_LEFTOVERS_MAX: usize = 1_000;
/// Time that a write waits for another program that has locked the state database, such as a
/// sqlite3 shell.
pub const STORE_BUSY_MAX: Duration = Duration::from_secs(5);
/// Bytes of the old router's checkpoint file. It has six short fields, under 1 KiB. A larger file
/// is not a checkpoint.
pub const LEGACY_CHECKPOINT_BYTES_MAX: u64 = 64 << 10;
/// Time by which the old router's position may lie ahead of the router's clock. One day allows for
/// a vCenter in a wrong time zone, not for one in a wrong year.
pub const LEGACY_CHECKPOINT_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Dead letters in one answer to `list`: 1,000 rows of about 300 bytes = 300 KB.
pub const DEAD_LETTERS_LISTED_MAX: usize = 1_000;

/// Smallest share of the memory budget that a batch can have: permits are counted in KiB.
pub const PERMIT_BYTES_MIN: usize = 1 << 10;
/// Batches from sources in memory at a time, since each has a permit. All reserved permits together
/// are `memory` bytes. In addition, a source that splits a page which cannot be decoded takes one
/// permit for each of its events without waiting; it does so for one page at a time.
pub const fn batches_max(memory: usize, sources: usize) -> usize {
    memory / PERMIT_BYTES_MIN + sources * BATCH_EVENTS_MAX
}

// The senders of the queues below never wait (`pipeline/level.rs` explains why). So each bound is
// the highest number of messages that can be in flight. A full queue is a defect.

/// Messages in the queue of the core thread. Each source has one at a time (`Begin`, `Loaded`,
/// `Begun` and `Leave` follow each other). Then come the waiting replays, and one each of `Settled`
/// (of all drivers), `Checkpointed` (one checkpoint at a time) and `UnreadableStored` (one group at
/// a time), `DeadLettersKept` (one upkeep at a time), `PrepareReload` or `Reload` (one reload at a
/// time), and the replies to the jobs of undecided processors. `Finish` always has room. With room
/// for 128 sources and 74 processors: 128 + 64 + 5 + 74 * 2 = 345.
pub const fn control_messages_max(sources: usize, processors: usize) -> usize {
    sources + REPLAYS_QUEUED_MAX + 5 + processors * UNDECIDED_JOBS_MAX
}
/// Replays of dead letters that wait for the core thread: enough to keep it busy while the next one
/// is read from the store.
pub const REPLAYS_QUEUED_MAX: usize = 64;
/// Replays of dead letters in flight. Each has a permit of [`REPLAY_BYTES`]: 8 MiB / 1 KiB = 8,192.
pub const REPLAYS_MAX: usize = REPLAY_BYTES / PERMIT_BYTES_MIN;
/// Messages in the mailbox of one driver: an offer for each batch in memory, the replays, and the
/// messages that its own jobs cause. With 24 MiB and one source: 24,576 + 1,024 + 8,192 + 12 =
/// 33,804.
pub const fn mailbox_messages_max(memory: usize, sources: usize) -> usize {
    batches_max(memory, sources) + REPLAYS_MAX + OWN_MESSAGES_MAX
}
/// Messages that the jobs of one driver cause: 1 `Appended`, 2 `Fetched` (of the main spool and of
/// one lane's), 1 `SpoolMeasured`, [`REMOVALS_MAX`] `Removed`, 1 `DeadLettered`, and 1 each of
/// `RowsAdded`, `Adoptions`, `AdoptionEnds` and `Policy` (which are coalesced). `Stop` and `Retire`
/// share a place of their own.
pub const OWN_MESSAGES_MAX: usize = 1 + 2 + 1 + REMOVALS_MAX + 1 + 4;
/// Removals of spool rows that one driver has in flight: one, one ahead of the append, and one
/// ahead of each of the two reads.
pub const REMOVALS_MAX: usize = 1 + 1 + 2;
/// Jobs of one driver at the storage thread: one append, two reads, one measurement, the removals,
/// and one group of dead letters. When the driver stops, the remaining removals and dead letters
/// add up to two jobs each.
pub const DRIVER_JOBS_MAX: usize = 1 + 2 + 1 + REMOVALS_MAX + 1 + 2 * 2;
/// Jobs at the storage thread apart from those of drivers ([`DRIVER_JOBS_MAX`] each). Each source
/// has one (its checkpoint is loaded, or its first one is written), and those of its inbox
/// ([`INBOX_JOBS_MAX`]). Then come one checkpoint, one
/// group of unreadable events, one upkeep of the dead letters and two jobs at the end, two jobs of
/// a reload, the jobs of operators, the ends of replays, and the jobs of undecided processors.
pub const fn store_jobs_max(sources: usize, processors: usize) -> usize {
    sources * (1 + INBOX_JOBS_MAX)
        + 7
        + DEAD_LETTER_COMMAND_JOBS_MAX
        + REPLAYS_MAX
        + processors * UNDECIDED_JOBS_MAX
}
/// Jobs at the storage thread for operators who list, replay or drop dead letters: one for each
/// command that may run.
pub const DEAD_LETTER_COMMAND_JOBS_MAX: usize = CONTROL_CONNECTIONS_MAX;

/// Pages between the sources and the decoder: enough to keep two parse threads busy during a
/// network round trip.
pub const PAGES_QUEUED_MAX: usize = 8;
/// Ended readings of one source that are remembered, because pages of them may still be on their
/// way. A reading ends with a page that cannot be decoded. Three read at a time (reader, sweep,
/// watchdog), each with the reading that is just ending and the one before: 3 * 2 = 6.
pub const READINGS_ENDED_MAX: usize = 6;

/// Longest wait after a session that ended young, or after a sweep or a wake-up call that failed.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// The same while a vCenter is away (refused or broken connections, a proxy's 503): one cheap call
/// a second, and reading resumes within two.
pub const BACKOFF_AWAY_MAX: Duration = Duration::from_secs(1);
/// The same after any other failed login or read, such as a fault of a vCenter that is starting. (A
/// refused password waits for `LOGIN_RETRY`.)
pub const BACKOFF_FAULT_MAX: Duration = Duration::from_secs(5);
/// Wait after the first failure to reach a vCenter.
pub const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Wait after InvalidLogin, unless the password file changes. SSO locks an account after five
/// failures in three minutes; one attempt every five minutes never causes that.
pub const LOGIN_RETRY: Duration = Duration::from_secs(300);

/// Bytes that a destination reads back from its main spool at once.
pub const SPOOL_FETCH_BYTES: usize = 1 << 20;
/// A destination reads from its main spool when fewer bytes than this wait in its lanes. So a
/// destination that spools takes at most 512 KiB + 1 MiB = 1.5 MiB.
pub const SPOOL_REFETCH_BYTES: usize = 512 << 10;

/// Bytes of dead letters that are replayed at a time, in addition to the memory budget for events.
/// 8,000 letters of 1 KiB are more than 1,024 requests can carry.
pub const REPLAY_BYTES: usize = 8 << 20;

/// Answers that a destination's task handles in one turn: enough that the cost of a turn does not
/// matter, few enough that the next requests do not wait.
pub const ANSWERS_AT_ONCE: usize = 32;
/// Time that settled events wait for more before the core thread is woken: 500 times shorter than
/// the time between two checkpoints (500 ms).
pub const SETTLED_WAIT: Duration = Duration::from_millis(1);
/// Number of settled pieces that wake the core thread without waiting for more.
pub const SETTLED_AT_ONCE: usize = 256;

/// Interval at which a destination that holds more than its share of the memory checks whether
/// others need it.
pub const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Longest `Retry-After` that is obeyed. A wrong header of one day must not stop a destination for
/// a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Answers within a circuit breaker's window before its success rate counts.
pub const BREAKER_ANSWERS_MIN: u32 = 20;
/// Decimal digits of certainty with which an event or a destination is found at fault: chance alone
/// would lead to the same refusals in fewer than one of 10^8 cases. With a refusal rate of 10 %
/// these are 8 refusals, with 50 % 27.
pub const CERTAINTY_DIGITS: f64 = 8.0;
/// Distinct events, refused in a row while none is accepted, that show a destination to be at
/// fault: at least these, and at most [`STREAK_MAX`] however often it refuses by chance.
pub const STREAK_MIN: usize = 3;
/// See [`STREAK_MIN`]. Also bounds the list of these events: 32 of 16 bytes.
pub const STREAK_MAX: usize = 32;
/// Refused events take this part of a destination's requests at most: a quarter.
pub const REFUSED_CONCURRENCY_SHARE: usize = 4;
/// Lanes stand still for second sends during one part in this many of the time: 0.25 %.
pub const PAUSE_SHARE: u32 = 400;
/// Sources for which one destination keeps rendered envelope fragments: 64 * 3 categories * 2 KiB =
/// 384 KiB. Fragments of further sources are rendered again.
pub const ENVELOPE_SOURCES_MAX: usize = 64;

/// Writes in one transaction. A spooled batch takes up to about 300 KiB compressed, so 64 of them
/// add about 20 MiB to the write-ahead log.
pub const STORE_GROUP_WRITES_MAX: usize = 64;
/// Wait before a write that a bound has refused is tried again.
pub const STORE_FULL_RETRY: Duration = Duration::from_secs(1);
/// Bytes of a target's answer that are read, so that the connection can be used again. If 1,024
/// requests were answered like that at once, this would be 1,024 * 64 KiB = 64 MiB.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Time that a target may take to send the body of a failed answer. The status, which decides what
/// happens, is known by then.
pub const EXPLANATION_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a target's answer that go into the reason of a failure.
pub const EXCERPT_BYTES_MAX: usize = 256;
/// Bytes of a target's answer that a dead-letter processor receives. 768 bytes are 768 * 4 / 3 =
/// 1,024 characters in base64, the length to which Knative cuts `knativeerrordata`.
pub const SAID_BYTES_MAX: usize = 768;
/// Age at which an address found in Kubernetes is looked up again.
pub const ADDRESS_AGE_MAX: Duration = Duration::from_secs(300);
/// Pause between two lookups of an address at which deliveries fail. A lookup is two small reads.
pub const ADDRESS_CHECK_PAUSE: Duration = Duration::from_secs(5);
/// Time after which a source that waits for room in memory logs that it does.
pub const ROOM_WAIT_TOLD: Duration = Duration::from_secs(5);
/// Longest wait of a replayed dead letter for a target that asked for time.
pub const REPLAY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Time that a request from a spool waits to be filled up, if another request of the destination is
/// in flight.
pub const SPOOL_LINGER: Duration = Duration::from_millis(5);
/// Time after which partial delivery of a spool row is written to the store. A crash before that
/// delivers those events again.
pub const SPOOL_MARK_INTERVAL: Duration = Duration::from_millis(500);
/// Shortest interval at which the system's root certificates are read again while certificates of
/// servers are refused, over all clients together. Parsing 150 of them takes milliseconds.
pub const ROOTS_READ_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which certificate and secret files are checked for changes.
pub const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Events in one batched POST: one page of a vCenter.
pub const BATCHED_EVENTS_MAX: usize = 1_000;
/// Bytes of lines in one write to stdout.
pub const CONSOLE_BYTES_MAX: usize = 1 << 20;
/// Time that the reader of stdout may take to accept one request.
pub const CONSOLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Functions that one gateway may list over the lifetime of the process, since their ids are never
/// reused. 100,000 * some 200 bytes = 20 MB.
pub const FUNCTIONS_MAX: usize = 100_000;
/// Subjects for which a routing thread caches the selected functions, for each category: 8,192 *
/// 3 * some 100 bytes = 2.4 MiB. vSphere 9 has some 2,000 subjects.
pub const TOPIC_CACHE_MAX: usize = 8_192;
/// Bytes of a gateway's list of functions: 10,000 functions * 3 KiB = 30 MB, rounded up to 32 MiB.
pub const LISTING_BYTES_MAX: usize = 32 << 20;
/// Time that a gateway may take to list its functions, unless a shorter time-out is configured.
pub const LISTING_TIMEOUT: Duration = Duration::from_secs(15);
/// Rotated secrets of one client that are still redacted from the answers of targets.
pub const FORMER_SECRETS_MAX: usize = 16;
/// Problems of single functions that are named of one listing: 100 * some 300 bytes.
pub const ODDITIES_MAX: usize = 100;
/// Names of functions in one log line.
pub const FUNCTIONS_NAMED_MAX: usize = 20;
/// Wait between two attempts to read functions or rules for the first time.
pub const FIRST_SYNC_RETRY: Duration = Duration::from_secs(1);
/// Time that a source waits at its start for the functions or rules of a processor that can store
/// events meanwhile. A gateway that is there answers faster, and nothing has to be stored.
pub const FIRST_SYNC_GRACE: Duration = Duration::from_secs(1);
/// Time that a command waits for the first list of functions or rules. A source that waits for it
/// logs so after each such time.
pub const FIRST_SYNC_MAX: Duration = Duration::from_secs(30);
/// Answers of vCenters that are larger than this (ten pages of a busy one) arrive one at a time:
/// they take more memory than was reserved for them.
pub const LARGE_ANSWER_BYTES: usize = 8 << 20;
/// Bytes of gzip that are unpacked between two looks at the size: they become 4 MiB at most.
pub const UNPACKED_AT_ONCE: usize = 4 << 10;
/// Bytes of a vCenter's answer to a call that is not a page. The largest is
/// `description.eventInfo`: some 1,300 entries * 1.5 KiB = 2 MB.
pub const CONTROL_BYTES_MAX: usize = 8 << 20;

/// Collectors that one session may have (vSphere API reference, EventManager.maxCollector). A
/// source uses three at a time.
pub const COLLECTORS_MAX: usize = 32;
/// Shortest overlap of a rebuilt collector, however often rebuilds have failed: the time within
/// which vCenter commits the events of one burst out of order.
pub const OVERLAP_MIN: Duration = Duration::from_secs(1);
/// Number of pages before one that cannot be decoded from which reading starts again. The decoder
/// has fewer pages in hand, so events whose times are out of order across those pages are read
/// again.
pub const CAREFUL_PAGES_BACK: usize = 4;
/// Events behind one that cannot be decoded that are read one by one, since the cause often affects
/// its neighbours.
pub const CAREFUL_EVENTS_BEYOND: u32 = 64;
/// Shortest time-out of a page read, as silence: hundreds of times the usual duration.
pub const PAGE_WAIT_MIN: Duration = Duration::from_secs(10);
/// Time-out of a page read as a multiple of the longest silence in recent reads from the same
/// vCenter, if that is longer.
pub const PAGE_WAIT_TIMES: u32 = 4;
/// Refusals of a page (a fault, or HTTP 500) in a row before it is read in halves: one may be
/// vCenter's trouble of the moment.
pub const PAGE_REFUSALS: u32 = 2;
/// Refusals of a single row, each on a new collector, before it is stepped over …
pub const ROW_REFUSALS: u32 = 3;
/// … and the time over which they are spread at least: longer than a vCenter's hiccup.
pub const ROW_REFUSED_FOR: Duration = Duration::from_secs(10);
/// The same for this long after another row was stepped over: what breaks one often breaks more.
pub const ROW_REFUSED_FOR_AGAIN: Duration = Duration::from_secs(1);
pub const ROWS_EXPECTED_FOR: Duration = Duration::from_secs(600);
/// Refused rows that a source remembers, so that a sweep that meets one again neither waits nor
/// warns: 2 * 256 * 40 bytes.
pub const ROWS_REMEMBERED_MAX: usize = 256;
/// A page that takes longer than this to arrive, once its answer has begun, is followed by one of
/// half the size. So a connection that breaks occasionally loses only seconds, and the first event
/// of a page does not wait long for the last one.
pub const PAGE_TRANSFER_GOAL: Duration = Duration::from_secs(5);
/// A page that breaks off later than this may have been too large for its connection.
pub const PAGE_BREAK_LATE: Duration = Duration::from_secs(1);
/// Full pages that arrive before a page size that failed is tried again: one read in 17 is lost at
/// worst.
pub const PAGE_SIZE_RETRY: u32 = 16;
/// The longest that one answer may take while its bytes keep arriving: 1,000 events of 1 KiB at
/// under 2 KB/s. Pages of a slow link are smaller by then.
pub const ANSWER_TIME_MAX: Duration = Duration::from_secs(600);
/// Time that a rebuild waits for the decoder to finish the pages it has in hand.
pub const VERDICT_WAIT: Duration = Duration::from_secs(5);
/// Bytes of the smallest event on the wire, rounded down (class, key, chainId, createdTime). A page
/// with fewer bytes for each event asked for was not full.
pub const PARTIAL_EVENT_BYTES: usize = 150;
/// Time by which an event may lie ahead of vCenter's clock, as the router knows it, and still move
/// the position.
pub const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// Size of a page that is worth a call. A call costs the router about as much as decoding and
/// rendering 40 events. 64 KiB are 88 events of 743 bytes.
pub const PAGE_WORTH_BYTES: usize = 64 << 10;
/// Rate of reads that bring few events, of all sources together. 1,000 reads/s * 200 µs = 20% of
/// one core.
pub const SMALL_READS_PER_SECOND: f64 = 1_000.0;
/// Interval at which a sweep that has read everything checks whether its pages have passed the
/// stage `order`.
pub const ORDERED_POLL: Duration = Duration::from_millis(5);
/// Interval at which an idle source reads if the waker does not work.
pub const IDLE_POLL: Duration = Duration::from_secs(1);
/// The same while the waker works. With `MONITOR_REST` an idle source makes about 9 calls per
/// minute; the old router made 13.
pub const WATCHED_POLL: Duration = Duration::from_secs(15);
/// The time for which a source distrusts the waker and reads every `IDLE_POLL`. It begins when such
/// a read finds an event for which vCenter did not wake the source.
pub const WAKER_DISTRUST: Duration = Duration::from_secs(300);
/// Interval at which vCenter's latest event is queried. This also keeps the session alive, which
/// vCenter ends after 30 idle minutes.
pub const MONITOR_INTERVAL: Duration = Duration::from_secs(10);
/// The same while a source rests and the wake-up call is at work.
pub const MONITOR_REST: Duration = Duration::from_secs(30);
/// Keys before the wrap of int32 from which on the monitor does not rest: a storm of 30,000
/// events/s for `MONITOR_REST`.
pub const KEYS_NEAR_WRAP: i32 = 1_000_000;
/// Interval at which vCenter's clock is queried.
pub const CLOCK_INTERVAL: Duration = Duration::from_secs(300);
/// Time that events may be missing before the watchdog acts, and between two of its actions.
pub const STALL_GRACE: Duration = Duration::from_secs(5);
/// The grace time if the router's own filter is the likely cause and nothing contradicts that.
pub const STALL_GRACE_FILTERED: Duration = Duration::from_secs(300);
/// Difference between two renderings of the same time: vCenter sends milliseconds in some answers,
/// microseconds in others.
pub const TIME_RENDERING: Duration = Duration::from_millis(1);
/// Events in one window of the search across a gap, by their keys. A search probes windows of time
/// until it finds readable events. 500 by the keys keeps windows below some 1,000 events even at
/// uneven rates.
pub const GAP_EVENTS_A_WINDOW: i64 = 500;
/// Lowest number of windows in the search across a gap.
pub const GAP_WINDOWS_MIN: i64 = 8;
/// Highest number of windows in the search across a gap: 512 windows * 3 calls * 5 ms = 8 s.
/// Narrowing down its end takes 20 more reads.
pub const GAP_WINDOWS_MAX: i64 = 512;
/// Shortest window in the search across a gap.
pub const GAP_WINDOW_MIN: Duration = Duration::from_millis(10);
/// Precision with which the end of a gap is found, and the shortest window that is halved: the
/// resolution of vCenter's times.
pub const GAP_END_MIN: Duration = Duration::from_micros(1);
/// Overlap when reading by windows of time, as while keys are negative: the time within which
/// vCenter commits events late.
pub const WINDOW_OVERLAP: Duration = Duration::from_secs(5);
/// Interval at which reading by windows of time goes back by that overlap.
pub const WINDOW_BACK_INTERVAL: Duration = Duration::from_secs(1);
/// Rest after a sweep as a multiple of its duration. With 4, sweeps are at most a fifth of the
/// reads.
pub const SWEEP_REST: u32 = 4;
/// Longest rest after a sweep. In a storm of events, each sweep takes longer than the one before;
/// without a bound the rests would grow with them.
pub const SWEEP_REST_MAX: Duration = Duration::from_secs(120);
/// Bytes of an undecodable event in its dead letter: 16 times the largest real event. A longer one
/// is cut.
pub const UNREADABLE_BYTES_MAX: usize = 1 << 20;
/// Session lifetime below which the next login waits.
pub const SESSION_LIFE_MIN: Duration = Duration::from_secs(30);
/// Consecutive failures after which a session is considered broken: a vCenter that was upgraded in
/// place may speak another API version.
pub const SESSION_FAILURES_MAX: u32 = 5;
/// Failures without progress are forgotten after this time without another one: one lost answer an
/// hour is everyday, also for an idle vCenter.
pub const FAILURES_FORGOTTEN: Duration = Duration::from_secs(60);
/// Time for ending a session on shutdown: destroying three collectors and logging out. Otherwise
/// vCenter expires the session by itself.
pub const CLOSE_MAX: Duration = Duration::from_secs(3);
/// Interval at which a password file is checked for changes after the password was refused.
pub const PASSWORD_CHECK: Duration = Duration::from_secs(5);
/// Entries in one PutEvents call (EventBridge API reference).
pub const PUT_EVENTS_ENTRIES_MAX: usize = 10;
/// Wait after EventBridge has throttled a destination without a `Retry-After`. Its quota is counted
/// by the second.
pub const THROTTLE_WAIT: Duration = Duration::from_secs(1);
/// Rules of one event bus that are read. AWS allows 300, and some thousands on request. 10,000 * 4
/// KiB of pattern = 40 MB in the worst case.
pub const RULES_MAX: usize = 10_000;
/// Bytes of one answer of AWS: 100 rules * 32 KiB of JSON = 3.2 MB, rounded up to 4 MiB.
pub const AWS_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Origins that one EventBridge processor keeps connections to: EventBridge, STS, a source of
/// credentials, and a few more after changes.
pub const AWS_ORIGINS_MAX: usize = 8;
/// Time that an access key from a file is used before the file is read again. The SDK asks for a
/// new one 10 s before the end.
pub const ACCESS_KEY_AGE_MAX: Duration = Duration::from_secs(300);

/// Bytes of a recorded page that the command `decode` decodes at a time: 2,800 events of 743 bytes.
/// With their JSON they fit a processor's cache.
pub const DECODE_CHUNK_BYTES: usize = 2 << 20;

/// Subjects that `/stats` counts separately, for each processor: 8,192 * some 100 bytes = 800 KiB.
/// vSphere 9 has some 2,000 subjects, and an EventEx can have any.
pub const STATS_SUBJECTS_MAX: usize = 8_192;
