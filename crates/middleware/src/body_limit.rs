//! `body_limit`: refuses request bodies that are too large.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use portcullis_core::{
    Appended, Body, Error, Exchange, Flow, Frame, Kind, Middleware, Stream,
    middleware::{Around, MiddlewareKind, Problem},
};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::Size;

/// Settings of `body_limit`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BodyLimit {
    /// The largest body that passes, such as `"10 MiB"`.
    pub max: Size,
}

struct Limit {
    max: u64,
}

impl MiddlewareKind for BodyLimit {
    const NAME: &'static str = "body_limit";
    const SUMMARY: &'static str = "Refuses request bodies that are larger than a limit.";
    const EXAMPLE: &'static str = r#"max = "10 MiB""#;

    fn build(self, _: &Around<'_>) -> Result<Arc<dyn Middleware>, Problem> {
        Ok(Arc::new(Limit { max: self.max.0 }))
    }
}

impl Middleware for Limit {
    fn on_request<'a>(&'a self, x: &'a mut Exchange) -> Result<Flow<'a>, Error> {
        match x.request.body.remaining() {
            // The framing holds the body to its length: no need to count.
            Some(length) if length <= self.max => {}
            Some(_) => return Err(too_large()),
            None => {
                let inner = std::mem::take(&mut x.request.body);
                x.request.body = Body::stream(Counted { inner, left: self.max });
            }
        }
        Ok(Flow::Next)
    }
}

fn too_large() -> Error {
    Error::because(Kind::BodyTooLarge, "body_limit")
}

/// A body that may not bring more than `left` bytes.
struct Counted {
    inner: Body,
    left: u64,
}

impl Counted {
    fn count(&mut self, bytes: usize) -> Result<(), Error> {
        self.left = self.left.checked_sub(bytes as u64).ok_or_else(too_large)?;
        Ok(())
    }
}

impl Stream for Counted {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, Error>>> {
        let frame = std::task::ready!(self.inner.poll_frame(cx));
        if let Some(Ok(Frame::Data(data))) = &frame
            && let Err(error) = self.count(data.len())
        {
            return Poll::Ready(Some(Err(error)));
        }
        Poll::Ready(frame)
    }

    fn poll_append(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
        limit: usize,
    ) -> Poll<Result<Appended, Error>> {
        let before = out.len();
        let appended = std::task::ready!(self.inner.poll_append(cx, out, limit))?;
        if let Appended::Data(bytes) = appended
            && let Err(error) = self.count(bytes)
        {
            // What is too much does not go on to the service.
            out.truncate(before);
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(appended))
    }

    fn remaining(&self) -> Option<u64> {
        self.inner.remaining()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Pieces, build, problem, request};
    use bytes::Bytes;
    use serde_json::json;

    fn limited(body: Body) -> Result<Body, Kind> {
        let limit = build("body_limit", json!({"max": 10}));
        let mut x = request("/");
        x.request.body = body;
        let passed = limit.on_request(&mut x).map(|_| ()).map_err(|error| error.kind);
        passed.map(|()| x.request.body)
    }

    #[test]
    fn a_known_length_is_judged_at_once() {
        assert!(limited(Body::Empty).is_ok());
        assert!(matches!(limited(Body::Full(Bytes::from_static(b"0123456789"))), Ok(Body::Full(_))));
        assert_eq!(limited(Body::Full(Bytes::from_static(b"0123456789a"))).err(), Some(Kind::BodyTooLarge));
    }

    #[tokio::test]
    async fn an_unknown_length_is_counted() {
        let mut fits = limited(Pieces::body(&["01234", "", "56789"])).unwrap();
        assert_eq!(fits.read_all(100).await.unwrap(), "0123456789");
        let mut large = limited(Pieces::body(&["01234", "56789", "a"])).unwrap();
        assert_eq!(large.read_all(100).await.unwrap_err().kind, Kind::BodyTooLarge);
        let mut large = limited(Pieces::body(&["01234", "", "56789a"])).unwrap();
        assert!(matches!(large.frame().await, Some(Ok(Frame::Data(data))) if data == "01234"));
        assert!(matches!(large.frame().await, Some(Err(error)) if error.kind == Kind::BodyTooLarge));
    }

    #[test]
    fn settings_are_judged() {
        assert_eq!(problem("body_limit", json!({"max": "10 XB"})).path, "max");
        assert_eq!(problem("body_limit", json!({"max": -1})).path, "max");
    }
}
