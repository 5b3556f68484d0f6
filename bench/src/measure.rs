//! The figures that a run gives, and which of them are shown for which kind of load.

use crate::{compare::Run, scenario::Tool};

/// A figure taken from every run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Requests (or handshakes) per second.
    Rate,
    /// CPU time of the proxy for each.
    Cpu,
    /// Latency, half below.
    P50,
    /// Latency, 99 % below.
    P99,
    /// Latency, 99.9 % below.
    P999,
    /// Peak of resident memory.
    Peak,
    /// Resident memory before the first connection.
    Resting,
    /// Resident memory for each connection.
    Connection,
}

impl Measure {
    /// What is shown of such a load; the first is what the chart is of.
    pub fn of_tool(tool: Tool) -> &'static [Measure] {
        use Measure::{Connection, Cpu, P50, P99, P999, Peak, Rate, Resting};
        match tool {
            Tool::Wrk | Tool::H2load { .. } | Tool::Http3 { .. } | Tool::Handshakes { .. } => {
                &[Cpu, Rate, P50, P99, Peak]
            }
            Tool::Pace => &[P99, P50, P999, Cpu, Rate],
            Tool::Idle => &[Connection, Resting, Peak],
        }
    }

    /// Heading of its column.
    pub fn title(self, tool: Tool) -> &'static str {
        let handshakes = matches!(tool, Tool::Handshakes { .. });
        match self {
            Measure::Rate if handshakes => "handshakes/s",
            Measure::Rate => "requests/s",
            Measure::Cpu if handshakes => "CPU µs/handshake",
            Measure::Cpu => "CPU µs/request",
            Measure::P50 => "p50 ms",
            Measure::P99 => "p99 ms",
            Measure::P999 => "p99.9 ms",
            Measure::Peak => "peak MB",
            Measure::Resting => "at rest MB",
            Measure::Connection => "KiB/connection",
        }
    }

    /// Its value in one run.
    pub fn of(self, run: &Run) -> f64 {
        match self {
            Measure::Rate => run.rate(),
            Measure::Cpu => run.cpu_per_request(),
            Measure::P50 => run.load.p50,
            Measure::P99 => run.load.p99,
            Measure::P999 => run.load.p999,
            Measure::Peak => run.memory,
            Measure::Resting => run.resting,
            Measure::Connection => run.per_connection,
        }
    }

    /// Whether more is better.
    pub fn more(self) -> bool {
        self == Measure::Rate
    }

    /// Digits behind the point that mean something.
    pub fn digits(self, value: f64) -> usize {
        match self {
            Measure::Rate => 0,
            Measure::Peak | Measure::Resting => 1,
            _ if value < 100.0 => 2,
            _ => 0,
        }
    }

    /// The better of two values.
    pub fn better(self, a: f64, b: f64) -> f64 {
        if self.more() { a.max(b) } else { a.min(b) }
    }
}
