//! CPU time, memory and threads of a process, from Linux's proc(5).

use std::fs;
use std::path::PathBuf;

use serde::Serialize;

/// A process at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// User and system time of all its threads, including those that have ended.
    pub cpu_seconds: f64,
    pub rss_bytes: u64,
    /// The highest value so far.
    pub rss_peak_bytes: u64,
}

/// The threads with one name, and their CPU time.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ThreadGroup {
    pub name: String,
    pub count: u32,
    pub cpu_seconds: f64,
}

/// The id of this process.
pub fn own_pid() -> u32 {
    std::process::id()
}

/// `None` if the process has ended.
pub fn usage(pid: u32) -> Option<ProcessUsage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let (rss_bytes, rss_peak_bytes) = (status_bytes(&status, "VmRSS:")?, status_bytes(&status, "VmHWM:")?);
    Some(ProcessUsage { cpu_seconds: cpu_seconds(&stat)?, rss_bytes, rss_peak_bytes })
}

/// Fields 14 and 15 of `stat`. They are counted from the name in brackets, which may contain
/// anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// Threads grouped by name without its number (`parse-0` and `parse-1` are `parse`), busiest first.
pub fn threads(pid: u32) -> Vec<ThreadGroup> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found: Vec<ThreadGroup> = Vec::new();
    for (name, cpu_seconds) in tasks.filter_map(|task| thread(task.path())) {
        match found.iter_mut().find(|threads| threads.name == name) {
            Some(threads) => {
                threads.count += 1;
                threads.cpu_seconds += cpu_seconds;
            }
            None => found.push(ThreadGroup { name, count: 1, cpu_seconds }),
        }
    }
    found.sort_by(|a, b| b.cpu_seconds.total_cmp(&a.cpu_seconds));
    found
}

fn thread(folder: PathBuf) -> Option<(String, f64)> {
    let name = fs::read_to_string(folder.join("comm")).ok()?;
    let name = name.trim_end();
    let name = match name.rsplit_once('-') {
        Some((name, number)) if number.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    };
    let nanos: u64 = fs::read_to_string(folder.join("schedstat")).ok()?.split(' ').next()?.parse().ok()?;
    Some((name.to_owned(), nanos as f64 / 1e9))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 4 0";
        let seconds = cpu_seconds(stat).unwrap();
        assert_eq!(seconds, 200.0 / rustix::param::clock_ticks_per_second() as f64);
        assert_eq!(status_bytes("VmHWM:\t  2048 kB\nVmRSS:\t1024 kB\n", "VmRSS:"), Some(1 << 20));
    }

    #[test]
    fn this_process_is_alive() {
        let before = usage(own_pid()).unwrap();
        assert!(before.rss_bytes > 100_000 && before.rss_peak_bytes >= before.rss_bytes);
        assert!(!threads(own_pid()).is_empty());
        assert_eq!(usage(u32::MAX), None);
    }
}
