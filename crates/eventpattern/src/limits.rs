//! Every bound of this crate, with its arithmetic.

/// Nesting of a pattern's objects. Event types nest far less deeply; 64 levels keep the stack of
/// the recursive compiler under 64 * 1 KiB.
pub const PATTERN_DEPTH_MAX: usize = 64;
/// Combinations of `$or` in one pattern: the limit of EventBridge.
pub const ALTERNATIVES_MAX: usize = 1_000;
/// Nesting of `data` on paths of patterns: 128 levels keep the stack of the recursive reader under
/// 128 * 1 KiB. Other values are skipped without recursion, so they have no bound.
pub const DATA_DEPTH_MAX: usize = 128;
/// Values of one event on paths of patterns: 65,536 * 40 bytes = 2.5 MiB of buffers in each
/// matcher.
pub const FIELDS_MAX: usize = 65_536;
/// Attempts to assign values in array elements to the constraints of one alternative: 100,000 * 20
/// ns = 2 ms. Past the bound the alternative counts as matching.
pub const ARRAY_STEPS_MAX: usize = 100_000;
/// Classes (combinations of subject, type and source) that a matcher remembers: four sources with
/// 2,000 types each.
pub const CLASSES_MAX: usize = 8_192;
/// Bytes of remembered classes in one matcher. A matcher that reaches either bound forgets all
/// classes and decides each of them again.
pub const CLASS_BYTES_MAX: usize = 4 << 20;
/// Values of an event that an explanation names for one member of a pattern. Five fit on a line.
pub const FOUND_VALUES_MAX: usize = 5;
