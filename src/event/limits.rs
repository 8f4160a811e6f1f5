//! Bounds of the data that flows.

/// Event types of one vCenter whose severity is remembered. There are some 1,300, and solutions add
/// their own: 16,384 * 100 bytes = 1.6 MB.
pub const EVENT_TYPES_MAX: usize = 16_384;
