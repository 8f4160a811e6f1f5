//! The sources of this run, by index. Indices are only appended, so a page or a batch never points
//! to another source. A removed source keeps its index, and gets it back when it is added again.

use std::sync::{Arc, PoisonError, RwLock};

use crate::source::PageNumbering;
use crate::telemetry::metrics::SourceMetrics;

/// All sources. Cheap to clone; a clone sees later additions.
#[derive(Clone, Default)]
pub(super) struct SourceTable(Arc<RwLock<Vec<SourceSlot>>>);

struct SourceSlot {
    name: String,
    metrics: Arc<SourceMetrics>,
    numbering: Arc<PageNumbering>,
}

impl SourceTable {
    /// The index of a source; `None` if this run never had it.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.read().iter().position(|slot| slot.name == name)
    }

    /// The index of a source. A new one gets the next index.
    pub fn intern(&self, name: &str) -> usize {
        self.index_of(name).unwrap_or_else(|| {
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            let (name, metrics) = (name.to_owned(), Arc::new(SourceMetrics::new(name)));
            all.push(SourceSlot { name, metrics, numbering: Arc::default() });
            all.len() - 1
        })
    }

    /// The name of the source at `index`.
    pub fn name(&self, index: usize) -> String {
        self.read()[index].name.clone()
    }

    /// The metrics of the source at `index`.
    pub fn metrics(&self, index: usize) -> Arc<SourceMetrics> {
        Arc::clone(&self.read()[index].metrics)
    }

    /// The numbering of the source at `index`.
    pub fn numbering(&self, index: usize) -> Arc<PageNumbering> {
        Arc::clone(&self.read()[index].numbering)
    }

    pub fn len(&self) -> usize {
        self.read().len()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Vec<SourceSlot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}
