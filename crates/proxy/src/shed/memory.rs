//! What the process takes of the memory, and what it may. Where `/proc` and control groups are not there, nothing is known.

use std::{fs, path::Path};

/// Bytes in RAM.
pub(super) fn of_process() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/statm").ok()?, rustix::param::page_size() as u64)
}

/// The second number, in pages (proc_pid_statm(5)).
fn resident(statm: &str, page: u64) -> Option<u64> {
    statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(page)
}

/// What the control group of the process may take, and those around it; `None` when there is no limit.
pub(super) fn of_cgroup() -> Option<u64> {
    limit(&fs::read_to_string("/proc/self/cgroup").ok()?, Path::new("/sys/fs/cgroup"))
}

/// From the groups as `/proc/self/cgroup` tells them: `0::/path` (version 2), `4:memory:/path` (version 1).
fn limit(groups: &str, root: &Path) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => (root.to_path_buf(), "memory.max"),
            list if list.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        // In a container, the path may be that of the host, which is not there: then the top is its own group.
        let own = top.join(group.trim_start_matches('/'));
        for folder in own.ancestors().take_while(|folder| folder.starts_with(&top)) {
            let text = fs::read_to_string(folder.join(file)).unwrap_or_default();
            // "max"; in version 1, no limit is a number near 2^63.
            let bytes = text.trim().parse::<u64>().ok().filter(|bytes| *bytes < 1 << 60);
            least = [least, bytes].into_iter().flatten().min();
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bytes() {
        assert_eq!(resident("5000 300 20 1 0 90 0\n", 4096), Some(300 * 4096));
        assert_eq!((resident("", 4096), resident("1 x", 4096)), (None, None));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_takes_something() {
        assert!(of_process().unwrap() > 100_000);
    }

    #[test]
    fn the_least_limit_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("a/memory.max", "3000\n");
        write("a/b/memory.max", "max\n");
        write("memory/c/memory.limit_in_bytes", "2000\n");
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let of = |groups| limit(groups, root.path());
        assert_eq!(of("0::/a/b\n"), Some(3000), "that of the group around it");
        assert_eq!(of("0::/\n"), None);
        assert_eq!(of("0::/elsewhere\n"), None);
        assert_eq!(of("4:cpu,memory:/c\n0::/a\n"), Some(2000));
        assert_eq!(of("4:memory:/\n"), None, "near 2^63 is no limit");
        assert_eq!(of("nonsense"), None);
    }
}
