//! Sources of the truth that deliveries are compared with: a vCenter of this process, or a copy of
//! another process's truth that is fetched now and then.

use std::sync::Mutex;

use crate::content::SpecialContent;
use crate::sync::lock;
use crate::truth::Truth;
use crate::vcenter::VCenter;

/// A source of the truth about a vCenter.
pub trait Witness: Send + Sync {
    fn truth(&self) -> Truth;
    /// A number that changes when more than the number of events has changed in the truth.
    fn generation(&self) -> u64;

    /// Number of events that exist. Cheap, because every delivery of new events asks for it.
    fn produced(&self) -> u64;

    /// Key and createdTime (microseconds since 1970) of an event, if the witness knows them for
    /// each.
    fn created(&self, _index: u64) -> Option<(i32, i64)> {
        None
    }

    /// The content of an event that is not from the model, if the witness knows it.
    fn special(&self, _index: u64) -> Option<SpecialContent> {
        None
    }

    /// True if [`Witness::truth`] is always of this moment. If not, an event may arrive before the
    /// truth has it.
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
