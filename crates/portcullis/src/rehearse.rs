//! Compiling a configuration without running it: for `check`, `show` and `explain`. No socket is opened, no state is
//! shared with anybody.

use std::{path::Path, sync::Arc};

use portcullis_config::{Code, Finding, Model};
use portcullis_core::keep::Keep;
use portcullis_providers::File;
use portcullis_proxy::{
    observe::Metrics,
    runtime::{
        Runtime,
        compile::{Parts, Problem, compile},
    },
};

use crate::{
    control::Control,
    gateway::folder_of,
    load::{self, Loaded},
};

/// Reads and checks a file.
pub fn load_file(file: &Path) -> Loaded {
    load::load("file", &File::read_now(file), &folder_of(file))
}

/// Compiles a model.
///
/// # Errors
/// All problems found.
pub fn rehearse(model: Arc<Model>, folder: &Path) -> Result<Runtime, Vec<Problem>> {
    let metrics = Metrics::new(1, &model.metrics.buckets);
    let parts = Parts {
        keep: &Keep::default(),
        middlewares: portcullis_middleware::TABLE,
        builtins: &Control::unconnected(),
        stores: &portcullis_store::pretended(&model.stores),
        metrics: &metrics,
        access_log: None,
        generation: 1,
        folder,
        workers: 1,
    };
    compile(model, &parts)
}

/// Reads, checks and compiles a file: what `check` judges. Whatever does not compile is a finding as well.
pub fn check_file(file: &Path) -> Loaded {
    let mut loaded = load_file(file);
    let Some(model) = &loaded.model else { return loaded };
    if let Err(problems) = rehearse(model.clone(), &folder_of(file)) {
        let found = |problem: Problem| Finding {
            file: file.display().to_string().into(),
            ..Finding::error(Code::BadSettings, problem.to_string())
        };
        loaded.findings.extend(problems.into_iter().map(found));
        loaded.model = None;
    }
    loaded
}
