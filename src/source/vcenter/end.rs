//! The errors of the source's tasks, and the decision which of them ends a session.
//!
//! A task retries by itself. It returns an [`End`] only if the session is unusable for all tasks.

use super::client::CallError;
use crate::source::Closed;
use vsphere::api::FaultKind;

/// The reason why a task of a source ends.
#[derive(Debug)]
pub(super) enum End {
    /// The session is lost or unusable. A new login is needed.
    Session(String),
    /// Calls fail one after the other, so that the session may be lost. A new login shows it.
    Unreachable(String),
    /// The pipeline accepts no more pages.
    Closed,
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        End::Closed
    }
}

/// A call or a push that failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl LinkError {
    /// Returns the end of the session if this error ends it.
    pub fn end(&self) -> Option<End> {
        match self {
            LinkError::Closed(_) => Some(End::Closed),
            LinkError::Call(error) if error.fault() == Some(FaultKind::NotAuthenticated) => {
                Some(End::Session(error.to_string()))
            }
            LinkError::Call(_) => None,
        }
    }

    /// Returns the end of the session if it has no room for another collector. Leaked collectors
    /// end with it.
    pub fn session_full(&self) -> Option<End> {
        let LinkError::Call(error @ CallError::Fault { method: "CreateCollectorForEvents", .. }) = self
        else {
            return None;
        };
        (error.fault() == Some(FaultKind::InvalidState)).then(|| End::Session(error.to_string()))
    }
}
