//! Reload: applies another configuration to a running router.
//!
//! ```text
//!  new configuration ─► plan ─► build changed processors     an error changes nothing
//!                         │
//!                         ├─► stop removed sources, route their last pages
//!                         ├─► stop changed sources
//!                         ├─► pipeline: routes, processors    between two pages
//!                         └─► start new and changed sources
//! ```
//!
//! Removed sources stop first, so that their last events are routed by the routes that they were
//! read for. Changed sources read on while the pipeline waits for the end of removed parts. They
//! stop before they start again: both would read with one position.
//!
//! INVARIANT: everything that can be wrong with a configuration is found before the first source is
//! stopped.

use std::mem::discriminant;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{
    BuildError, Processors, Router, RunningSource, bounds, functions, pipeline_settings, start_source,
    view_of,
};
use crate::pipeline::reload::{PipelineReload, PipelineReloadError};
use crate::processor::Processor;
use crate::settings::changes::{Changes, ReloadPlan, plan};
use crate::settings::{Config, ProcessorConfig};
use crate::supervise::limits::SOURCE_STOP_SHARE;
use crate::telemetry::log;

/// A processor that was built for the new configuration; `None` keeps the running one.
type MadeProcessor = Option<Arc<dyn Processor>>;

/// A configuration could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    #[error(transparent)]
    Processor(#[from] BuildError),
    #[error(transparent)]
    Pipeline(#[from] PipelineReloadError),
}

impl ReloadError {
    /// True if the configuration is wrong, and not the router.
    pub fn is_invalid(&self) -> bool {
        matches!(
            self,
            ReloadError::Invalid(_)
                | ReloadError::Processor(_)
                | ReloadError::Pipeline(PipelineReloadError::Start(_) | PipelineReloadError::Slots(_))
        )
    }
}

impl Router {
    /// The changes that [`Router::reload`] would make.
    ///
    /// # Errors
    /// The two configurations cannot be mixed where a part needs a restart.
    pub fn plan(&self, new: &Config) -> Result<Changes, ReloadError> {
        Ok(self.valid_plan(new)?.changes)
    }

    fn valid_plan(&self, new: &Config) -> Result<ReloadPlan, ReloadError> {
        let mut plan = plan(&self.config, new);
        plan.problems
            .extend(plan.config.sources.iter().filter_map(|source| self.leases.problem(&source.name)));
        if plan.problems.is_empty() { Ok(plan) } else { Err(ReloadError::Invalid(plan.problems)) }
    }

    /// Applies another configuration. Parts that did not change do not notice. Must run within the
    /// tokio runtime of the router.
    ///
    /// # Errors
    /// On an error nothing has changed.
    pub async fn reload(&mut self, new: &Config) -> Result<Changes, ReloadError> {
        let ReloadPlan { mut changes, config, sources: starts, processors: makes, .. } =
            self.valid_plan(new)?;
        let settings = pipeline_settings::pipeline(&config);
        // Find what is wrong before anything changes.
        let (processors, made) = self.build_changed(&config, &makes)?;
        self.pipeline.check(&settings)?;
        let known = self.known_destinations().await?;
        // Start the new processors, which read their functions or rules meanwhile.
        for (settings, processor) in config.processors.iter().zip(&made) {
            let Some(processor) = processor else { continue };
            processor.restore(functions(&settings.name, &known));
            Arc::clone(processor).start(&self.supervisor, &settings.name);
        }
        // Stop sources.
        let goes_on = |name: &str| {
            config.sources.iter().zip(&starts).any(|(source, starts)| source.name == name && !starts)
        };
        let is_configured = |name: &str| config.sources.iter().any(|source| source.name == name);
        let stop = async |stopping: Vec<RunningSource>| {
            stopping.iter().for_each(RunningSource::stop);
            let until = Instant::now() + config.shutdown_timeout / SOURCE_STOP_SHARE;
            futures_util::future::join_all(stopping.into_iter().map(|source| source.ended_by(until))).await;
        };
        let running = std::mem::take(&mut self.sources);
        let (mut sources, stopping): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|source| goes_on(&source.name));
        let (changed, removed): (Vec<_>, Vec<_>) =
            stopping.into_iter().partition(|source| is_configured(&source.name));
        let gone: Vec<String> = removed.iter().map(|source| source.name.clone()).collect();
        stop(removed).await;
        // Change the pipeline.
        let is_replacing = |new: &&ProcessorConfig| {
            self.removed.get(&new.name).is_some_and(|kind| *kind != discriminant(&new.kind))
        };
        let replacing = config.processors.iter().filter(is_replacing).map(|new| new.name.clone()).collect();
        let reload = PipelineReload {
            settings,
            processors: made,
            replacing,
            retire_within: config.shutdown_timeout,
            bounds: bounds(&config),
        };
        // From here on an error means that the process ends: the store or the pipeline has failed.
        let removed = self.pipeline.reload(reload, stop(changed)).await?;
        for processor in removed {
            let note = format!("{} events in memory", processor.unsettled);
            changes.add_note(&format!("processor {}", processor.name), &note);
        }
        // Other nodes may go on with removed sources.
        gone.iter().for_each(|name| self.leases.give_back(name));
        // Start sources.
        for (at, source) in config.sources.iter().enumerate().filter(|(at, _)| starts[*at]) {
            let intake = self.pipeline.intake_of(&source.name).expect("the pipeline has just got it");
            let with = (&self.pipeline.store(), &self.supervisor);
            let lease = self.leases.of_started(source, &mut self.keepers, with);
            let lease = lease.map(|lease| (lease, self.pipeline.exit()));
            sources.push(start_source(&config, at, &processors.all, intake, None, lease, &self.supervisor));
        }
        let place = |name: &str| config.sources.iter().position(|source| source.name == name);
        sources.sort_by_key(|source| place(&source.name));
        let is_removed = |old: &&ProcessorConfig| config.processors.iter().all(|new| new.name != old.name);
        let removed = self.config.processors.iter().filter(is_removed);
        self.removed.extend(removed.map(|old| (old.name.clone(), discriminant(&old.kind))));
        self.removed.retain(|name, _| config.processors.iter().all(|new| new.name != *name));
        log::set_level(&config.log);
        self.leases.set_config(&config);
        self.config = Arc::new(config);
        (self.sources, self.processors) = (sources, processors);
        self.view.send_replace(view_of(&self.config, &self.sources, &self.processors, &self.pipeline));
        Ok(changes)
    }

    /// Builds the processors that are new or have changed. Returns all processors of `config`, and
    /// those that were built.
    fn build_changed(
        &self,
        config: &Config,
        makes: &[bool],
    ) -> Result<(Processors, Vec<MadeProcessor>), BuildError> {
        let (mut all, mut made) = (Processors::default(), Vec::new());
        for (settings, makes) in config.processors.iter().zip(makes) {
            let before = self.config.processors.iter().position(|before| before.name == settings.name);
            // The counts of a processor go on.
            let invocations =
                before.map_or_else(Arc::default, |at| Arc::clone(&self.processors.invocations[at]));
            let kept = before.filter(|_| !makes).map(|at| Arc::clone(&self.processors.all[at]));
            let (processor, is_made) = match kept {
                Some(kept) => (kept, false),
                None => (Processors::build_one(config, settings, &invocations, &self.leases)?, true),
            };
            made.push(is_made.then(|| Arc::clone(&processor)));
            all.all.push(processor);
            all.invocations.push(invocations);
        }
        Ok((all, made))
    }

    /// Names of destinations that had events, by the last checkpoints.
    async fn known_destinations(&self) -> Result<std::collections::BTreeSet<String>, PipelineReloadError> {
        let sources: Vec<String> = self.config.sources.iter().map(|source| source.name.clone()).collect();
        let (found, wait) = oneshot::channel();
        self.pipeline.store().with(move |store| {
            let _ = found.send(store.reader().destinations(&sources)?);
            Ok(())
        });
        wait.await.map_err(|_| PipelineReloadError::Stopped)
    }
}
