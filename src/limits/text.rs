//! Bounds of secrets and of text from outside (`redact`, `outside`).

/// Characters of the shortest secret that is redacted. Shorter ones occur in ordinary text by
/// chance, so that redacting them would garble every message; `check` warns of them.
pub const SECRET_CHARS_MIN: usize = 4;
/// Bytes of the shortest value of a cookie that counts as a secret. Shorter ones are flags and
/// names of nodes.
pub const COOKIE_SECRET_BYTES_MIN: usize = 8;
/// Encodings around a secret that are undone, one inside the other: a JSON string in the base64 of
/// an HTML page has three.
pub const ENCODINGS_NESTED_MAX: usize = 3;
/// Encodings that are always undone, whatever else a text contains: at most 1 + 10 + 10 * 10
/// decodings of it. Text without escapes has some six.
pub const ENCODINGS_CERTAIN: usize = 2;
/// Bytes that are decoded for one text beyond these: one millisecond or two. A text of 256 bytes
/// has at most 1,000 more decodings of its size.
pub const DECODED_BYTES_MAX: usize = 256 << 10;
/// Bytes of the reason of a failure: for logs, dead letters and pages.
pub const REASON_BYTES_MAX: usize = 2 << 10;
/// Bytes of one field of a log line, and of its message. A line has some ten fields: 40 KiB.
pub const LOG_FIELD_BYTES_MAX: usize = 4 << 10;
/// Characters of a cell of a table. A formatter pads to 65,535 at most, and no terminal is wider.
pub const CELL_CHARS_MAX: usize = 1_024;
