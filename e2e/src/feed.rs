//! A body that is fed piece by piece. All that ends it comes through one channel: with one for data and another for errors,
//! as `http_body_util::channel` has them in 0.1, a last piece that comes between a look into the one and a look into the other
//! is lost, and the body looks whole.

use bytes::Bytes;
use futures_util::stream::unfold;
use http::HeaderMap;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::mpsc;

use crate::client::{Body, Problem};

/// Who feeds it. The body ends when this is dropped.
pub struct Sender(mpsc::Sender<Result<Frame<Bytes>, Problem>>);

/// A body and who feeds it; at most one piece waits between them.
pub fn streamed() -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    (Sender(sender), StreamBody::new(frames).boxed_unsync())
}

impl Sender {
    /// Waits until there is room for a piece.
    ///
    /// # Errors
    /// Nobody reads the body any longer.
    pub async fn send_data(&mut self, data: Bytes) -> Result<(), Problem> {
        Ok(self.0.send(Ok(Frame::data(data))).await?)
    }

    /// The same for trailer fields.
    ///
    /// # Errors
    /// Nobody reads the body any longer.
    pub async fn send_trailers(&mut self, trailers: HeaderMap) -> Result<(), Problem> {
        Ok(self.0.send(Ok(Frame::trailers(trailers))).await?)
    }

    /// Breaks it off, after what was sent.
    pub fn abort(self, problem: Problem) {
        tokio::spawn(async move {
            // Who reads no longer needs no error.
            let _ = self.0.send(Err(problem)).await;
        });
    }
}
