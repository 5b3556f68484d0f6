//! `[shedding]`, and the `importance` of routes.

use std::time::Duration;

use super::{Merger, Source, defaults};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Importance, MemoryLimit, Shedding},
    written::{self, OrTable, literal::MaybeSize},
};

/// Less than the gateway takes with nothing to do, and some connections.
const LITTLE: u64 = 32_000_000;
/// Less than any process takes.
const NOTHING: u64 = 1_000_000;
/// The operating system itself is that late now and then.
const SHORTEST: Duration = Duration::from_millis(5);
/// With that at each of several turns, clients have left.
const LONGEST: Duration = Duration::from_secs(1);
/// `Retry-After` has no parts of seconds (RFC 9110 §10.2.3).
const SOONEST: Duration = Duration::from_secs(1);
/// Nobody waits longer for a gateway.
const LATEST: Duration = Duration::from_secs(3600);

impl Merger<'_> {
    pub(super) fn shedding(
        &mut self,
        main: Option<&Source>,
        written: Option<&OrTable<written::Shedding>>,
    ) -> Option<Shedding> {
        let (source, OrTable(written)) = (main?, written?);
        let memory = match written.memory {
            Some(written::Lit(MaybeSize(Some(bytes)))) => MemoryLimit::Bytes(bytes),
            Some(written::Lit(MaybeSize(None))) => MemoryLimit::Unlimited,
            None => MemoryLimit::Cgroup,
        };
        let lateness = defaults::first([&written.lateness], defaults::SHED_LATENESS);
        let retry_after = defaults::first([&written.retry_after], defaults::SHED_RETRY_AFTER);
        let shedding = Shedding { memory, lateness: (!lateness.is_zero()).then_some(lateness), retry_after };
        self.shedding_is_sound(source, &shedding);
        written.enabled.unwrap_or(true).then_some(shedding)
    }

    fn shedding_is_sound(&mut self, source: &Source, shedding: &Shedding) {
        let path = Path::root().key("shedding");
        match shedding.memory {
            MemoryLimit::Bytes(bytes) if bytes < NOTHING => {
                let message = "the process itself takes more: everything would be refused";
                let help = "write a size such as 2GB, or \"unlimited\" for not looking at memory";
                self.error(source, &path.key("memory"), Code::BadValue, message, help);
            }
            MemoryLimit::Bytes(bytes) if bytes < LITTLE => {
                let message = "with some connections the process takes more: everything would be refused";
                self.warning(
                    source,
                    &path.key("memory"),
                    Code::BadValue,
                    message,
                    "write a size such as 256MB",
                );
            }
            MemoryLimit::Unlimited if shedding.lateness.is_none() => {
                let message = "neither memory nor lateness is looked at: nothing would ever be refused";
                let help = "take one of the two away for its default, or write shedding = false";
                self.error(source, &path, Code::Conflict, message, help);
            }
            _ => {}
        }
        if let Some(lateness) = shedding.lateness
            && !(SHORTEST..=LONGEST).contains(&lateness)
        {
            let message = match lateness < SHORTEST {
                true => "event loops are that late with nothing to do",
                false => "who is answered that late has left",
            };
            let help = "write a time from 5ms to 1s, or 0 for not looking at it";
            self.error(source, &path.key("lateness"), Code::BadValue, message, help);
        }
        if !(SOONEST..=LATEST).contains(&shedding.retry_after) {
            let message = "nobody can do anything with such a `Retry-After`";
            self.error(
                source,
                &path.key("retry_after"),
                Code::BadValue,
                message,
                "write a time from 1s to 1h",
            );
        }
    }

    /// How important the requests of a route are.
    pub(super) fn importance(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Route,
    ) -> Importance {
        let Some(importance) = written.importance else { return Importance::default() };
        let path = path.key("importance");
        let is_written = self.main().is_some_and(|main| main.written.shedding.is_some());
        if written.service.as_deref().is_some_and(|service| service.starts_with('@')) {
            let message = "built-in services are always answered, whatever their importance";
            self.error(source, &path, Code::Conflict, message, "leave `importance` away");
        } else if !is_written {
            let message = "`importance` without `[shedding]` does nothing";
            let help = "write shedding = true at the top; the order of routes is their `priority`";
            self.warning(source, &path, Code::Conflict, message, help);
        }
        importance.0
    }
}

#[cfg(test)]
mod tests {
    use crate::{AnyKind, Format, NoEnv, Severity, load_text, model::Importance};

    /// The findings' paths, and whether each is an error.
    fn findings(shedding: &str, importance: &str) -> Vec<(String, bool)> {
        let text = format!(
            "{shedding}\n[[routes]]\npath = \"/*\"\nservice = \"s\"\n{importance}\n[services.s]\nendpoints = [\"http://127.0.0.1:1\"]\n"
        );
        let read = load_text(&text, Format::Toml, "gateway.toml", &NoEnv, &AnyKind);
        if let Some(model) = &read.model {
            let expected =
                if importance.contains("background") { Importance::Background } else { Importance::Normal };
            assert_eq!(model.routes[0].importance, expected);
        }
        read.findings.iter().map(|f| (f.message.clone(), f.severity == Severity::Error)).collect()
    }

    #[test]
    fn what_is_sound_is_taken() {
        for shedding in [
            "shedding = true",
            "shedding = false",
            "shedding = { memory = \"2GB\" }",
            "shedding = { memory = \"unlimited\", lateness = \"50ms\", retry_after = \"10s\" }",
            "shedding = { lateness = 0 }",
        ] {
            assert_eq!(findings(shedding, "importance = \"background\""), [], "{shedding}");
        }
    }

    #[test]
    fn what_is_not_is_a_finding() {
        for shedding in [
            "shedding = 5",
            "shedding = { memory = 0 }",
            "shedding = { memory = \"lots\" }",
            "shedding = { memory = \"unlimited\", lateness = 0 }",
            "shedding = { lateness = \"1ms\" }",
            "shedding = { lateness = \"1h\" }",
            "shedding = { retry_after = \"0s\" }",
            "shedding = { memroy = \"2GB\" }",
        ] {
            let found = findings(shedding, "");
            assert!(matches!(&found[..], [(_, true)]), "{shedding}: {found:?}");
        }
        let found = findings("shedding = { memory = \"10MB\" }", "");
        assert!(matches!(&found[..], [(_, false)]), "{found:?}");
    }

    #[test]
    fn importance_needs_shedding_and_a_known_name() {
        let found = findings("", "importance = \"background\"");
        assert!(matches!(&found[..], [(message, false)] if message.contains("[shedding]")), "{found:?}");
        let found = findings("shedding = true", "importance = \"crtical\"");
        assert!(matches!(&found[..], [(_, true)]), "{found:?}");
    }
}
