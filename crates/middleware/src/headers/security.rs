//! The security fields of `headers`: each a switch or a value that becomes a line of the answer.

use portcullis_core::{Line, middleware::Problem};

use crate::{headers::Headers, settings};

/// What the switches come to.
#[derive(Debug, Default)]
pub struct Security {
    /// `Strict-Transport-Security`; clients ignore it on plaintext (RFC 6797 §8.1), so that it goes out on TLS only.
    pub transport: Option<Line>,
    /// Send it on plaintext too.
    pub force_transport: bool,
    /// The others.
    pub lines: Vec<Line>,
}

impl Security {
    /// Compiles the switches.
    pub fn compile(headers: &Headers) -> Result<Security, Problem> {
        let frame = headers.frame_options.as_deref().or(headers.frame_deny.then_some("DENY"));
        let sniff = headers.content_type_nosniff.then_some("nosniff");
        let xss = headers.xss_filter.then_some("1; mode=block");
        let table = [
            ("frame_options", "X-Frame-Options", frame),
            ("content_type_nosniff", "X-Content-Type-Options", sniff),
            ("xss_filter", "X-XSS-Protection", xss),
            (
                "content_security_policy",
                "Content-Security-Policy",
                headers.content_security_policy.as_deref(),
            ),
            (
                "content_security_policy_report_only",
                "Content-Security-Policy-Report-Only",
                headers.content_security_policy_report_only.as_deref(),
            ),
            ("referrer_policy", "Referrer-Policy", headers.referrer_policy.as_deref()),
            ("permissions_policy", "Permissions-Policy", headers.permissions_policy.as_deref()),
        ];
        let mut lines = Vec::new();
        for (path, name, value) in table {
            if let Some(value) = value {
                if value.is_empty() {
                    return Err(Problem::at(path, "is empty").help("a value, or leave the line out"));
                }
                lines.push(settings::line(path, name, value)?);
            }
        }
        Ok(Security { transport: transport(headers)?, force_transport: headers.force_sts, lines })
    }
}

/// `Strict-Transport-Security` (RFC 6797 §6.1).
fn transport(headers: &Headers) -> Result<Option<Line>, Problem> {
    let Some(seconds) = headers.sts_seconds else {
        let switches = [
            ("sts_include_subdomains", headers.sts_include_subdomains),
            ("sts_preload", headers.sts_preload),
            ("force_sts", headers.force_sts),
        ];
        return match switches.iter().find(|(_, on)| *on) {
            Some((path, _)) => {
                Err(Problem::at(*path, "does nothing without `sts_seconds`").help("`sts_seconds = 31536000`"))
            }
            None => Ok(None),
        };
    };
    let mut value = format!("max-age={seconds}");
    if headers.sts_include_subdomains {
        value.push_str("; includeSubDomains");
    }
    if headers.sts_preload {
        value.push_str("; preload");
    }
    settings::line("sts_seconds", "Strict-Transport-Security", &value).map(Some)
}
