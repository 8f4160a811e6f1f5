//! Faults on request, for the tests of supervision. Packages are built without the feature
//! `faults`; the functions here do nothing then.
//!
//! `EVENT_ROUTER_FAULT_FILE` names a file that a test writes and removes while the router runs:
//!
//! ```text
//! panic PART     the part panics at its next step, once for each content of the file
//! stall PART     the part stays in its next step until the line is gone
//! ```

#[cfg(feature = "faults")]
pub(super) use armed::{point, stall_after, watch};

#[cfg(not(feature = "faults"))]
pub(super) use absent::{point, stall_after, watch};

#[cfg(not(feature = "faults"))]
mod absent {
    use std::time::Duration;

    pub fn watch() {}

    pub fn point(_part: &str) {}

    pub fn stall_after(_part: &str, bound: Duration) -> Duration {
        bound
    }
}

#[cfg(feature = "faults")]
mod armed {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::sync::{Mutex, MutexGuard, PoisonError};
    use std::time::Duration;

    const FILE: &str = "EVENT_ROUTER_FAULT_FILE";
    /// Interval at which the file is read, and at which a stalled part looks again.
    const INTERVAL: Duration = Duration::from_millis(20);
    /// Time after which a part that a test stalls counts as stalled.
    const STALL_AFTER: Duration = Duration::from_millis(300);

    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Fault {
        Panic(String),
        Stall(String),
    }

    /// True while a fault is armed, so that a step without one costs a single read.
    static IS_ARMED: AtomicBool = AtomicBool::new(false);
    static FAULTS: Mutex<Vec<Fault>> = Mutex::new(Vec::new());

    fn faults() -> MutexGuard<'static, Vec<Fault>> {
        FAULTS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn parse(line: &str) -> Option<Fault> {
        match line.split_once(' ')? {
            ("panic", part) => Some(Fault::Panic(part.to_owned())),
            ("stall", part) => Some(Fault::Stall(part.to_owned())),
            _ => None,
        }
    }

    /// Starts to follow the file, if one is named.
    pub fn watch() {
        let Some(file) = std::env::var_os(FILE).map(PathBuf::from) else { return };
        std::thread::spawn(move || {
            let mut known = String::new();
            loop {
                let text = std::fs::read_to_string(&file).unwrap_or_default();
                if text != known {
                    let armed: Vec<Fault> = text.lines().filter_map(parse).collect();
                    IS_ARMED.store(!armed.is_empty(), Relaxed);
                    *faults() = armed;
                    known = text;
                }
                std::thread::sleep(INTERVAL);
            }
        });
    }

    fn is_stalled(part: &str) -> bool {
        IS_ARMED.load(Relaxed) && faults().contains(&Fault::Stall(part.to_owned()))
    }

    /// Carries out the fault that is armed for `part`, if any.
    pub fn point(part: &str) {
        if !IS_ARMED.load(Relaxed) {
            return;
        }
        let panic = Fault::Panic(part.to_owned());
        let is_to_panic = {
            let mut armed = faults();
            let before = armed.len();
            armed.retain(|fault| *fault != panic);
            armed.len() < before
        };
        assert!(!is_to_panic, "a fault\nthat a test asked for");
        while is_stalled(part) {
            std::thread::sleep(INTERVAL);
        }
    }

    /// A part that is stalled on request counts as stalled at once. Others keep their `bound`.
    pub fn stall_after(part: &str, bound: Duration) -> Duration {
        if is_stalled(part) { STALL_AFTER } else { bound }
    }
}
