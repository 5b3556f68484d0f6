//! The canonical form of a path: what is routed is what is forwarded.
