//! `portcullis schema`: the JSON Schema of what people write, with the settings of every kind of middleware.

use std::process::ExitCode;

use super::print_json;

/// Prints it.
pub fn run() -> ExitCode {
    print_json(&portcullis::schema::schema());
    ExitCode::SUCCESS
}
