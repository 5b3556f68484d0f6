//! What the kernel says about processes and cores: CPU time, peak memory, who belongs to whom.

use std::{fs, process::Command, sync::OnceLock};

/// Fields of `/proc/PID/stat` after the command's name, counted from the state as 0 (proc(5) counts from 3).
const PPID: usize = 1;
const UTIME: usize = 11;
const STIME: usize = 12;
const CUTIME: usize = 13;
const CSTIME: usize = 14;

/// The process and all that descend from it. Processes that ended meanwhile are simply missing.
pub fn tree(root: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, u32::try_from(*stat(&pid.to_string())?.get(PPID)?).ok()?)))
        .collect();
    let mut out = vec![root];
    let mut next = 0;
    while let Some(parent) = out.get(next).copied() {
        out.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    out
}

/// User and system time of these processes with all their threads, ended threads included, in seconds.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks: u64 = pids
        .iter()
        .filter_map(|pid| stat(&pid.to_string()))
        .filter_map(|s| Some(s.get(UTIME)? + s.get(STIME)?))
        .sum();
    ticks as f64 / ticks_per_second()
}

/// CPU time of this program's children that have ended and been waited for, in seconds.
pub fn ended_children_cpu_seconds() -> f64 {
    let ticks = stat("self").and_then(|s| Some(s.get(CUTIME)? + s.get(CSTIME)?)).unwrap_or(0);
    ticks as f64 / ticks_per_second()
}

/// Peak resident memory of these processes together, in MB (10^6 bytes).
pub fn peak_memory_mb(pids: &[u32]) -> f64 {
    let kib: f64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|text| status_kib(&text, "VmHWM:"))
        .sum();
    kib * 1024.0 / 1e6
}

/// Resident memory of these processes together, in MB (10^6 bytes), as it is now.
pub fn memory_mb(pids: &[u32]) -> f64 {
    let kib: f64 = pids
        .iter()
        .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .filter_map(|text| status_kib(&text, "VmRSS:"))
        .sum();
    kib * 1024.0 / 1e6
}

/// Time that these cores spent on anything but waiting, in seconds: their own users, interrupts, and what the
/// hypervisor took away. `cores` is a list as `taskset -c` takes it (`0`, `0,2`, `0-3`).
pub fn busy_seconds(cores: &str) -> f64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    busy_ticks(&text, &parse_cores(cores)) as f64 / ticks_per_second()
}

fn busy_ticks(text: &str, cores: &[usize]) -> u64 {
    text.lines()
        .filter_map(|line| {
            let (name, rest) = line.split_once(' ')?;
            cores.contains(&name.strip_prefix("cpu")?.parse().ok()?).then_some(rest)
        })
        .flat_map(|rest| {
            // user nice system idle iowait irq softirq steal
            rest.split_whitespace().take(8).enumerate().filter(|(i, _)| !matches!(i, 3 | 4))
        })
        .filter_map(|(_, value)| value.parse::<u64>().ok())
        .sum()
}

/// The cores of a list such as `0,2-4`; what does not parse is left out.
pub fn parse_cores(list: &str) -> Vec<usize> {
    list.split(',')
        .filter_map(|part| {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            Some(from.trim().parse::<usize>().ok()?..=to.trim().parse().ok()?)
        })
        .flatten()
        .collect()
}

/// The numbers of `/proc/PID/stat` after the state. The command's name may hold spaces and brackets, hence the
/// search for the last bracket.
fn stat(pid: &str) -> Option<Vec<u64>> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Vec<u64>> {
    let (_, rest) = text.rsplit_once(')')?;
    // Some fields (nice, tty) may be negative or no number (state); their value is not used.
    Some(rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
}

fn status_kib(status: &str, key: &str) -> Option<f64> {
    status.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()
}

/// Ticks of the clock in which the kernel tells CPU time, per second.
fn ticks_per_second() -> f64 {
    static TICKS: OnceLock<f64> = OnceLock::new();
    *TICKS.get_or_init(|| {
        let told = Command::new("getconf").arg("CLK_TCK").output().ok();
        told.and_then(|o| String::from_utf8(o.stdout).ok()?.trim().parse().ok()).unwrap_or(100.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let s = parse_stat("42 (a) b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 8 9 20 0 1 0").unwrap();
        assert_eq!((s.get(PPID), s.get(UTIME), s.get(STIME)), (Some(&7), Some(&150), Some(&50)));
        assert_eq!((s.get(CUTIME), s.get(CSTIME)), (Some(&8), Some(&9)));
    }

    #[test]
    fn busy_leaves_idle_and_waiting_out() {
        let text =
            "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 1 2 3 1000 1000 4 5 6 7 8\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 1";
        assert_eq!(busy_ticks(text, &[0]), 21);
        assert_eq!(busy_ticks(text, &[0, 1]), 27);
    }

    #[test]
    fn lists_of_cores() {
        assert_eq!(parse_cores("0,2-4"), [0, 2, 3, 4]);
    }

    #[test]
    fn this_process_has_a_tree_time_and_memory() {
        let own = tree(std::process::id());
        assert_eq!(own.first(), Some(&std::process::id()));
        assert!(peak_memory_mb(&own) > 0.5);
        assert!(memory_mb(&own) > 0.5 && memory_mb(&own) < peak_memory_mb(&own) + 1.0);
        assert!(cpu_seconds(&own) >= 0.0);
    }
}
