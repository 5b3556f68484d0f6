//! The stores of a configuration, made or carried over.

use portcullis_config::model::Model;
use portcullis_core::store::Stores;
use portcullis_proxy::tls::client_config;

use crate::reload::Process;

/// Builds what the model names. Nothing is connected yet.
///
/// # Errors
/// What is wrong with each that cannot be used.
pub fn build(model: &Model, process: &Process) -> Result<Stores, Vec<String>> {
    let around = portcullis_store::Around {
        keep: &process.keep,
        meters: &process.metrics.meters,
        tls: &|settings| client_config(settings, &[]).map_err(|error| error.to_string()),
    };
    portcullis_store::build(&model.stores, &around)
}
