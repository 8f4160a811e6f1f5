//! (backup)
pub(super) const RESTORING: &str = ".restoring";
