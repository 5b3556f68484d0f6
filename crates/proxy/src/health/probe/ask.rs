//! What a probe says, and which answers mean healthy: checked and written down once.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header, uri::PathAndQuery};
use portcullis_config::model::{Endpoint, EndpointAddress, HealthCheck, Probe, Scheme, StatusRange};

/// A prepared question.
pub(super) struct Ask {
    /// The whole request in HTTP/1.1.
    pub(super) http1: Vec<u8>,
    method: Method,
    uri: Uri,
    fields: HeaderMap,
    expect: Vec<StatusRange>,
}

impl Ask {
    /// Writes the question down.
    ///
    /// # Errors
    /// What in the settings is not allowed in HTTP.
    pub(super) fn new(endpoint: &Endpoint, check: &HealthCheck) -> Result<Ask, String> {
        let Probe::Http { path, method, headers, expect, host } = &check.kind else {
            return Err("not an HTTP check".to_owned());
        };
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("method `{method}`"))?;
        let (mut fields, mut host) = (HeaderMap::new(), host.as_deref());
        fields.insert(header::USER_AGENT, HeaderValue::from_static("portcullis-health"));
        fields.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        for (name, value) in headers {
            let field =
                HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header name `{name}`"))?;
            // The value may be a secret: it is not repeated.
            let text = HeaderValue::from_str(value).map_err(|_| format!("value of header `{name}`"))?;
            match field {
                header::HOST => host = host.or(Some(value)),
                header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING => {
                    return Err(format!("header `{name}` is the gateway's own"));
                }
                field => drop(fields.insert(field, text)),
            }
        }
        let authority = host.map_or_else(|| authority(endpoint, check.port), str::to_owned);
        let uri = uri(endpoint, &authority, path)?;
        let http1 = http1(&method, &uri, &fields);
        Ok(Ask { http1, method, uri, fields, expect: expect.clone() })
    }

    /// Does this status mean healthy?
    pub(super) fn expects(&self, status: u16) -> bool {
        self.expect.iter().any(|range| (range.from..=range.to).contains(&status))
    }

    /// The question for HTTP/2.
    pub(super) fn request(&self) -> http::Request<()> {
        let mut request = http::Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        *request.headers_mut() = self.fields.clone();
        request
    }
}

fn uri(endpoint: &Endpoint, authority: &str, path: &str) -> Result<Uri, String> {
    let slash = if path.starts_with('/') { "" } else { "/" };
    let target = format!("{}{slash}{path}", endpoint.base_path);
    let target: PathAndQuery = target.parse().map_err(|_| format!("path `{target}`"))?;
    let scheme = if endpoint.scheme == Scheme::Https { "https" } else { "http" };
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target);
    uri.build().map_err(|_| format!("host `{authority}`"))
}

/// The endpoint as a URL would name it, without the scheme's own port.
fn authority(endpoint: &Endpoint, probed: Option<u16>) -> String {
    let EndpointAddress::Tcp { host, port } = &endpoint.address else { return "localhost".to_owned() };
    let own = if endpoint.scheme == Scheme::Https { 443 } else { 80 };
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    match probed.unwrap_or(*port) {
        port if port == own => host,
        port => format!("{host}:{port}"),
    }
}

fn http1(method: &Method, uri: &Uri, fields: &HeaderMap) -> Vec<u8> {
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
    for (name, value) in fields {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    // RFC 9110 §8.6: a method that anticipates a body says that there is none.
    if matches!(*method, Method::POST | Method::PUT | Method::PATCH) {
        text.extend_from_slice(b"Content-Length: 0\r\n");
    }
    text.extend_from_slice(b"Connection: close\r\n\r\n");
    text
}
