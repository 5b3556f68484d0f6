//! A document that a program made and that never changes: the command line's, the library's.

use std::sync::Arc;

use portcullis_core::{
    BoxFuture,
    provider::{Provider, Publisher, Snapshot, Stop},
};

/// Publishes one document for ever.
#[derive(Debug, Clone)]
pub struct Fixed {
    name: Arc<str>,
    snapshot: Snapshot,
}

impl Fixed {
    /// A provider of this name with this document. Findings name the provider as their source.
    pub fn value(name: &str, value: serde_json::Value) -> Fixed {
        Fixed { name: name.into(), snapshot: Snapshot::Value { source: name.into(), value: Arc::new(value) } }
    }

    /// A provider of this name with this text; the file's name, which need not exist, tells the format.
    pub fn text(name: &str, file: &str, text: &str) -> Fixed {
        let snapshot = Snapshot::Text { file: file.into(), text: text.into(), dot_env: None };
        Fixed { name: name.into(), snapshot }
    }
}

impl Provider for Fixed {
    fn name(&self) -> &str {
        &self.name
    }

    fn read(&self) -> BoxFuture<'_, Snapshot> {
        Box::pin(async { self.snapshot.clone() })
    }

    fn run(&self, publisher: Publisher, mut stop: Stop) -> BoxFuture<'_, ()> {
        publisher.publish(self.snapshot.clone());
        Box::pin(async move { stop.wait().await })
    }
}

#[cfg(test)]
mod tests {
    use portcullis_core::provider::Board;

    use super::*;

    #[tokio::test]
    async fn publishes_once_and_stops() {
        let provider = Fixed::value("command-line", serde_json::json!({ "routes": [] }));
        let board = Arc::new(Board::default());
        let (stopper, stop) = Stop::pair();
        stopper.stop();
        provider.run(Publisher::new(provider.name(), board.clone()), stop).await;
        assert_eq!(board.all().get("command-line"), Some(&provider.read().await));
    }
}
