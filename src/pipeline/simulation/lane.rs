//! Bounds and rest of one destination: its jobs, its mail, and the moment when it has nothing to do.

use super::inside::{Lane, Mail, Reply};
use crate::pipeline::deliver::Input;

impl Reply {
    /// The lane that the job belongs to. Jobs of replays have a bound of their own.
    pub(super) fn lane(&self) -> Option<usize> {
        match self {
            Reply::Mail(lane, _) | Reply::Appended(lane, _) | Reply::Fetch { lane, .. } => Some(*lane),
            Reply::Checkpointed
            | Reply::Unreadable(_)
            | Reply::Undecided(_)
            | Reply::Replay(..)
            | Reply::Replayed => None,
        }
    }
}

impl Lane {
    /// Number of messages that the bound on the lane's own jobs counts.
    pub(super) fn own_mail(&self) -> usize {
        let is_own = |mail: &&Mail| match mail {
            Mail::Input(input) => {
                matches!(input, Input::Appended { .. } | Input::Fetched { .. } | Input::Refused)
            }
            Mail::Replay { .. } => false,
            Mail::Removed
            | Mail::RowsAdded
            | Mail::DeadLettered(_)
            | Mail::Adoptions
            | Mail::AdoptionEnds => true,
        };
        self.mail.iter().filter(is_own).count()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.mail.is_empty() && self.engine.is_idle() && self.spool_jobs.is_quiet() && self.letters.is_quiet()
    }
}
