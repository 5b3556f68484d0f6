//! A request over HTTP/2: the head as that protocol wants it.

use http::{Uri, uri::PathAndQuery};
use portcullis_core::{Answer, Error, Exchange, Kind, Known};

use super::{Forward, Upstream};
use crate::{
    forward::upstream::InFlight,
    h1::client::{Ask, Failed},
    h2::client::H2Client,
};
use portcullis_config::model::{Scheme, ServiceTimeouts};

/// Sends a request over an HTTP/2 connection.
///
/// # Errors
/// See [`H2Client::send`].
pub async fn send(
    forward: &Forward<'_>,
    upstream: &Upstream,
    client: &H2Client,
    x: &mut Exchange,
    host: Option<&str>,
) -> Result<Answer, Failed> {
    let head = head(upstream, x, host).map_err(|error| Failed { error, stale: false })?;
    let timeouts = ServiceTimeouts {
        stream_idle: forward.route.stream_idle_timeout.unwrap_or(upstream.timeouts.stream_idle),
        ..upstream.timeouts
    };
    let ask = Ask {
        host,
        base: &upstream.base_path,
        timeouts: &timeouts,
        response_header: forward.route.response_header_timeout.unwrap_or(upstream.timeouts.response_header),
        client_body_idle: forward.client_body_idle,
        watch: forward.watch,
        total: forward.total,
    };
    client.send(head, x, &ask, InFlight::new(&upstream.state)).await
}

fn head(upstream: &Upstream, x: &Exchange, host: Option<&str>) -> Result<http::Request<()>, Error> {
    let request = &x.request;
    let mut target = String::with_capacity(upstream.base_path.len() + request.path().len() + 32);
    target.push_str(&upstream.base_path);
    target.push_str(request.path());
    if let Some(query) = request.query() {
        target.push('?');
        target.push_str(query);
    }
    let bad = |_| Error::because(Kind::BadPath, "not a valid HTTP/2 target");
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(if upstream.scheme == Scheme::Https {
        http::uri::Scheme::HTTPS
    } else {
        http::uri::Scheme::HTTP
    });
    parts.authority = Some(host.unwrap_or(request.authority()).parse().map_err(bad)?);
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(bad)?);
    let mut head = http::Request::new(());
    *head.method_mut() = request.method.clone();
    *head.version_mut() = http::Version::HTTP_2;
    *head.uri_mut() =
        Uri::from_parts(parts).map_err(|_| Error::because(Kind::BadPath, "not a valid HTTP/2 target"))?;
    // The length is told only if the body keeps it.
    let told = request.fields.known(Known::ContentLength).and_then(crate::h1::framing::decimal);
    let left_out = if told == request.body.remaining() { 0 } else { Known::ContentLength.bit() };
    *head.headers_mut() = crate::h2::to_header_map(&request.fields, left_out);
    Ok(head)
}
