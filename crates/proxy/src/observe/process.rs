//! What the operating system knows of the process, under the names that all Prometheus clients use. Read from `/proc`;
//! where that is not there, the values are left out.

use std::fs;

use super::text::{Page, Type};

/// Clock ticks per second in `/proc`: `USER_HZ`, which Linux fixes at 100 towards user space.
const TICKS: f64 = 100.0;

/// The values.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    start_seconds: Option<f64>,
}

impl Process {
    /// As they are now.
    pub fn read() -> Process {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process = Process::parse(
            &text("/proc/self/stat"),
            &text("/proc/self/status"),
            &text("/proc/self/limits"),
            &text("/proc/stat"),
        );
        // One of them is the folder being read.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|list| list.count().saturating_sub(1) as u64);
        process
    }

    fn parse(stat: &str, status: &str, limits: &str, system: &str) -> Process {
        // The command's name, in parentheses, may hold anything: fields are counted behind it. `state` is field 3.
        let fields: Vec<&str> = stat
            .rsplit_once(')')
            .map(|(_, rest)| rest.split_ascii_whitespace().collect())
            .unwrap_or_default();
        let ticks = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<f64>().ok());
        let kib = |name: &str| number_after(status, name).map(|kib| kib * 1024);
        let boot = number_after(system, "btime ").map(|seconds| seconds as f64);
        Process {
            cpu_seconds: ticks(14).zip(ticks(15)).map(|(user, kernel)| (user + kernel) / TICKS),
            resident_bytes: kib("VmRSS:"),
            virtual_bytes: kib("VmSize:"),
            threads: number_after(status, "Threads:"),
            open_fds: None,
            max_fds: number_after(limits, "Max open files"),
            start_seconds: boot.zip(ticks(22)).map(|(boot, after)| boot + after / TICKS),
        }
    }

    /// Writes them.
    pub fn write(&self, page: &mut Page) {
        use Type::{Counter, Gauge};
        if let Some(value) = self.cpu_seconds {
            page.family("process_cpu_seconds_total", Counter, "CPU time of user and kernel, in seconds.");
            page.sample(&[], value);
        }
        if let Some(value) = self.start_seconds {
            page.family("process_start_time_seconds", Gauge, "When the process started, Unix time.");
            page.sample(&[], value);
        }
        let gauges = [
            ("process_resident_memory_bytes", "Memory in RAM.", self.resident_bytes),
            ("process_virtual_memory_bytes", "Memory in the address space.", self.virtual_bytes),
            ("process_threads", "Threads.", self.threads),
            ("process_open_fds", "Open file descriptors.", self.open_fds),
            ("process_max_fds", "File descriptors that may be open at once.", self.max_fds),
        ];
        for (name, help, value) in gauges {
            if let Some(value) = value {
                page.family(name, Gauge, help);
                page.sample(&[], value);
            }
        }
    }
}

/// The number that follows a name at the start of a line.
fn number_after(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "7 (a ) b (c) R 1 7 7 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000 20 1 1";
        let status = "Name:\tx\nVmSize:\t  2048 kB\nVmRSS:\t    1024 kB\nThreads:\t3\n";
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        let process = Process::parse(stat, status, limits, "cpu 1 2\nbtime 1000\n");
        let expected = Process {
            cpu_seconds: Some(3.0),
            resident_bytes: Some(1 << 20),
            virtual_bytes: Some(2 << 20),
            threads: Some(3),
            open_fds: None,
            max_fds: Some(1024),
            start_seconds: Some(1123.45),
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse("", "", "", ""), Process::default());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_can_be_read() {
        let process = Process::read();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.open_fds.unwrap() >= 3 && process.max_fds.unwrap() >= process.open_fds.unwrap());
        assert!(process.start_seconds.unwrap() <= now + 1.0);
    }
}
