//! Every bound of the pattern module, with its arithmetic.

/// Nesting of a pattern's objects: a CloudEvent's `data` nests 9 levels at most in vSphere's schema; 64 keeps the recursive compiler's stack under 64 * 1 KiB.
pub const PATTERN_DEPTH_MAX: usize = 64;
/// Combinations of `$or` in one pattern: EventBridge's own limit ("would result in over 1,000 rule combinations").
pub const ALTERNATIVES_MAX: usize = 1_000;
/// Nesting of arrays and objects that are looked into in `data`: as the XML decoder's bound. Skipped parts need no stack and have no bound.
pub const DATA_DEPTH_MAX: usize = 128;
/// Values that one event may have on paths that patterns name: 65,536 * 40 bytes = 2.5 MiB of scratch a thread.
pub const FIELDS_MAX: usize = 65_536;
/// Tries to bring fields in different elements of an event's arrays together for one alternative: 100,000 * 20 ns = 2 ms an event at worst.
pub const ARRAY_STEPS_MAX: usize = 100_000;
/// Classes (subject, type, source) whose decision a matcher remembers: vSphere knows about 2,000 event types; four vCenters' worth.
pub const CLASSES_MAX: usize = 8_192;
/// Bytes of remembered classes in one matcher. When either bound is reached all classes are forgotten, which costs one decision a class.
pub const CLASS_BYTES_MAX: usize = 4 << 20;
/// Value tests in one quamina shard. Quamina counts the transitions of a state in 8 bits and panics at 256 while it matches;
/// no state can have more transitions than the shard has tests: 255 fit.
pub const SHARD_TESTS_MAX: usize = 255;
/// Alternatives below which quamina does not pay: its fixed cost is about that of so many direct evaluations.
pub const SHARD_ALTERNATIVES_MIN: usize = 16;
/// Fields of one event that are given to quamina; with more, the direct evaluator, which has a bound on its steps, takes over.
pub const SHARD_FIELDS_MAX: usize = 64;
