//! The signals that end a command: Ctrl-C, SIGTERM, and SIGHUP of a terminal that is closed.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGHUP's bit in the kernel's masks of signals (proc_pid_status(5)).
const HANGUP_BIT: u64 = 1;

/// From now on these signals do not end the process. Made before a server says that it is there, or whoever started it may stop it too early.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// Not under `nohup`, whose word is that the program goes on.
    hangup: Option<Signal>,
}

impl Stop {
    /// # Errors
    /// The system does not deliver signals.
    pub fn new() -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("cannot wait for signals");
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        Ok(Stop {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: if ignores_hangup(&status) { None } else { Some(listen(SignalKind::hangup())?) },
        })
    }

    /// Until the next of them.
    pub async fn wait(&mut self) {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

/// By the text of `/proc/self/status`.
fn ignores_hangup(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & HANGUP_BIT != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nohup_is_seen() {
        assert!(ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\n"));
        assert!(!ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"));
        assert!(!ignores_hangup(""));
    }
}
