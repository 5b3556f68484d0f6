//! Edits of a list of fields: remove, set, add, in this order.

use std::collections::BTreeMap;

use portcullis_core::{Answer, Exchange, Known, middleware::Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    settings::{self, Strings},
    template::Field,
};

/// Which fields to remove, set and add, in this order. Values may hold `{client_ip}`, `{host}`, `{request_id}`,
/// `{route}` and `{scheme}`.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditSettings {
    /// Fields to have exactly this value, whatever was there; a list of values makes several fields.
    #[serde(default)]
    pub set: BTreeMap<String, Strings>,
    /// Fields to have this value besides what is there.
    #[serde(default)]
    pub add: BTreeMap<String, Strings>,
    /// Names of fields to remove.
    #[serde(default)]
    pub remove: Strings,
}

/// Compiled form of [`EditSettings`].
#[derive(Debug, Default)]
pub struct Edits {
    remove: Vec<(Known, String)>,
    /// Each field, and whether to clear its name first.
    fields: Vec<(bool, Field)>,
}

impl Edits {
    /// Compiles edits that stand at `path`.
    pub fn compile(path: &str, written: &EditSettings) -> Result<Edits, Problem> {
        let mut edits = Edits::default();
        for (index, name) in written.remove.0.iter().enumerate() {
            let at = format!("{path}.remove[{index}]");
            settings::name(&at, name)?;
            refuse_host(path, &at, name)?;
            edits.remove.push((Known::of(name.as_bytes()), name.clone()));
        }
        for (name, values) in &written.set {
            let at = format!("{path}.set.{name}");
            refuse_host(path, &at, name)?;
            if values.0.is_empty() {
                return Err(
                    Problem::at(at, "has no value").help(format!("`remove = [\"{name}\"]` removes it"))
                );
            }
            for (index, value) in values.0.iter().enumerate() {
                edits.fields.push((index == 0, Field::compile(&at, name, value)?));
            }
        }
        for (name, values) in &written.add {
            let at = format!("{path}.add.{name}");
            refuse_host(path, &at, name)?;
            for value in &values.0 {
                edits.fields.push((false, Field::compile(&at, name, value)?));
            }
        }
        Ok(edits)
    }

    /// Does a value hold the request's id?
    pub fn need_id(&self) -> bool {
        self.fields.iter().any(|(_, field)| field.needs_id())
    }

    /// Edits the request.
    pub fn apply_to_request(&self, x: &mut Exchange) {
        for (known, name) in &self.remove {
            x.request.fields.remove_classified(*known, name.as_bytes());
        }
        for (clear, field) in &self.fields {
            if *clear {
                field.clear(&mut x.request.fields);
            }
            field.add_to_request(x);
        }
    }

    /// Edits an answer.
    pub fn apply_to(&self, answer: &mut Answer, x: &Exchange) {
        for (known, name) in &self.remove {
            answer.fields.remove_classified(*known, name.as_bytes());
        }
        for (clear, field) in &self.fields {
            if *clear {
                field.clear(&mut answer.fields);
            }
            field.add_to(&mut answer.fields, x);
        }
    }
}

/// `Host` is not one field among others.
fn refuse_host(path: &str, at: &str, name: &str) -> Result<(), Problem> {
    if Known::of(name.as_bytes()) != Known::Host {
        return Ok(());
    }
    let problem = Problem::at(at, "`Host` is part of the request's target");
    Err(if path == "request" {
        problem.help("`host = \"…\"` of this middleware replaces it")
    } else {
        problem
    })
}
