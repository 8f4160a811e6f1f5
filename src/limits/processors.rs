//! Bounds of the processors `http` and `file`.

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
/// Bytes that are read at a time to find the last line break of a file.
pub const FILE_REPAIR_BYTES: usize = 64 << 10;
/// Rotated files with the same second in their names.
pub const FILE_SAME_SECOND_MAX: u32 = 1_000;
