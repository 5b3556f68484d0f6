//! The `Date` field (RFC 9110 §6.6.1), formatted once a second.

use std::{cell::RefCell, rc::Rc, time::SystemTime};

use crate::clock::Clock;

thread_local!(static NOW: RefCell<(u64, Rc<str>)> = RefCell::new((u64::MAX, Rc::from(""))));

/// The current date as `Date` wants it. `f` sees it; it is not to be kept.
pub fn with<T>(clock: &Clock, f: impl FnOnce(&str) -> T) -> T {
    let second = clock.now_ms() / 1000;
    let text = NOW.with(|now| {
        let mut now = now.borrow_mut();
        if now.0 != second {
            *now = (second, httpdate::fmt_http_date(SystemTime::now()).into());
        }
        now.1.clone()
    });
    f(&text)
}
