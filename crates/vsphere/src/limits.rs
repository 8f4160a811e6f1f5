//! Every bound of this crate, with its arithmetic.

/// Maximum nesting of elements. The deepest vSphere event type nests 9 levels; 128 leaves room and
/// keeps a recursive decoder's stack under 128 * 1 KiB.
pub const XML_DEPTH_MAX: usize = 128;
/// Maximum number of elements in the answer to a control call (any call but those for pages). The
/// largest such answer is `description.eventInfo`: about 1,300 entries of 30 elements.
pub const CONTROL_ELEMENTS_MAX: usize = 200_000;
