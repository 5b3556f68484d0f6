//! Which service takes a request of a route: its own, or by header, cookie or chance another one.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use portcullis_config::model::{self, Name};
use portcullis_core::{Fields, cookie::cookies};

use super::cache::RouteCache;
use crate::{balance::Sticky, by_worker::ByWorker, runtime::Service};

/// Requests of a route that go to several services, compiled.
pub struct Split {
    /// The route's own service first, then the others, each once.
    places: Vec<Place>,
    named: Vec<Named>,
    sticky: Option<Sticky>,
}

/// One of the services.
pub struct Place {
    /// The service.
    pub service: Arc<Service>,
    /// Its share of what chance decides.
    pub share: f64,
    /// Its answers, where the route has a cache: what one service says is not what another would.
    pub cache: Option<Arc<RouteCache>>,
    /// Requests it took here. Kept over reloads.
    pub taken: Arc<ByWorker<AtomicU64>>,
}

/// Requests that ask for a service by field or cookie.
struct Named {
    place: usize,
    header: Option<Arc<str>>,
    cookie: Option<Arc<str>>,
    value: Option<Arc<str>>,
}

/// Who takes a request.
pub struct Chosen<'a> {
    /// The service.
    pub place: &'a Place,
    /// Why it.
    pub why: Why<'a>,
    /// Told to the client, so that it comes here again.
    pub set_cookie: Option<&'a str>,
}

/// Why a service takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why<'a> {
    /// It has this field.
    Header(&'a str),
    /// It has this cookie.
    Cookie(&'a str),
    /// Its client was sent there before.
    Sticky,
    /// By chance.
    Chance,
}

impl Split {
    /// Compiled. `place` makes one for a service, which takes nothing yet; `None`: there is no such service.
    pub fn new(
        settings: &model::Split,
        route: &str,
        own: Place,
        mut place: impl FnMut(&Name) -> Option<Place>,
    ) -> Split {
        let (mut places, mut named) = (vec![own], Vec::new());
        for share in &settings.to {
            let known = places.iter().position(|place| place.service.name == share.service);
            if known.is_none() {
                let Some(place) = place(&share.service) else { continue };
                places.push(place);
            }
            let at = known.unwrap_or(places.len() - 1);
            if let Some(place) = places.get_mut(at) {
                place.share += share.share;
            }
            if share.header.is_some() || share.cookie.is_some() {
                let (header, cookie) = (share.header.clone(), share.cookie.clone());
                named.push(Named { place: at, header, cookie, value: share.value.clone() });
            }
        }
        let rest = 1.0 - places.iter().map(|place| place.share).sum::<f64>();
        if let Some(own) = places.first_mut() {
            own.share += if rest < 1e-9 { 0.0 } else { rest };
        }
        let names: Vec<Name> = places.iter().map(|place| place.service.name.clone()).collect();
        let names = || names.iter().map(|name| &**name);
        let sticky = settings.sticky.as_ref().map(|sticky| Sticky::of(sticky, route, names()));
        Split { places, named, sticky }
    }

    /// The route's own service.
    pub fn own(&self) -> Option<&Arc<Service>> {
        self.places.first().map(|place| &place.service)
    }

    /// All services, the route's own first.
    pub fn places(&self) -> &[Place] {
        &self.places
    }

    /// Who takes a request with these fields. `chance` is a random number from 0 to below 1.
    pub fn choose(&self, fields: &Fields, chance: f64) -> Option<Chosen<'_>> {
        let chosen =
            |at: usize, why, set_cookie| self.places.get(at).map(|place| Chosen { place, why, set_cookie });
        if let Some((at, why)) = self.named.iter().find_map(|named| Some((named.place, named.why(fields)?))) {
            return chosen(at, why, None);
        }
        let bound = self.sticky.as_ref().and_then(|sticky| sticky.find(fields));
        // Whom chance sends nobody to any longer is left, also by those who were there.
        if let Some(at) = bound.filter(|&at| self.places.get(at).is_some_and(|place| place.share > 0.0)) {
            return chosen(at, Why::Sticky, None);
        }
        let at = self.by_chance(chance);
        chosen(at, Why::Chance, self.sticky.as_ref().and_then(|sticky| sticky.set_cookie(at)))
    }

    fn by_chance(&self, chance: f64) -> usize {
        let mut below = 0.0;
        let others = self.places.iter().enumerate().skip(1);
        let mut others = others.map(|(at, place)| {
            below += place.share;
            (at, below)
        });
        let own_share = self.places.first().map_or(0.0, |own| own.share);
        let found = others.find(|(_, below)| chance < *below).map(|(at, _)| at);
        // What rounding leaves over goes to nobody who shall get nothing.
        let last = || self.places.iter().rposition(|place| place.share > 0.0).unwrap_or(0);
        found.unwrap_or_else(|| if own_share > 0.0 { 0 } else { last() })
    }
}

impl Place {
    /// One more.
    pub fn count(&self, worker: usize) {
        self.taken.get(worker).fetch_add(1, Relaxed);
    }
}

impl Named {
    /// Does a request ask for it?
    fn why(&self, fields: &Fields) -> Option<Why<'_>> {
        let fits = |value: &[u8]| self.value.as_ref().is_none_or(|wanted| wanted.as_bytes() == value);
        let header = self.header.as_ref().filter(|name| fields.get_all(name).any(fits));
        let cookie = || self.cookie.as_ref().filter(|name| cookies(fields, name.as_bytes()).any(fits));
        match header {
            Some(name) => Some(Why::Header(name)),
            None => cookie().map(|name| Why::Cookie(name)),
        }
    }
}

impl std::fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Header(name) => write!(f, "since it has the header {name}"),
            Why::Cookie(name) => write!(f, "since it has the cookie {name}"),
            Why::Sticky => f.write_str("since its cookie keeps it there"),
            Why::Chance => f.write_str("by chance"),
        }
    }
}
