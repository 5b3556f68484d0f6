//! The text format of Prometheus, version 0.0.4.

use std::fmt::Write;

/// A page of metrics being written.
#[derive(Debug, Default)]
pub(super) struct Page {
    out: String,
    family: &'static str,
}

/// What kind of family it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Type {
    Counter,
    Gauge,
    Histogram,
}

impl Page {
    /// Starts a family; its samples follow.
    pub fn family(&mut self, name: &'static str, kind: Type, help: &str) {
        let kind = match kind {
            Type::Counter => "counter",
            Type::Gauge => "gauge",
            Type::Histogram => "histogram",
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.family = name;
    }

    /// One sample of the family.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Number) {
        self.line("", labels, &[], value);
    }

    /// One sample of a histogram's: bucket, sum or count.
    pub fn part(&mut self, suffix: &str, labels: &[(&str, &str)], more: &[(&str, &str)], value: impl Number) {
        self.line(suffix, labels, more, value);
    }

    fn line(&mut self, suffix: &str, labels: &[(&str, &str)], more: &[(&str, &str)], value: impl Number) {
        self.out.push_str(self.family);
        self.out.push_str(suffix);
        let mut before = '{';
        for (name, text) in labels.iter().chain(more) {
            self.out.push(before);
            self.out.push_str(name);
            self.out.push_str("=\"");
            escape(text, &mut self.out);
            self.out.push('"');
            before = ',';
        }
        if before == ',' {
            self.out.push('}');
        }
        self.out.push(' ');
        value.write(&mut self.out);
        self.out.push('\n');
    }

    /// The page.
    pub fn finish(self) -> String {
        self.out
    }
}

/// A sample's value.
pub(super) trait Number {
    fn write(self, out: &mut String);
}

impl Number for u64 {
    fn write(self, out: &mut String) {
        out.push_str(itoa::Buffer::new().format(self));
    }
}

impl Number for i64 {
    fn write(self, out: &mut String) {
        out.push_str(itoa::Buffer::new().format(self));
    }
}

impl Number for f64 {
    fn write(self, out: &mut String) {
        let _ = write!(out, "{self}");
    }
}

/// A label's value: backslash, quote and line feed are escaped, everything else stands as it is.
fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("gateway_x", Type::Gauge, "X.");
        page.sample(&[], 1_u64);
        page.sample(&[("path", "/a\"\\\n{ü}")], 0.25);
        page.part("_bucket", &[("a", "b")], &[("le", "+Inf")], -1_i64);
        let expected = "# HELP gateway_x X.\n# TYPE gateway_x gauge\ngateway_x 1\n\
                        gateway_x{path=\"/a\\\"\\\\\\n{ü}\"} 0.25\ngateway_x_bucket{a=\"b\",le=\"+Inf\"} -1\n";
        assert_eq!(page.finish(), expected);
    }
}
