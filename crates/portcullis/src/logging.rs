//! The gateway's own log, to standard error: text for people (coloured on a terminal only) or JSON for machines.
//!
//! `RUST_LOG` wins over the configuration; both filter and format follow a reload.

use std::io::IsTerminal;

use portcullis_config::model::{self, LogFormat};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    layer::{Layered, SubscriberExt},
    reload,
    util::SubscriberInitExt,
};

/// The variable that wins over the configuration.
const VARIABLE: &str = "RUST_LOG";

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Writer = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of the process, once it has begun.
#[derive(Clone)]
pub struct Logging {
    filter: reload::Handle<EnvFilter, Registry>,
    writer: reload::Handle<Writer, Filtered>,
}

impl Logging {
    /// Begins, with the settings for when nothing is configured. `None` when the process has a log already (a program
    /// that uses the library keeps its own).
    pub fn start() -> Option<Logging> {
        let (filter, filter_handle) = reload::Layer::new(filter("info"));
        let (writer, writer_handle) = reload::Layer::new(writer(LogFormat::Text));
        let begun = tracing_subscriber::registry().with(filter).with(writer).try_init();
        begun.is_ok().then_some(Logging { filter: filter_handle, writer: writer_handle })
    }

    /// Follows the configuration.
    pub fn configure(&self, settings: &model::Log) {
        // An error means that the subscriber is gone, and with it everybody who could be told.
        let _ = self.filter.reload(filter(&settings.filter));
        let _ = self.writer.reload(writer(settings.format));
    }
}

impl std::fmt::Debug for Logging {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Logging")
    }
}

/// What is logged: as the variable says, else as configured. Parts that cannot be read are left out, with a word on
/// standard error.
fn filter(configured: &str) -> EnvFilter {
    let from_environment = std::env::var(VARIABLE).ok().filter(|text| !text.trim().is_empty());
    EnvFilter::builder().parse_lossy(from_environment.as_deref().unwrap_or(configured))
}

fn writer(format: LogFormat) -> Writer {
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(colours(&std::io::stderr())).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_ansi(false).boxed(),
    }
}

/// May this stream be written to in colours? On a terminal, unless `NO_COLOR` is set (<https://no-color.org>).
pub fn colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
