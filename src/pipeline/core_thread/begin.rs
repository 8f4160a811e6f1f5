//! The begin of a source, and its exit. The begin loads its checkpoint, or imports that of the old
//! router, and makes its first checkpoint durable. The exit makes the last one durable.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::{CoreThread, show_position};
use crate::pipeline::control::{Beginning, Control};
use crate::pipeline::core::NotSettled;
use crate::pipeline::driver::now_us;
use crate::pipeline::settings::SourceSettings;
use crate::state::{Checkpoint, LegacyCheckpoint, Storage, Write, read_legacy_checkpoint};
use crate::telemetry::metrics::DestinationMetrics;

impl CoreThread {
    /// Asks the store for a source's checkpoint, or the old router's checkpoint file if the store
    /// has none.
    pub(super) fn load(&mut self, beginning: Beginning) {
        let (source, found) = (beginning.begin.source, &beginning.begin.found);
        if let Some(start) = self.core.begin_again(source, found) {
            // A source that has stopped meanwhile does not wait for the answer.
            let _ = beginning.begin.answer.send(start);
            return;
        }
        let control = self.shared.control.clone();
        let SourceSettings { name, import_checkpoint: import, .. } =
            self.settings.sources[beginning.begin.source].clone();
        self.shared.store.with(move |store| {
            let stored = Box::new(store.load(&name)?);
            let legacy_checkpoint = match import {
                Some(path) => read_legacy_checkpoint(store, &name, &path, now_us())?,
                None => LegacyCheckpoint::NotNeeded,
            };
            control.send(Control::Loaded { beginning, stored, legacy_checkpoint });
            Ok(())
        });
    }

    /// Lets a source go that has left nothing behind, also no events in a spool: what waits there
    /// must arrive before later events, which another node will deliver.
    pub(super) fn leave(&mut self, source: usize, pages: u64, answer: oneshot::Sender<bool>) {
        let spools = |metrics: &DestinationMetrics| metrics.backlog.spool_events.count() > 0;
        let destinations = self.shared.observations.destinations();
        let left = match destinations.iter().any(|(_, observed)| spools(&observed.metrics)) {
            true => Err(NotSettled),
            false => self.core.leave(source, pages),
        };
        // The source does not wait for the answer once it has to stop.
        match left {
            Err(NotSettled) => drop(answer.send(false)),
            Ok(None) => drop(answer.send(true)),
            Ok(Some(last)) => self.shared.store.apply(vec![Write::Checkpoint(last)], move |_| {
                let _ = answer.send(true);
            }),
        }
    }

    pub(super) fn begin(
        &mut self,
        beginning: Beginning,
        stored: Option<Checkpoint>,
        legacy_checkpoint: LegacyCheckpoint,
    ) {
        let begin = &beginning.begin;
        let name = self.settings.sources[begin.source].name.clone();
        let taken_over = taken_over(&name, legacy_checkpoint);
        let stored = stored.or_else(|| {
            let (_, resume_us) = taken_over.as_ref()?;
            Some(Checkpoint::at(&name, begin.found.instance_uuid, *resume_us))
        });
        match self.core.begin(begin.source, &begin.found, stored) {
            Ok((start, write)) => {
                if let Some(other) = self.core.twin(begin.source) {
                    let instance_uuid = begin.found.instance_uuid;
                    tracing::warn!(source = %name, %other, %instance_uuid, "two sources read the same vCenter; events that both read are delivered twice with the same id");
                }
                show_position(&self.shared.sources, &write);
                let control = self.shared.control.clone();
                // One transaction: an old position must not be imported twice, nor be recorded as
                // imported without its checkpoint.
                let imported = taken_over.map(|(path, resume_us)| Write::Imported {
                    source: name,
                    path: path.display().to_string(),
                    resume_us,
                });
                let writes = imported.into_iter().chain([Write::Checkpoint(write)]).collect();
                self.shared.store.apply(writes, move |_| {
                    control.send(Control::Begun { beginning, start });
                });
            }
            Err(error) => {
                let _ = beginning.begin.answer.send(Err(error));
            }
        }
    }
}

/// The file and the resume time to import from the old router. Logs a line for the operator of the
/// upgrade.
fn taken_over(source: &str, legacy_checkpoint: LegacyCheckpoint) -> Option<(PathBuf, i64)> {
    let shown =
        |us: i64| jiff::Timestamp::from_microsecond(us).map_or_else(|_| us.to_string(), |at| at.to_string());
    match legacy_checkpoint {
        LegacyCheckpoint::NotNeeded => None,
        LegacyCheckpoint::Absent { path } => {
            tracing::info!(%source, path = %path.display(), "no checkpoint of the old router here; starting as `startAt` says");
            None
        }
        LegacyCheckpoint::Resume { path, resume_us, key } => {
            tracing::info!(%source, path = %path.display(), resume = shown(resume_us), key, "going on where the old router was; what it delivered within the overlap comes again");
            Some((path, resume_us))
        }
        LegacyCheckpoint::Unusable { path, reason, written_us: Some(us) } => {
            tracing::warn!(%source, path = %path.display(), reason, resume = shown(us), "the checkpoint of the old router cannot be used; going on at the time the file was last written");
            Some((path, us))
        }
        LegacyCheckpoint::Unusable { path, reason, written_us: None } => {
            tracing::error!(%source, path = %path.display(), reason, "the checkpoint of the old router cannot be used; starting as `startAt` says, events since it ended may be missing: give the source a `startAt` before that");
            None
        }
    }
}
