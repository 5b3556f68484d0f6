//! `deadline` of timeouts.

use super::{Merger, Source, defaults, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Deadline, DeadlineFrom, TimeUnit},
    written,
};

/// Fields that say something else already.
const TAKEN: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "content-type",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "authorization",
    "cookie",
    "forwarded",
    "grpc-timeout",
];

impl Merger<'_> {
    /// The deadline of a route: its own, or that of all, which is judged where it is written.
    pub(super) fn deadline(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
    ) -> Option<Deadline> {
        if let Some(own) = &written.timeouts.deadline {
            self.judge_deadline(source, &path.key("timeouts").key("deadline"), &own.0);
            return Some(deadline(&own.0));
        }
        let all = self.main()?.written.timeouts.deadline.as_ref()?;
        Some(deadline(&all.0))
    }

    /// Judges what stands at the top.
    pub(super) fn deadline_of_all(&mut self) {
        let Some(main) = self.main() else { return };
        if let Some(all) = &main.written.timeouts.deadline {
            self.judge_deadline(main, &Path::root().key("timeouts").key("deadline"), &all.0);
        }
    }

    fn judge_deadline(&mut self, source: &Source, path: &Path, written: &written::Deadline) {
        match &written.header {
            Some(name) if TAKEN.iter().any(|taken| taken.eq_ignore_ascii_case(&name.0.0)) => {
                let own = path.key("header");
                let at = if source.document.root.at(&own).is_some() { own } else { path.clone() };
                let message = format!("`{}` says something else", name.0.0);
                let help = if name.0.0.eq_ignore_ascii_case("grpc-timeout") {
                    "`grpc-timeout` counts without being named"
                } else {
                    "take a header of its own, such as `X-Request-Timeout`"
                };
                self.error(source, &at, Code::Conflict, message, help);
            }
            Some(_) => {}
            None => {
                for (key, is_written) in [("unit", written.unit.is_some()), ("from", written.from.is_some())]
                {
                    if is_written {
                        let message = format!("`{key}` of no header");
                        let help = "add header = \"X-Request-Timeout\"";
                        self.error(source, &path.key(key), Code::Conflict, message, help);
                    }
                }
            }
        }
    }
}

fn deadline(written: &written::Deadline) -> Deadline {
    Deadline {
        header: written.header.as_ref().map(|name| shared(&name.0.0)),
        unit: defaults::first([&written.unit], TimeUnit::Ms),
        from: defaults::first([&written.from], DeadlineFrom::Trusted),
        grpc: written.grpc.unwrap_or(true),
    }
}
