//! `split` of routes.

use super::{Merger, Source, defaults, routes::element, shared};
use crate::{
    diagnostic::Code,
    document::Path,
    model::{Share, Split},
    scalar,
    written::{self, literal::Ratio},
};

impl Merger<'_> {
    pub(super) fn split(
        &mut self,
        source: &Source,
        path: &Path,
        route: &str,
        written: &written::Split,
    ) -> Split {
        let path = path.key("split");
        let list = path.key("to");
        if written.to.0.is_empty() && !source.broken(&path) {
            let help = "add to = [{ service = \"name\", share = \"5%\" }]";
            self.error(source, &path, Code::MissingKey, "a split to nobody", help);
        }
        let mut to: Vec<Share> = Vec::new();
        for (at, share) in written.to.0.iter().enumerate() {
            let own = element(source, &list, at);
            to.extend(self.share(source, &own, share));
        }
        let sum: f64 = to.iter().map(|share| share.share).sum();
        if sum > 1.0 + 1e-9 {
            let percent = (sum * 1e6).round() / 1e4;
            let message = format!("the shares are {percent}% together");
            let help = "at most 100%: what is left goes to the route's service";
            self.error(source, &list, Code::Conflict, message, help);
        }
        let of_route = format!("split_{route}");
        let sticky = written.sticky.as_ref().map(|sticky| self.sticky(source, &path, &of_route, &sticky.0));
        if let Some(sticky) = &sticky
            && to.iter().any(|share| share.cookie.as_ref() == Some(&sticky.cookie))
        {
            let message = format!("the cookie `{}` both keeps clients and chooses for them", sticky.cookie);
            let help = "take another name for one of the two";
            self.error(source, &path.key("sticky"), Code::Conflict, message, help);
        }
        Split { to, sticky }
    }

    fn share(&mut self, source: &Source, path: &Path, written: &written::Share) -> Option<Share> {
        let service = self.only_service(source, &path.key("service"), &written.service)?;
        let is_named = written.header.is_some() || written.cookie.is_some();
        if !is_named && written.share.is_none() && !source.broken(path) {
            let help = "add `share`, `header` or `cookie`";
            let message = format!("nobody is sent to `{}`", written.service);
            self.error(source, path, Code::MissingKey, message, help);
        }
        if !is_named && written.value.is_some() {
            let help = "add the `header` or `cookie` whose value it is";
            self.error(source, &path.key("value"), Code::Conflict, "`value` of nothing", help);
        }
        if let Some(cookie) = written.cookie.as_deref().filter(|name| scalar::header_name(name).is_err()) {
            let help = "letters, digits, `_` and `-`";
            let message = format!("`{cookie}` cannot name a cookie");
            self.error(source, &path.key("cookie"), Code::BadValue, message, help);
        }
        Some(Share {
            service,
            share: defaults::first([&written.share], Ratio(0.0)).0,
            header: written.header.as_ref().map(|name| shared(&name.0.0)),
            cookie: written.cookie.as_deref().map(shared),
            value: written.value.as_deref().map(shared),
        })
    }
}
