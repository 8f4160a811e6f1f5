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

/// Bytes of events in memory, over all sources and destinations, of the 100 MB that the router may take: 64 vCenters take 40 MB without any, the allocator keeps
/// some that is free, and a page with an event of 10 MB has some 30 on its way in. 20,000 events, half of them also as the bodies of requests: more only waits longer.
pub const MEMORY_BYTES: usize = 24 << 20;
/// What a source reserves for a page where little or nothing came before …
pub const PAGE_RESERVE_BYTES: usize = 256 << 10;
/// … and how many events it asks for then, of 1 KiB: with 1,000, the first pages of 64 busy sources were 70 MB.
pub const PAGE_EVENTS_UNSEEN: u32 = 256;
/// What is little: a page of it is far from full with `PAGE_EVENTS_UNSEEN` events, too.
pub const PAGE_LITTLE_BYTES: usize = 16 << 10;
/// What is reserved for a page of `page` bytes: usual events take less once decoded, their JSON about as much as the XML, and a record of 128 bytes each. (Events
/// that have next to no members take up to 2.5 times their XML, and so do those of which a destination wants the XML, too: what was not reserved, the next page
/// waits for.)
pub const fn batch_bytes(page: usize) -> usize {
    page + page / 2
}

/// Bytes of one destination's spool unless configured: an hour * 18,000 events/s * 160 bytes compressed = 10.4 GB. All spools together may take the sum of what
/// the processors may: one that is full leaves the others theirs.
pub const SPOOL_BYTES: u64 = 10 << 30;
/// Bytes of all dead letters: 256 Ki events of 1 KiB.
pub const DEAD_LETTER_BYTES: u64 = 256 << 20;
/// Free disk below which nothing is spooled or dead-lettered: what checkpoints, the write-ahead log and a shrinking file need with room to spare.
pub const DISK_FREE_BYTES_MIN: u64 = 256 << 20;
/// Bytes of one batch before compression, in the spool: the largest page decoded to JSON at most eightfold (absent fields are spelled out).
pub const BLOB_BYTES_MAX: usize = 8 * PAGE_BYTES_MAX;
/// Page cache of the state database: 4 MiB holds the inner nodes of a spool of 40,000 rows many times over.
pub const STORE_CACHE_BYTES: usize = 4 << 20;
/// Pages in the write-ahead log before SQLite moves them into the database: 2,048 * 8 KiB = 16 MiB, 160 batches of 100 KB.
pub const STORE_WAL_PAGES: u32 = 2_048;
/// What remains of the write-ahead log on disk after a burst.
pub const STORE_WAL_BYTES_KEPT: u64 = 32 << 20;
/// Free bytes inside the state database that are kept for the next burst; what is over it is given back to the disk.
pub const STORE_FREE_BYTES_KEPT: u64 = 16 << 20;
/// Pages given back to the disk by one transaction: 2,048 * 8 KiB = 16 MiB, so that shrinking 2 GB takes 128 small steps and no long stall.
pub const STORE_SHRINK_PAGES: u32 = 2_048;
/// Largest state database that is checked whole at each start: 64 MiB take 0.1 to 0.2 s. A larger one is checked row by row as it is read.
pub const STORE_CHECK_BYTES_MAX: u64 = 64 << 20;
/// How long a write waits for another program that holds the state database (a person with the sqlite3 shell).
pub const STORE_BUSY_MAX: Duration = Duration::from_secs(5);
/// Bytes of an old router's checkpoint file: six short fields; a larger file is none.
pub const LEGACY_CHECKPOINT_BYTES_MAX: u64 = 64 << 10;
/// How far ahead of the router's clock a time in it may be: a vCenter in a wrong time zone, not a wrong year.
pub const LEGACY_CHECKPOINT_AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Dead letters in one answer to `list`, unless asked for fewer: 1,000 rows of about 300 bytes.
pub const DEAD_LETTERS_LISTED_MAX: usize = 1_000;

/// The smallest share of the memory budget that a batch holds: permits are counted in KiB.
pub const PERMIT_BYTES_MIN: usize = 1 << 10;
/// Batches from sources in memory at most: each holds a permit. Permits of `memory` bytes in all
/// are reserved; a source that takes a page apart which cannot be decoded takes one for each event
/// without waiting, and does so for one page at a time.
pub const fn batches_max(memory: usize, sources: usize) -> usize {
    memory / PERMIT_BYTES_MIN + sources * BATCH_EVENTS_MAX
}

// The queues below have senders that never wait (`pipeline/level.rs` says why), so each bound is
// the number of messages that can be under way at a time. A full queue is a defect.

/// Messages to the core thread: of each source one (`Begin`, `Loaded` and `Begun` follow each
/// other), the replays that may wait there, and one each of `Settled` (of all drivers),
/// `Checkpointed` (one checkpoint at a time) and `UnreadableStored` (one group at a time). `Finish`
/// always has room. 64 sources: 131 messages.
pub const fn control_messages_max(sources: usize) -> usize {
    sources + REPLAYS_QUEUED_MAX + 3
}
/// Replays of dead letters that wait for the core thread: enough to keep it busy while the next one
/// is read from the store.
pub const REPLAYS_QUEUED_MAX: usize = 64;
/// Replays of dead letters whose end has not been told: no more than there are permits of
/// [`REPLAY_BYTES`], 8,192.
pub const REPLAYS_MAX: usize = REPLAY_BYTES / PERMIT_BYTES_MIN;
/// Mail in one driver's mailbox: an offer for each batch in memory, replays, and what follows from
/// its own jobs. 24 MiB and one source: 24,576 + 1,024 + 8,192 + 11 = 33,803 messages.
pub const fn mailbox_messages_max(memory: usize, sources: usize) -> usize {
    batches_max(memory, sources) + REPLAYS_MAX + OWN_MAIL_MAX
}
/// Mail that follows from what a driver itself has under way: `Appended` 1, `Fetched` 2 (the
/// destination's spool and one lane's), `Removed` [`REMOVALS_MAX`], `DeadLettered` 1, and one each
/// of `LetterRemoved`, `Adoptions` and `AdoptionEnds` (all coalesced). `Stop` has a place of its
/// own.
pub const OWN_MAIL_MAX: usize = 1 + 2 + REMOVALS_MAX + 1 + 3;
/// Removals of spooled rows that one driver has under way: one, and one ahead of the append and of
/// each of the two reads that may be under way.
pub const REMOVALS_MAX: usize = 1 + 1 + 2;
/// Jobs of one driver at the storage thread: the append, two reads, removals and a group of dead
/// letters; and when it stops twice what is left of the last two.
pub const DRIVER_JOBS_MAX: usize = 1 + 2 + REMOVALS_MAX + 1 + 2 * 2;
/// Jobs at the storage thread without those of drivers ([`DRIVER_JOBS_MAX`] each): of each source
/// one (its checkpoint is loaded, or its first one written), one checkpoint, one group of
/// unreadable events, two at the end; what people ask for; and the ends of replays.
pub const fn store_jobs_max(sources: usize) -> usize {
    sources + 4 + DEAD_LETTER_COMMAND_JOBS_MAX + REPLAYS_MAX
}
/// Jobs at the storage thread for people who list, replay or drop dead letters: one for each
/// command that may run.
pub const DEAD_LETTER_COMMAND_JOBS_MAX: usize = CONTROL_CONNECTIONS_MAX;

/// Pages between the sources and the decoder: enough to keep two decoders busy over a network round trip.
pub const PAGES_QUEUED_MAX: usize = 8;
/// Readings of one source that ended with an undecodable page and may still have pages on the way: the reader's, the sweep's and the watchdog's, each with
/// one that is just ending and the one before it.
pub const READINGS_ENDED_MAX: usize = 6;

/// Longest wait between two tries to reach a vCenter.
pub const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// First wait after a failure.
pub const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Wait after InvalidLogin unless the password file changed: SSO locks an account after five failures in three minutes.
pub const LOGIN_RETRY: Duration = Duration::from_secs(300);

/// Bytes that a destination reads back from its spool at once …
pub const SPOOL_FETCH_BYTES: usize = 1 << 20;
/// … when less than this waits in its lanes: so 1.5 MiB a spooling destination at most.
pub const SPOOL_REFETCH_BYTES: usize = 512 << 10;
/// Bytes that it reads back at once of what one entity has parked: 30 events of 1 KiB, so that many entities come to their turn.
pub const SPOOL_LANE_FETCH_BYTES: usize = 32 << 10;

/// Bytes of dead letters that are replayed at once, beside the memory for events: 8,000 letters of 1 KiB are more than 1,024 requests can carry.
pub const REPLAY_BYTES: usize = 8 << 20;

/// Answers that are taken in one turn of a destination's task: enough that what a turn costs does not show, few enough that the next requests do not wait.
pub const ANSWERS_AT_ONCE: usize = 32;
/// How long settled pieces wait for more, so that the core's thread is not woken for each: some hundred times less than the time between two checkpoints.
pub const SETTLED_WAIT: Duration = Duration::from_millis(1);
/// Settled pieces that do not wait for more.
pub const SETTLED_AT_ONCE: usize = 256;

/// How often a destination that holds more than its share of the memory looks whether others need it.
pub const ROOM_CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// How long a target may ask to be left alone (`Retry-After`): a day in a wrong header must not stop a destination for a day.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Answers within a breaker's window before its success rate counts.
pub const BREAKER_ANSWERS_MIN: u32 = 20;
/// Sources of which one destination keeps rendered envelope fragments: 3 categories * 2 KiB * 64 = 384 KiB. More are rendered again.
pub const ENVELOPE_SOURCES_MAX: usize = 64;

/// Writes in one transaction: a spooled batch is up to about 300 KiB compressed, so 64 of them are about 20 MiB of WAL.
pub const STORE_GROUP_WRITES_MAX: usize = 64;
/// Wait before a write that found its bound reached is tried again.
pub const STORE_FULL_RETRY: Duration = Duration::from_secs(1);
/// Bytes of a target's answer that are read, so that the connection can be used again; 1,024 requests * 64 KiB = 64 MiB if all answered so at once.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long a target may take to explain a failure whose status it has told: what it means is known.
pub const EXPLANATION_WAIT: Duration = Duration::from_secs(2);
/// Bytes of a target's answer that go into the reason of a failure.
pub const EXCERPT_BYTES_MAX: usize = 256;
/// Bytes of it that a dead-letter processor is told: 768 are 1,024 in base64, which is what Knative cuts `knativeerrordata` to.
pub const SAID_BYTES_MAX: usize = 768;
/// Idle connections that one client keeps: as many as requests may be in flight.
pub const IDLE_CONNECTIONS_MAX: usize = 1_024;
/// How long a connection stays open unused: less than what common servers and balancers allow (75 s and 60 s), so that we close first.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// The same of a connection to a vCenter: its proxy may close one that idles for longer, and a call on it would be lost.
pub const VCENTER_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the other end of a connection to a vCenter may be silent on TCP's level before it is given up.
pub const VCENTER_SILENCE_MAX: Duration = Duration::from_secs(30);
/// How large hyper's reads on an HTTP/1.1 connection grow, and the head of an answer at most. The buffer grows with them from 8 KiB on and stays:
/// 8 + 16 + 32 = 56 KiB, 64 vCenters * 3 connections * 56 KiB = 10.5 MiB. With hyper's own bound of 408 KiB it is over 500 KiB each. What is sent goes
/// out whole all the same.
pub const HTTP1_READ_BYTES_MAX: usize = 32 << 10;
/// How often an HTTP/2 connection is asked whether it is alive, and how long it may take to say so: with no answer it is given up.
pub const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);
pub const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// What goes wrong again and again is said no more often than this.
pub const FAILURE_LOG_INTERVAL: Duration = Duration::from_secs(60);
/// A source that waits for longer than this for room in memory says so.
pub const ROOM_WAIT_TOLD: Duration = Duration::from_secs(5);
/// A dead letter that is replayed waits for no longer than this for a target that asked for time.
pub const REPLAY_WAIT_MAX: Duration = Duration::from_secs(10);
/// How long a request from a spool that is not full waits for an answer to another one.
pub const SPOOL_LINGER: Duration = Duration::from_millis(5);
/// How long the store does not know of events that were delivered from a row of a spool of which others are left: a crash brings them again.
pub const SPOOL_MARK_INTERVAL: Duration = Duration::from_millis(500);
/// How often the system's root certificates are read again at most, by all clients together, while
/// servers' certificates are refused: parsing 150 of them takes milliseconds.
pub const ROOTS_READ_INTERVAL: Duration = Duration::from_secs(1);
/// How often certificate and secret files are looked at.
pub const FILES_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Events in one batched POST: one page of vCenter.
pub const BATCHED_EVENTS_MAX: usize = 1_000;
/// Bytes of lines in one write to stdout.
pub const CONSOLE_BYTES_MAX: usize = 1 << 20;
/// How long the reader of stdout may take for one request.
pub const CONSOLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Functions that one gateway may ever have shown: their ids are never used again. 100,000 * some 200 bytes = 20 MB.
pub const FUNCTIONS_MAX: usize = 100_000;
/// Subjects of which a routing thread keeps the functions, by category: 8,192 * 3 * some 100 bytes = 2.4 MiB. vSphere 9 has some 2,000.
pub const TOPIC_CACHE_MAX: usize = 8_192;
/// Bytes of a gateway's list of functions: 10,000 functions * 3 KiB, rounded up.
pub const LISTING_BYTES_MAX: usize = 32 << 20;
/// How long a gateway may take to list its functions; a configured time-out that is shorter holds.
pub const LISTING_TIMEOUT: Duration = Duration::from_secs(15);
/// Rotated secrets of a client that are still taken out of what a target says.
pub const FORMER_SECRETS_MAX: usize = 16;
/// Names of functions in a line of the log.
pub const FUNCTIONS_NAMED_MAX: usize = 20;
/// Wait between two tries to read functions or rules for the first time.
pub const FIRST_SYNC_RETRY: Duration = Duration::from_secs(1);
/// How long a command line waits for them, and after what a source that waits for them says so again.
pub const FIRST_SYNC_MAX: Duration = Duration::from_secs(30);
/// Bytes of a vCenter's answer to a call that is not a page: `description.eventInfo` is the largest, some 1,300 entries * 1.5 KiB.
pub const CONTROL_BYTES_MAX: usize = 8 << 20;
/// Elements in such an answer: `description.eventInfo` has some 1,300 entries * 30 elements.
pub const CONTROL_ELEMENTS_MAX: usize = 200_000;

/// Collectors that one session may hold (vSphere API reference, EventManager.maxCollector); a source uses three at a time.
pub const COLLECTORS_MAX: usize = 32;
/// What a rebuild re-reads at least, however often it has failed: what vCenter commits out of order within a burst.
pub const OVERLAP_MIN: Duration = Duration::from_secs(1);
/// Pages before one that could not be decoded from which it is read again: more than the decoders have in hand, so times that are out of order by
/// as much do no harm.
pub const CAREFUL_PAGES_BACK: usize = 4;
/// Events behind one that cannot be decoded that are read one by one: what breaks one often breaks those beside it.
pub const CAREFUL_EVENTS_BEYOND: u32 = 64;
/// How long a page read is waited for at first: hundreds of times what a page takes. Longer where this vCenter has been slow: so many times the slowest of its
/// last reads.
pub const PAGE_WAIT_MIN: Duration = Duration::from_secs(10);
pub const PAGE_WAIT_TIMES: u32 = 4;
/// How long a rebuild waits for the verdicts of pages that are with the decoder.
pub const VERDICT_WAIT: Duration = Duration::from_secs(5);
/// Bytes of the smallest event on the wire, rounded down (class, key, chainId, createdTime): a page with fewer an event asked for was not full.
pub const PARTIAL_EVENT_BYTES: usize = 150;
/// How far an event may be ahead of vCenter's clock as we know it and still move the position.
pub const CLOCK_SLACK: Duration = Duration::from_secs(1);
/// What makes a call for a page worth it: a call costs the router about what it takes to decode and render forty events, and this is some ninety.
pub const PAGE_WORTH_BYTES: usize = 64 << 10;
/// Reads that bring little, of all sources together; a read takes some 200 µs of a core, so this is a fifth of one.
pub const SMALL_READS_PER_SECOND: f64 = 1_000.0;
/// How often a sweep that has read all looks whether it is in order.
pub const ORDERED_POLL: Duration = Duration::from_millis(5);
/// Longest wait for the next read when vCenter does not say that something is new.
pub const IDLE_POLL: Duration = Duration::from_secs(1);
/// How often vCenter's latest event is asked for; it keeps the session alive, too (it idles out after 30 minutes).
pub const MONITOR_INTERVAL: Duration = Duration::from_secs(10);
/// How often vCenter's clock is asked for.
pub const CLOCK_INTERVAL: Duration = Duration::from_secs(300);
/// How long events may be missing before the watchdog acts, and between two of its acts.
pub const STALL_GRACE: Duration = Duration::from_secs(5);
/// The same where our own filter is the likely reason and nothing says otherwise.
pub const STALL_GRACE_FILTERED: Duration = Duration::from_secs(300);
/// Two renderings of one time differ by less than this (milliseconds here, microseconds there).
pub const TIME_RENDERING: Duration = Duration::from_millis(1);
/// Windows of one step over a gap: one for every 500 events in it by their keys, so that each has some 1,000 events at uneven rates too, within these
/// bounds; closing in on its end takes 20 reads more. 512 windows * 3 calls * 5 ms = 8 s at the very most.
pub const GAP_EVENTS_A_WINDOW: i64 = 500;
pub const GAP_WINDOWS_MIN: i64 = 8;
pub const GAP_WINDOWS_MAX: i64 = 512;
/// Shortest such window.
pub const GAP_WINDOW_MIN: Duration = Duration::from_millis(10);
/// How closely the end of a gap is found, and the shortest window that is halved: what vCenter's times tell apart.
pub const GAP_END_MIN: Duration = Duration::from_micros(1);
/// What reading by windows of time reads again: what vCenter commits late while keys are negative.
pub const WINDOW_OVERLAP: Duration = Duration::from_secs(5);
/// How often it does.
pub const WINDOW_BACK_INTERVAL: Duration = Duration::from_secs(1);
/// A sweep starts no sooner than this many times the last one's duration after it, so that sweeps are a fifth of the reads,
pub const SWEEP_REST: u32 = 4;
/// or than this: what comes faster than a fifth of the reads can read it again would be swept later and later.
pub const SWEEP_REST_MAX: Duration = Duration::from_secs(120);
/// Events of one source that are remembered beyond the overlap for sweeps that do not come to their end: 100 million * 1 to 2 bits = 12 to 25 MB. More are forgotten, and
/// a sweep that comes after all delivers them once more.
pub const SEEN_HELD_MAX: u64 = 100_000_000;
/// A session that lived shorter than this ends with a wait before the next login.
pub const SESSION_LIFE_MIN: Duration = Duration::from_secs(30);
/// Failures in a row after which the session is thought to be of no use (a vCenter upgraded in place speaks another version).
pub const SESSION_FAILURES_MAX: u32 = 5;
/// Ending a session on shutdown: three collectors and a logout, or else vCenter forgets it by itself.
pub const CLOSE_MAX: Duration = Duration::from_secs(3);
/// How often a password file is looked at after it was refused.
pub const PASSWORD_CHECK: Duration = Duration::from_secs(5);
/// Entries in one PutEvents (API reference).
pub const PUT_EVENTS_ENTRIES_MAX: usize = 10;
/// How long a destination is left alone after EventBridge throttled it and did not say how long: its quota is counted by the second.
pub const THROTTLE_WAIT: Duration = Duration::from_secs(1);
/// Rules of one event bus that are read: AWS allows 300, on request some thousands. 10,000 * 4 KiB of pattern = 40 MB at the very worst.
pub const RULES_MAX: usize = 10_000;
/// Bytes of one answer of AWS: 100 rules * 32 KiB of JSON.
pub const AWS_ANSWER_BYTES_MAX: usize = 4 << 20;
/// Origins that one EventBridge processor talks to: EventBridge, STS, a source of credentials, and a few after changes.
pub const AWS_ORIGINS_MAX: usize = 8;
/// How long an access key that is in a file is used before the file is read again. The SDK begins to ask 10 s before.
pub const ACCESS_KEY_AGE_MAX: Duration = Duration::from_secs(300);

/// Commands that one router carries out for people at the same time.
pub const CONTROL_CONNECTIONS_MAX: usize = 8;
/// Bytes of such a command: a filter of a few texts.
pub const CONTROL_REQUEST_BYTES_MAX: u64 = 64 << 10;
/// How long a command may take to come, once somebody has connected.
pub const CONTROL_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Wait after the control socket could take no connection (no file descriptor was left).
pub const CONTROL_RETRY: Duration = Duration::from_secs(1);

/// Bytes of a recorded page that `decode` looks at together: 2,800 events of 743 bytes, which with their JSON fit a processor's cache.
pub const DECODE_CHUNK_BYTES: usize = 2 << 20;

/// Subjects that `/stats` tells apart, a processor: 8,192 * some 100 bytes = 800 KiB. vSphere 9 has some 2,000; an EventEx may be of any type.
pub const STATS_SUBJECTS_MAX: usize = 8_192;

/// Clients of the admin listener at a time: a scraper, a load balancer's checks and a few people.
pub const ADMIN_CONNECTIONS_MAX: usize = 64;
/// From the start of a connection to the head of its first request, and from one request to the next.
pub const ADMIN_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection's whole life: 64 idle ones cannot keep everybody else out.
pub const ADMIN_CONNECTION_MAX: Duration = Duration::from_secs(300);
