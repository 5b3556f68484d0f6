//! The rules of a shared HTTP cache, and nothing else: no sockets, no clock, no store. Time is passed in, answers and
//! requests are fields, and what comes out is a decision. RFC 9111 is the law, with RFC 5861 (stale answers), RFC 9211
//! (`Cache-Status`) and RFC 9213 (targeted cache control); where this cache is stricter, the reason stands beside it.
//!
//! ```text
//! request ─► ask ─► key, vary ─► judge ─► fresh · stale · revalidate · 504
//! answer  ─► admit (may it be stored, for how long?) ─► object ─► present (304, 206, 412, HEAD, Age)
//! ```

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

pub mod admit;
pub mod ask;
pub mod conditions;
pub mod date;
pub mod directives;
pub mod invalidate;
pub mod judge;
pub mod key;
pub mod object;
pub mod pattern;
pub mod policy;
pub mod present;
pub mod range;
pub mod status;
pub mod targeted;
pub mod validate;
pub mod vary;

pub use admit::{Admission, Refusal, admit};
pub use ask::{Ask, Bypass};
pub use directives::Directives;
pub use judge::{Verdict, judge};
pub use object::{Object, Times};
pub use policy::Policy;
pub use status::{Forwarded, Outcome};
