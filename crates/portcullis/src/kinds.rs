//! What the configuration asks of those who know middlewares and built-in services.

use std::{collections::BTreeMap, path::Path};

use portcullis_config::{
    KindProblem, Kinds,
    model::{Name, Store},
};
use portcullis_core::{keep::Keep, meter::Meters, middleware::Around};
use serde_json::Value;

use crate::app::BUILTINS;

/// The kinds of this build. Settings are checked by really building them, against a store of state that is thrown away.
#[derive(Debug, Clone, Copy)]
pub struct OurKinds<'a> {
    /// Relative files are relative to this folder.
    pub folder: &'a Path,
}

impl Kinds for OurKinds<'_> {
    fn names(&self) -> Vec<&'static str> {
        portcullis_middleware::TABLE.iter().map(|row| row.name).collect()
    }

    fn check(&self, kind: &str, settings: &Value, stores: &BTreeMap<Name, Store>) -> Result<(), KindProblem> {
        let Some(row) = portcullis_middleware::find(kind) else { return Ok(()) };
        let keep = Keep::default();
        let (stores, meters) = (portcullis_store::pretended(stores), Meters::default());
        let around =
            Around { name: "check", folder: self.folder, keep: &keep, stores: &stores, meters: &meters };
        match (row.build)(settings, &around) {
            Ok(_) => Ok(()),
            Err(problem) => Err(KindProblem {
                path: problem.path,
                message: problem.message,
                help: problem.help.unwrap_or_default(),
            }),
        }
    }

    fn builtins(&self) -> Vec<&'static str> {
        BUILTINS.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_really_built() {
        let (kinds, none) = (OurKinds { folder: Path::new(".") }, BTreeMap::new());
        assert!(kinds.names().contains(&"headers"));
        assert_eq!(kinds.check("strip_prefix", &json!({ "prefixes": ["/api"] }), &none), Ok(()));
        let problem = kinds.check("strip_prefix", &json!({ "prefix": ["/api"] }), &none).unwrap_err();
        assert!(problem.message.contains("prefix"), "{problem:?}");
    }
}
