//! `mirror` of routes.

use std::time::Duration;

use super::{Merger, Name, Source, defaults};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Mirror, Target},
    written::{
        self,
        literal::{Ratio, Size},
    },
};

/// The most of a body that is copied.
const BODY: u64 = 16 << 20;

impl Merger<'_> {
    pub(super) fn mirror(
        &mut self,
        source: &Source,
        path: &Path,
        written: &written::Mirror,
    ) -> Option<Mirror> {
        let path = path.key("mirror");
        let own = path.key("service");
        let at = if source.document.root.at(&own).is_some() { own } else { path.clone() };
        let service = self.only_service(source, &at, &written.service)?;
        let body = defaults::first([&written.body], Size(64 * 1024)).0;
        if body > BODY {
            let message = "so much would be kept of every request under way";
            self.error(source, &path.key("body"), Code::BadValue, message, "at most 16 MiB");
        }
        let timeout = defaults::first([&written.timeout], Duration::from_secs(30));
        for (key, is_zero) in [("most", written.most == Some(0)), ("timeout", timeout.is_zero())] {
            if is_zero {
                let message = format!("`{key}` of 0 copies nothing");
                self.error(source, &path.key(key), Code::BadValue, message, "take `mirror` away instead");
            }
        }
        Some(Mirror {
            service,
            share: defaults::first([&written.share], Ratio(1.0)).0,
            body: body.min(BODY),
            most: written.most.unwrap_or(100),
            timeout,
        })
    }

    /// A service with endpoints, by its name.
    pub(super) fn only_service(&mut self, source: &Source, path: &Path, name: &str) -> Option<Name> {
        match self.reference(source, path, name) {
            Target::Service(name) => Some(name),
            _ => {
                let help = "name a service with endpoints";
                let message = format!("`{name}` is built in, and cannot be this");
                self.error(source, path, Code::BadValue, message, help);
                None
            }
        }
    }
}
