//! The arithmetic of limits, with the time passed in: how much may be taken of what refills, and how many requests
//! something bears at once.

pub mod bound;
pub mod gradient;
pub mod lease;

pub use bound::{Bound, Grant};
pub use gradient::{Bounds, Gradient};
pub use lease::{Ask, Decided, Lease, Terms};
