//! What several targets make of their input.

use portcullis_core::{Fields, line::is_token};

/// Lines of `name: value`, as they come from the readers of heads: names are tokens, values hold no control bytes. Other
/// lines are left out.
pub fn fields<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Fields {
    let mut fields = Fields::new();
    for line in lines {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (Ok(name), value) = (std::str::from_utf8(&line[..colon]), line[colon + 1..].trim_ascii()) else {
            continue;
        };
        let is_value = value.iter().all(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f));
        if is_token(name) && is_value {
            fields.append(name, value);
        }
    }
    fields
}
