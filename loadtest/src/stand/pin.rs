//! CPU affinity: keeps this process off the router's cores, if other cores are left.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The affinity of this process before a change.
pub struct SavedAffinity(CpuSet);

/// Keeps this process off the router's cores, if other cores are left.
///
/// # Errors
/// The system refuses.
pub fn avoid(cpus: &[usize]) -> io::Result<SavedAffinity> {
    let before = sched_getaffinity(None)?;
    let mut rest = before;
    cpus.iter().for_each(|cpu| rest.unset(*cpu));
    if rest.count() > 0 {
        set_all(&rest)?;
    }
    Ok(SavedAffinity(before))
}

impl SavedAffinity {
    /// # Errors
    /// The system refuses.
    pub fn restore(self) -> io::Result<()> {
        set_all(&self.0)
    }
}

/// Sets the affinity of every thread. New threads inherit it.
fn set_all(cpus: &CpuSet) -> io::Result<()> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let number = task?.file_name().to_string_lossy().parse().ok();
        match sched_setaffinity(number.and_then(Pid::from_raw), cpus) {
            // A thread may end during the loop.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
