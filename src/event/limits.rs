//! Bounds of the data that flows.

/// Event types of one vCenter whose severity is remembered. There are some 1,300, and solutions add
/// their own: 16,384 * 100 bytes = 1.6 MB.
pub const EVENT_TYPES_MAX: usize = 16_384;
/// vCenters whose severities are remembered, more than a router reads: 1,024 * 1,300 event types *
/// 100 bytes = 133 MB. The one that was read longest ago makes room.
pub const SEVERITY_VCENTERS_MAX: usize = 1_024;
