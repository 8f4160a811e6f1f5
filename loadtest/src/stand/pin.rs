//! Which CPU cores this process may use: those that the router does not have, where there are any.

use std::io;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// What this process could use before.
pub struct Left(CpuSet);

/// Leaves these cores to the router, if others are left.
///
/// # Errors
/// The system refuses.
pub fn leave(cpus: &[usize]) -> io::Result<Left> {
    let before = sched_getaffinity(None)?;
    let mut rest = before;
    cpus.iter().for_each(|cpu| rest.unset(*cpu));
    if rest.count() > 0 {
        set_all(&rest)?;
    }
    Ok(Left(before))
}

impl Left {
    /// # Errors
    /// The system refuses.
    pub fn restore(self) -> io::Result<()> {
        set_all(&self.0)
    }
}

/// For every thread that there is; those to come inherit it.
fn set_all(cpus: &CpuSet) -> io::Result<()> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let number = task?.file_name().to_string_lossy().parse().ok();
        match sched_setaffinity(number.and_then(Pid::from_raw), cpus) {
            // A thread may end while we look.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
