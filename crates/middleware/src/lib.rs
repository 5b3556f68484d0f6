//! The middlewares of Portcullis: one file each, and the table that names them all.
//!
//! From a row of [`TABLE`] come the parser of the settings, `portcullis schema`, the reference in `docs/middlewares/`
//! and the tests. A new middleware is one file with a [`MiddlewareKind`](portcullis_core::middleware::MiddlewareKind),
//! one row, and one page.

#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

mod add_prefix;
mod addresses;
mod auth;
mod body_limit;
mod canonical;
mod client;
mod compress;
mod concurrency;
mod cors;
#[cfg(test)]
mod docs_test;
mod fault;
mod headers;
mod ip_allow;
mod ip_deny;
mod ip_list;
mod pattern;
mod rate_limit;
mod redirect;
mod redirect_regex;
mod redirect_scheme;
mod replace_path;
mod replace_path_regex;
mod request_id;
mod scratch;
mod settings;
mod static_response;
mod strip_prefix;
mod strip_prefix_regex;
#[cfg(test)]
mod table_test;
mod template;
#[cfg(test)]
mod testing;
mod vary;

use portcullis_core::middleware::{Row, row};

/// Every kind of middleware, sorted by name.
pub static TABLE: &[Row] = &[
    row::<add_prefix::AddPrefix>(),
    row::<body_limit::BodyLimit>(),
    row::<compress::Compress>(),
    row::<concurrency::Concurrency>(),
    row::<cors::Cors>(),
    row::<fault::Fault>(),
    row::<headers::Headers>(),
    row::<ip_allow::IpAllow>(),
    row::<ip_deny::IpDeny>(),
    row::<auth::jwt::Jwt>(),
    row::<rate_limit::RateLimit>(),
    row::<redirect_regex::RedirectRegex>(),
    row::<redirect_scheme::RedirectScheme>(),
    row::<replace_path::ReplacePath>(),
    row::<replace_path_regex::ReplacePathRegex>(),
    row::<request_id::RequestId>(),
    row::<static_response::StaticResponse>(),
    row::<strip_prefix::StripPrefix>(),
    row::<strip_prefix_regex::StripPrefixRegex>(),
];

/// The row of a kind, by its name as written in the configuration.
pub fn find(name: &str) -> Option<&'static Row> {
    TABLE.binary_search_by(|row| row.name.cmp(name)).ok().and_then(|at| TABLE.get(at))
}
