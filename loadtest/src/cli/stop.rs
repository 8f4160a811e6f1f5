//! The signals that end a command: Ctrl-C, SIGTERM, and SIGHUP from a closed terminal.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The bit of SIGHUP in the kernel's signal masks (proc_pid_status(5)).
const HANGUP_BIT: u64 = 1;

/// Catches the signals from its creation on. A server creates it before it announces itself,
/// because its starter may stop it right afterwards.
pub struct Stop {
    interrupt: Signal,
    terminate: Signal,
    /// `None` under `nohup`, which asks the program to continue.
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

    /// Waits for the next signal.
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

/// Reads the mask of ignored signals from the text of `/proc/self/status`.
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
