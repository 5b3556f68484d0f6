//! The schema that `portcullis schema` prints takes what the gateway takes: the example, the golden configurations, and
//! every TOML block of the documents; and refuses what is plainly wrong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use portcullis_config::{Format, document::Document};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A validator for the keywords that our schema has; any other keyword ends the test.
struct Validator {
    schema: Value,
}

impl Validator {
    fn judge(&self, value: &Value) -> Result<(), String> {
        self.at(&self.schema, value, "")
    }

    fn at(&self, schema: &Value, value: &Value, path: &str) -> Result<(), String> {
        let Some(schema) = schema.as_object() else {
            return if *schema == json!(false) {
                Err(format!("{path}: nothing may stand here"))
            } else {
                Ok(())
            };
        };
        for (keyword, of) in schema {
            self.keyword(keyword, of, schema, value, path)?;
        }
        Ok(())
    }

    fn keyword(
        &self,
        keyword: &str,
        of: &Value,
        schema: &serde_json::Map<String, Value>,
        value: &Value,
        path: &str,
    ) -> Result<(), String> {
        let wrong = |what: &str| Err(format!("{path}: {value} {what} {of}"));
        let parts = || of.as_array().expect("schemas").iter().map(|part| self.at(part, value, path));
        match keyword {
            "$schema" | "$defs" | "title" | "description" | "default" | "examples" | "format"
            | "deprecated" => {}
            "$ref" => {
                let pointer = of.as_str().and_then(|text| text.strip_prefix('#')).expect("a reference");
                self.at(self.schema.pointer(pointer).expect("a definition"), value, path)?;
            }
            "anyOf" => {
                let judged: Vec<Result<(), String>> = parts().collect();
                if judged.iter().all(Result::is_err) {
                    let why: Vec<String> = judged.into_iter().filter_map(Result::err).collect();
                    return Err(format!("{path}: none of\n  {}", why.join("\n  ")));
                }
            }
            "oneOf" if parts().filter(Result::is_ok).count() != 1 => return wrong("is not exactly one of"),
            "allOf" => parts().collect::<Result<(), String>>()?,
            "oneOf" => {}
            "type" => {
                let kinds: Vec<&str> = match of {
                    Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
                    one => one.as_str().into_iter().collect(),
                };
                if !kinds.iter().any(|kind| is(value, kind)) {
                    return wrong("is not of type");
                }
            }
            "enum" if !of.as_array().expect("values").contains(value) => return wrong("is none of"),
            "const" if of != value => return wrong("is not"),
            "enum" | "const" => {}
            "minimum" if value.as_f64().is_some_and(|n| n < of.as_f64().expect("a number")) => {
                return wrong("is less than");
            }
            "exclusiveMinimum" if value.as_f64().is_some_and(|n| n <= of.as_f64().expect("a number")) => {
                return wrong("is not above");
            }
            "maximum" if value.as_f64().is_some_and(|n| n > of.as_f64().expect("a number")) => {
                return wrong("is more than");
            }
            "minProperties"
                if value.as_object().is_some_and(|map| (map.len() as u64) < of.as_u64().unwrap()) =>
            {
                return wrong("has fewer keys than");
            }
            "maxProperties"
                if value.as_object().is_some_and(|map| map.len() as u64 > of.as_u64().unwrap()) =>
            {
                return wrong("has more keys than");
            }
            "minLength" | "minItems" | "minimum" | "maximum" | "exclusiveMinimum" | "minProperties"
            | "maxProperties" => {}
            "pattern" => {
                let regex = regex::Regex::new(of.as_str().expect("a pattern")).expect("a pattern");
                if value.as_str().is_some_and(|text| !regex.is_match(text)) {
                    return wrong("does not match");
                }
            }
            "required" => {
                for key in of.as_array().expect("keys").iter().filter_map(Value::as_str) {
                    if value.as_object().is_some_and(|map| !map.contains_key(key)) {
                        return Err(format!("{path}: {key} is missing"));
                    }
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    self.at(of, item, &format!("{path}[{at}]"))?;
                }
            }
            "properties" | "additionalProperties" | "patternProperties" => {
                let named = schema.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    let own = named.and_then(|named| named.get(key));
                    let judge = match keyword {
                        "properties" => own,
                        "additionalProperties" if own.is_none() => Some(of),
                        "patternProperties" => panic!("patternProperties"),
                        _ => None,
                    };
                    if let Some(judge) = judge {
                        self.at(judge, value, &format!("{path}.{key}"))?;
                    }
                }
            }
            other => panic!("the test knows no keyword {other}"),
        }
        Ok(())
    }
}

fn is(value: &Value, kind: &str) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type {other}"),
    }
}

fn validator() -> Validator {
    Validator { schema: portcullis::schema::schema() }
}

/// Reads a text as it is written, variables not put in.
fn read(text: &str, format: Format) -> Value {
    let (document, findings) = Document::parse("gateway", text, format);
    assert!(findings.is_empty(), "{text}\n{findings:?}");
    let mut value = document.root.to_json();
    without_nothing(&mut value);
    value
}

/// `listeners:` with nothing behind it is YAML's way to leave a section empty: the same as leaving it away.
fn without_nothing(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(without_nothing);
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

#[test]
fn it_takes_what_the_gateway_takes() {
    let validator = validator();
    let mut inputs = vec![root().join("examples/avx-gateway/gateway.toml")];
    let mut golden = Vec::new();
    files(&root().join("tests/golden/config"), &mut golden);
    // A golden configuration that means a model has nothing wrong. The long form writes choices in other spellings
    // (`Least-Connections`), which the gateway takes and the schema does not offer, and the
    // one of substitutions has settings of no real kind.
    inputs.extend(golden.into_iter().filter(|path| {
        Format::of_file(path).is_some()
            && !path.to_string_lossy().contains(".model.")
            && !path.ends_with("long-form.toml")
            && !path.ends_with("substitution.toml")
            && path.with_extension("model.json").exists()
    }));
    assert!(inputs.len() >= 4, "{inputs:?}");
    for input in inputs {
        let text = fs::read_to_string(&input).expect("a file");
        let value = read(&text, Format::of_file(&input).expect("a format"));
        validator.judge(&value).unwrap_or_else(|why| panic!("{}: {why}", input.display()));
    }
}

#[test]
fn it_takes_every_block_of_the_documents() {
    let validator = validator();
    let mut documents = vec![root().join("README.md")];
    files(&root().join("docs"), &mut documents);
    let mut blocks = 0;
    for document in documents.iter().filter(|path| path.extension().is_some_and(|end| end == "md")) {
        let text = fs::read_to_string(document).expect("a document");
        for (open, format) in [("```toml\n", Format::Toml), ("```json\n", Format::Json)] {
            for block in text.split(open).skip(1).filter_map(|rest| rest.split("```").next()) {
                // Of JSON only whole configurations are meant, not answers of the admin API.
                if format == Format::Json && !block.contains("\"routes\": [")
                    || block.contains("\"generation\"")
                {
                    continue;
                }
                let value = read(block, format);
                // Some blocks show the inside of a table only.
                let known = validator.schema["properties"].as_object().expect("keys");
                if !value.as_object().expect("a table").keys().any(|key| known.contains_key(key)) {
                    continue;
                }
                blocks += 1;
                validator
                    .judge(&value)
                    .unwrap_or_else(|why| panic!("{}: {why}\n{block}", document.display()));
            }
        }
    }
    assert!(blocks >= 30, "{blocks} blocks");
}

#[test]
fn it_refuses_what_is_wrong() {
    let validator = validator();
    for wrong in [
        json!({ "routs": [] }),
        json!({ "routes": [{ "pth": "/" }] }),
        json!({ "routes": {} }),
        json!({ "server": { "port": 99999 } }),
        json!({ "workers": "many" }),
        json!({ "services": { "s": { "endpoints": 7 } } }),
        json!({ "middlewares": { "m": { "headrs": {} } } }),
        json!({ "middlewares": { "m": { "body_limit": { "maximum": 1 } } } }),
        json!({ "middlewares": { "m": { "redirect_scheme": { "scheme": "ftp" } } } }),
        json!({ "access_log": "jsonn" }),
    ] {
        assert!(validator.judge(&wrong).is_err(), "{wrong}");
    }
    assert_eq!(validator.judge(&json!({ "workers": "${WORKERS}" })), Ok(()));
}
