//! Every bound of this crate, with its arithmetic.

/// Maximum nesting of elements. The deepest vSphere event type nests 9 levels; 128 leaves room and
/// keeps a recursive decoder's stack under 128 * 1 KiB.
pub const XML_DEPTH_MAX: usize = 128;
/// Maximum number of elements in the answer to a control call (any call but those for pages). The
/// largest such answer is `description.eventInfo`: about 1,300 entries of 30 elements = 39,000.
pub const CONTROL_ELEMENTS_MAX: usize = 100_000;
/// The most elements of an answer of `bytes`, in proportion as for an event: each takes up to 700
/// bytes in memory, so an answer takes at most 44 times its size.
pub const fn control_elements_max(bytes: usize) -> usize {
    let elements = ELEMENTS_FREE + bytes / ELEMENTS_FACTOR;
    if elements < CONTROL_ELEMENTS_MAX { elements } else { CONTROL_ELEMENTS_MAX }
}
/// Attributes and namespace declarations of one tag. vSphere's envelope has 8. XML forbids two of
/// the same name, and the check compares each with all before it: 64 keep it at 32 comparisons. In
/// 128 open tags they bind 8,192 prefixes.
pub const ATTRIBUTES_MAX: usize = 64;
/// Bytes of output (JSON, and [`RECORD_BYTES`] for each event) by which each byte of a page may
/// grow.
///
/// Large events grow least: a real event of 64 KiB has few absent members for its size and stays
/// below 2. Events grow most that have only what the schema requires of their class, with names of
/// one letter, and an empty object: a `VmReconfiguredEvent` of 218 bytes takes 2,289, which is 10.5
/// times as much. The test `no_event_that_the_schema_allows_comes_near_its_quota` measures every
/// class.
pub const OUTPUT_FACTOR: usize = 16;
/// Bytes of output that every page may take, whatever its size: 64 events as large as the smallest
/// ones of the class with the most members.
pub const OUTPUT_BYTES_FREE: usize = 256 << 10;
/// The most bytes of output of one page: 1,000 events of 64 KiB, twice as large in JSON, are 128
/// MiB.
pub const OUTPUT_BYTES_MAX: usize = 128 << 20;
/// The most bytes of JSON of one event: 256 times the largest real one. A delivery makes copies of
/// an event, so this also bounds what comes after the decoder.
pub const EVENT_BYTES_MAX: usize = 16 << 20;
/// Bytes that the record of an event takes in memory: 104 as it is decoded, and up to 216 as its
/// reader keeps it.
pub const RECORD_BYTES: usize = 320;
/// One element of an event is allowed for this number of bytes of its page. The elements of real
/// events have 30 bytes on average and 12 at least (`<key>1</key>`).
pub const ELEMENTS_FACTOR: usize = 16;
/// Elements that an event of any page may have. The largest real events, of 64 KiB, have 1,600.
pub const ELEMENTS_FREE: usize = 4_096;
/// The most elements of an event: 40 times those of the largest real event. They take 64 Ki * 512
/// bytes = 32 MiB while the event is decoded.
pub const ELEMENTS_MAX: usize = 64 << 10;
/// Characters of a fault's class and of its message that are kept. The longest messages of
/// vSphere's own have 300.
pub const FAULT_CHARS_MAX: usize = 1_024;
/// Characters of a name or a text that an error quotes.
pub const EXCERPT_CHARS_MAX: usize = 64;
