//! Sources of the truth that deliveries are held against: a vCenter of this process, or a copy of
//! another process's truth that is fetched now and then.

use std::sync::Mutex;

use crate::content::SpecialContent;
use crate::sync::lock;
use crate::truth::Truth;
use crate::vcenter::VCenter;

/// Where the truth about a source comes from.
pub trait Witness: Send + Sync {
    fn truth(&self) -> Truth;
    /// Changes when the truth changed in more than the number of events.
    fn generation(&self) -> u64;

    /// Events that exist: cheap, asked for with every delivery of new events.
    fn produced(&self) -> u64;

    /// Key and createdTime (microseconds since 1970) of an event, if the witness can tell them for
    /// each.
    fn created(&self, _index: u64) -> Option<(i32, i64)> {
        None
    }

    /// The content of an event that is not from the model, if the witness knows it.
    fn special(&self, _index: u64) -> Option<SpecialContent> {
        None
    }

    /// Whether [`Witness::truth`] is of this moment. If not, an event may arrive before the truth
    /// knows it.
    fn is_current(&self) -> bool {
        true
    }
}

impl Witness for VCenter {
    fn truth(&self) -> Truth {
        VCenter::truth(self)
    }

    fn generation(&self) -> u64 {
        self.truth_generation()
    }

    fn produced(&self) -> u64 {
        VCenter::produced(self)
    }

    fn created(&self, index: u64) -> Option<(i32, i64)> {
        VCenter::created(self, index)
    }

    fn special(&self, index: u64) -> Option<SpecialContent> {
        VCenter::special(self, index)
    }
}

/// A truth that is fetched from another process (`GET /testbed/truth`) now and then, and once more
/// before the report.
impl Witness for Mutex<Truth> {
    fn truth(&self) -> Truth {
        lock(self).clone()
    }

    fn generation(&self) -> u64 {
        lock(self).generation
    }

    fn produced(&self) -> u64 {
        lock(self).produced
    }

    fn is_current(&self) -> bool {
        false
    }
}
