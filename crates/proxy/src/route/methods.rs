//! Methods as bits, so that asking for one of several costs one instruction.

use std::sync::Arc;

/// The methods that the rules of a router speak of, and the usual ones, which `Allow` may name though no rule does.
#[derive(Debug)]
pub(super) struct Methods {
    names: Vec<Arc<str>>,
}

const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const GET: u64 = 1;
const HEAD: u64 = 2;

impl Default for Methods {
    fn default() -> Methods {
        Methods { names: USUAL.iter().map(|&name| name.into()).collect() }
    }
}

impl Methods {
    /// The bit of a method; 0 when no rule speaks of it.
    pub(super) fn bit(&self, method: &str) -> u64 {
        self.names.iter().position(|name| **name == *method).map_or(0, |at| 1 << at)
    }

    /// The set of methods that a rule for this one takes. `None` when there are more methods than bits.
    ///
    /// A route for `GET` takes `HEAD` too: whoever can be asked for a thing can be asked about it (RFC 9110 §9.3.2), and
    /// an endpoint that answers the one answers the other. Traefik is stricter here and gives a 404.
    pub(super) fn taken_by(&mut self, method: &Arc<str>) -> Option<u64> {
        let mut bit = self.bit(method);
        if bit == 0 {
            if self.names.len() == 64 {
                return None;
            }
            self.names.push(method.clone());
            bit = self.bit(method);
        }
        Some(if bit == GET { GET | HEAD } else { bit })
    }

    /// Every method with its bit.
    pub(super) fn all(&self) -> impl Iterator<Item = (u64, &str)> {
        self.names.iter().enumerate().map(|(at, name)| (1 << at, &**name))
    }

    /// A set as it was written: without the `HEAD` that came with `GET`.
    pub(super) fn written(&self, set: u64) -> Vec<&str> {
        let set = if set & GET != 0 { set & !HEAD } else { set };
        self.all().filter(|(bit, _)| set & bit != 0).map(|(_, name)| name).collect()
    }
}
