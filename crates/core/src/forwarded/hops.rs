//! Reading what a trusted peer says of the client.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;

use crate::{
    Exchange, Fields, Known,
    forwarded::node::{Element, address, element, elements, is_authority, is_port_number, is_secure, list},
};

/// Which entry of a list named the client.
#[derive(Debug, Clone, Copy)]
struct Hop {
    client: IpAddr,
    /// Counted from the right; `None` when no entry was believed.
    entry: Option<usize>,
    /// How many entries the list has.
    entries: usize,
}

/// Sets client and scheme; leaves of the fields only what is well-formed and consistent.
///
/// `X-Forwarded-For` goes before `Forwarded`, and that before `X-Real-IP`: a proxy that writes one of them passes the
/// others on as the client sent them, and the first is what nearly all proxies write.
pub(super) fn believe(x: &mut Exchange, proxies: &[IpNet]) {
    let peer = x.connection.peer.ip().to_canonical();
    let fields = &mut x.request.fields;
    let nobody = Hop { client: peer, entry: None, entries: 0 };
    let (hop, mut said) = if fields.has(Known::XForwardedFor) {
        fields.remove_known(Known::Forwarded);
        (forwarded_for(fields, peer, proxies), Element::default())
    } else if fields.has(Known::Forwarded) {
        forwarded(fields, peer, proxies)
    } else {
        let real = fields.known(Known::XRealIp).and_then(address);
        (Hop { client: real.unwrap_or(peer), ..nobody }, Element::default())
    };
    let proto = aligned(fields, Known::XForwardedProto, hop).and_then(|proto| is_secure(&proto));
    let host = aligned(fields, Known::XForwardedHost, hop).filter(|host| is_authority(host));
    let port = aligned(fields, Known::XForwardedPort, hop).filter(|port| is_port_number(port));
    // Client and scheme live in the exchange from here on.
    fields.remove_set(
        Known::XRealIp.bit()
            | Known::XForwardedProto.bit()
            | Known::XForwardedHost.bit()
            | Known::XForwardedPort.bit(),
    );
    for (name, value) in [("x-forwarded-host", said.host.take().or(host)), ("x-forwarded-port", port)] {
        if let Some(value) = value {
            fields.append(name, value);
        }
    }
    x.client = hop.client;
    if let Some(secure) = said.secure.or(proto) {
        x.secure = secure;
    }
}

fn forwarded_for(fields: &Fields, peer: IpAddr, proxies: &[IpNet]) -> Hop {
    let value = joined(fields, Known::XForwardedFor);
    let (client, entry) = walk(peer, proxies, list(&value).rev().map(address));
    Hop { client, entry, entries: list(&value).count() }
}

/// The hop, and what the element that named the client says of scheme and host. A field that is malformed as a whole is
/// dropped.
fn forwarded(fields: &mut Fields, peer: IpAddr, proxies: &[IpNet]) -> (Hop, Element) {
    let value = joined(fields, Known::Forwarded).into_owned();
    let Some(texts) = elements(&value) else {
        fields.remove_known(Known::Forwarded);
        return (Hop { client: peer, entry: None, entries: 0 }, Element::default());
    };
    let mut last = Element::default();
    let nodes = texts.iter().rev().map(|text| {
        let read = element(text)?;
        let node = read.node;
        // Also of an element without an address: its proxy says how *it* was reached.
        last = read;
        node
    });
    let (client, entry) = walk(peer, proxies, nodes);
    (Hop { client, entry, entries: texts.len() }, last)
}

/// From right to left while the one who wrote the entry is trusted; a malformed entry ends the walk.
fn walk(
    peer: IpAddr,
    proxies: &[IpNet],
    entries: impl Iterator<Item = Option<IpAddr>>,
) -> (IpAddr, Option<usize>) {
    let mut found = (peer, None);
    for (index, entry) in entries.enumerate() {
        let Some(ip) = entry else { break };
        found = (ip, Some(index));
        if !proxies.iter().any(|net| net.contains(&ip)) {
            break;
        }
    }
    found
}

/// All values of a field as one list.
fn joined(fields: &Fields, known: Known) -> Cow<'_, [u8]> {
    let mut values = fields.known_all(known);
    let first = values.next().unwrap_or_default();
    values.fold(Cow::Borrowed(first), |all, value| Cow::Owned([&all, &b","[..], value].concat()))
}

/// The entry of a parallel list (`X-Forwarded-Proto` …) that belongs to the client: the only one, or the one at the same
/// place when the lists are equally long. Otherwise nobody knows, and nothing is believed.
fn aligned(fields: &Fields, known: Known, hop: Hop) -> Option<Vec<u8>> {
    if !fields.has(known) {
        return None;
    }
    let value = joined(fields, known);
    let count = list(&value).count();
    let entry = match hop.entry {
        _ if count == 1 => list(&value).next(),
        Some(entry) if count == hop.entries => list(&value).rev().nth(entry),
        _ => None,
    };
    entry.map(<[u8]>::to_vec)
}
