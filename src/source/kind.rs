//! The kinds of sources, as the rest of the router sees them.
//!
//! ```text
//! settings of a source ── SourceType ──► check, secrets, address       commands, admin pages
//!                             │
//!                             └─ start ──► Source ── run, report       one task, supervised
//! ```
//!
//! A new kind is a folder with its settings, which implement [`SourceType`], and one line in the
//! registry (`settings.rs`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use super::Intake;
use super::report::Observed;

/// The settings of one kind of source.
pub trait SourceType: Send + Sync {
    /// The address that it reads, or listens on. For people.
    fn address(&self) -> String;

    /// Makes everything that needs no connection, and returns the reason if that fails.
    fn check(&self) -> Result<(), String>;

    /// Stretch before its position that a restarted source reads again.
    fn overlap(&self) -> Duration {
        Duration::ZERO
    }

    /// Checkpoint file of an old router. A source without a position resumes from it.
    fn import_checkpoint(&self) -> Option<&Path> {
        None
    }

    /// Bytes on disk that its inbox may take; 0 for a source that is read.
    fn inbox_bytes_max(&self) -> u64 {
        0
    }

    /// Tries to connect once, and describes the other end; `Err` has the reason of a failure.
    /// Leaves nothing open there, even if `interrupted` turns true meanwhile.
    fn connect(&self, interrupted: watch::Receiver<bool>) -> BoxFuture<'_, Result<Reached, String>>;

    /// Makes the source. It does nothing before [`Source::run`].
    fn start(&self, parts: SourceParts) -> Arc<dyn Source>;

    /// Time between two turns of its task, beyond the usual: the longest call.
    fn longest_call(&self) -> Duration {
        Duration::ZERO
    }
}

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Reached {
    /// A description for people.
    pub text: String,
    /// The id of the vCenter, if it is one.
    pub instance_uuid: Option<Uuid>,
}

/// A source for one run of the router. It keeps its numbering and its position when
/// [`Source::run`] panics, so that the next call continues.
pub trait Source: Send + Sync {
    /// Runs until the shutdown. Never returns before that.
    fn run(&self) -> BoxFuture<'_, ()>;

    /// Its state and its counters, which outlive it.
    fn observed(&self) -> Arc<dyn Observed>;

    /// Notes the `end` of the source's task, which is started again.
    fn task_ended(&self, end: &str);
}

/// The end of a reading that does not go on for ever.
#[derive(Clone, Debug)]
pub struct ReadUntil {
    /// Events created after this time are not read, microseconds since 1970 UTC.
    pub end_us: i64,
    /// Turns true once all events up to the end were read and decoded.
    pub reached: watch::Sender<bool>,
}

/// Everything that a source gets from the router.
pub struct SourceParts {
    pub name: String,
    pub intake: Intake,
    /// No event may enter the pipeline before this.
    pub ready: BoxFuture<'static, ()>,
    /// Set for a reading with an end. Only vCenters know one.
    pub until: Option<ReadUntil>,
    /// Turns true when the source has to stop.
    pub shutdown: watch::Receiver<bool>,
    /// The number of sources of this router.
    pub sources: usize,
    /// True if a processor wants events as XML.
    pub wants_xml: bool,
    /// True if a route or a processor uses the severities of events.
    pub wants_severities: bool,
}
