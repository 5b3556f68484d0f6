//! From the text of a rule to its expression.
//!
//! ```text
//! rule  := and ( "||" and )*
//! and   := unary ( "&&" unary )*
//! unary := "!" unary | "(" rule ")" | call
//! call  := NAME "(" string ( "," string )* ")"
//! ```
//!
//! Traefik hands rules to Go's expression parser, hence the precedence `!` over `&&` over `||`. "Not" is moved
//! to the matchers by De Morgan while parsing, so that the result never holds a `Not` around anything else.

use super::{
    Rule, RuleError,
    lexer::{self, Kind, Token},
    matcher::{self, Argument},
};

/// Longest rule accepted, bytes.
pub const MAX_LENGTH: usize = 16 * 1024;
/// Deepest nesting of parentheses and `!` accepted.
pub const MAX_DEPTH: usize = 64;

/// Reads a rule of Traefik's v3 language.
pub fn parse(rule: &str) -> Result<Rule, RuleError> {
    if rule.len() > MAX_LENGTH {
        let message = format!("the rule is {} bytes long, more than {MAX_LENGTH}", rule.len());
        return Err(RuleError::new(rule, 0, 1, message, "split it into several routes"));
    }
    let tokens = lexer::tokens(rule)?;
    let mut parser = Parser { rule, tokens, at: 0, depth: 0 };
    if parser.peek().kind == Kind::End {
        return Err(RuleError::new(rule, 0, 1, "the rule is empty", "a rule looks like Host(`example.com`)"));
    }
    let parsed = parser.or(false)?;
    let token = parser.peek();
    match token.kind {
        Kind::End => Ok(parsed),
        Kind::Close => Err(parser.error(&token, "this `)` closes nothing", "take it away or open it before")),
        _ => {
            let message = format!("{} cannot stand here", token.kind.shown());
            Err(parser.error(&token, message, "join conditions with `&&` or `||`"))
        }
    }
}

struct Parser<'a> {
    rule: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn peek(&self) -> Token {
        let end = Token { kind: Kind::End, offset: self.rule.len(), length: 0 };
        self.tokens.get(self.at).cloned().unwrap_or(end)
    }

    fn take(&mut self) -> Token {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn error(&self, at: &Token, message: impl Into<String>, help: impl Into<String>) -> RuleError {
        RuleError::new(self.rule, at.offset, at.length, message, help)
    }

    fn or(&mut self, negated: bool) -> Result<Rule, RuleError> {
        let mut parts = vec![self.and(negated)?];
        while self.peek().kind == Kind::Or {
            self.take();
            parts.push(self.and(negated)?);
        }
        Ok(if negated { Rule::all(parts) } else { Rule::any(parts) })
    }

    fn and(&mut self, negated: bool) -> Result<Rule, RuleError> {
        let mut parts = vec![self.unary(negated)?];
        while self.peek().kind == Kind::And {
            self.take();
            parts.push(self.unary(negated)?);
        }
        Ok(if negated { Rule::any(parts) } else { Rule::all(parts) })
    }

    fn unary(&mut self, negated: bool) -> Result<Rule, RuleError> {
        let token = self.take();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let message = format!("nested more than {MAX_DEPTH} deep");
            return Err(self.error(&token, message, "write the rule flatter, or as several routes"));
        }
        let rule = match &token.kind {
            Kind::Not => self.unary(!negated)?,
            Kind::Open => {
                let inner = self.or(negated)?;
                let close = self.take();
                if close.kind != Kind::Close {
                    let message = format!("expected `)`, found {}", close.kind.shown());
                    return Err(self.error(&close, message, "a `(` before is not closed"));
                }
                inner
            }
            Kind::Word(name) => {
                let call = self.call(name, &token)?;
                if negated { call.negated() } else { call }
            }
            other => {
                let message = format!("expected a matcher, found {}", other.shown());
                return Err(self.error(&token, message, "a matcher looks like Host(`example.com`)"));
            }
        };
        self.depth -= 1;
        Ok(rule)
    }

    fn call(&mut self, name: &str, word: &Token) -> Result<Rule, RuleError> {
        let matcher = matcher::find(name)
            .map_err(|help| self.error(word, format!("unknown matcher `{name}`"), help))?;
        let open = self.take();
        if open.kind != Kind::Open {
            let message = format!("expected `(` after `{name}`, found {}", open.kind.shown());
            return Err(self.error(&open, message, format!("write {}", matcher.example())));
        }
        let mut arguments: Vec<Argument> = Vec::new();
        loop {
            let token = self.take();
            match token.kind {
                Kind::Text(text) => {
                    arguments.push(Argument { text, offset: token.offset, length: token.length });
                }
                Kind::Close if arguments.is_empty() => break,
                ref other => {
                    let message = format!("expected a string, found {}", other.shown());
                    return Err(self.error(&token, message, format!("write {}", matcher.example())));
                }
            }
            let next = self.take();
            match next.kind {
                Kind::Comma => {}
                Kind::Close => break,
                ref other => {
                    let message = format!("expected `,` or `)`, found {}", other.shown());
                    return Err(self.error(&next, message, format!("write {}", matcher.example())));
                }
            }
        }
        matcher::build(self.rule, matcher, &arguments, (word.offset, word.length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::Matcher;

    fn text(rule: &str) -> String {
        parse(rule).unwrap_or_else(|e| panic!("{rule}: {e}")).to_string()
    }

    #[test]
    fn precedence_is_gos() {
        let rule = parse("Method(`GET`) || Method(`POST`) && !Path(`/a`)").unwrap();
        let Rule::Or(parts) = rule else { panic!() };
        assert_eq!(parts.len(), 2);
        assert!(matches!(&parts[1], Rule::And(inner) if matches!(inner[1], Rule::Not(_))));
    }

    #[test]
    fn de_morgan_pushes_not_to_the_matchers() {
        assert_eq!(
            text("!(Host(`a`) && (Path(`/b`) || !Method(`GET`)))"),
            "!Host(`a`) || !Path(`/b`) && Method(`GET`)"
        );
        assert_eq!(text("!!Host(`a`)"), "Host(`a`)");
        // Or under And needs its parentheses back.
        assert_eq!(text("(Host(`a`)||Host(`b`))&&Path(`/`)"), "(Host(`a`) || Host(`b`)) && Path(`/`)");
    }

    #[test]
    fn the_canonical_text_reads_back_as_the_same_rule() {
        for rule in [
            "Host(`A.Example.`) && PathPrefix(\"/x\\u0041\")",
            "Header(`X-A`,\"back`tick\") || HeaderRegexp(`x`, `^a.*$`)",
            "Query(`a`) && Query(`a`,`b`) || !(QueryRegexp(`c`, `d+`) || ClientIP(`10.1.2.3/8`))",
            "HostRegexp(`^.+\\.example\\.com$`) && Host(`*.example.com`) && Host(`*`)",
            "PathRegexp(`^/v[0-9]+/`) && Path(`/a`) && method(`get`)",
        ] {
            let first = parse(rule).unwrap();
            assert_eq!(parse(&first.to_string()).unwrap(), first, "{rule}");
        }
    }

    #[test]
    fn names_are_accepted_in_four_spellings() {
        for name in ["PathPrefix", "pathprefix", "PATHPREFIX", "Pathprefix"] {
            assert!(parse(&format!("{name}(`/a`)")).is_ok(), "{name}");
        }
        assert!(parse("pathPrefix(`/a`)").unwrap_err().help.contains("PathPrefix"));
    }

    #[test]
    fn go_strings() {
        assert_eq!(
            parse(r#"Header("X", "\x41\u00e9\101\t\"\\")"#).unwrap(),
            Rule::Match(Matcher::Header { name: "X".into(), value: "AéA\t\"\\".into() })
        );
        for bad in [
            r#"Host("\q")"#,
            r#"Host("a"#,
            "Host(`a",
            r#"Path("/\xff")"#,
            r#"Host("\u12")"#,
            "Host(\"a\nb\")",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_error_points_at_its_place() {
        let cases = [
            ("", 1, "empty"),
            ("Host(`a`) & Path(`/`)", 11, "single `&`"),
            ("Host('a')", 6, "single quotes"),
            ("Hots(`a`)", 1, "unknown matcher"),
            ("Host(`a`) Path(`/`)", 11, "cannot stand here"),
            ("Host(`a`))", 10, "closes nothing"),
            ("(Host(`a`)", 11, "expected `)`"),
            ("Host(`a`) && ", 14, "expected a matcher"),
            ("Host()", 1, "takes"),
            ("Host(`a`, `b`)", 1, "takes"),
            ("Host(``)", 6, "empty"),
            ("Host(`a`,)", 10, "expected a string"),
            ("Host(`é`)", 6, "ASCII"),
            ("Header(`X`)", 1, "takes"),
            ("Path(`a`)", 6, "start with `/`"),
            ("PathPrefix(`a`)", 12, "start with `/`"),
            ("Host(`é.x`) && Host(`b", 21, "never ends"),
            ("PathRegexp(`(`)", 12, "regular expression"),
            ("ClientIP(`10.0.0.300`)", 10, "address"),
            ("Method(`G T`)", 8, "method"),
            ("Header(`X Y`, `v`)", 8, "header name"),
            ("Host(`a:80`)", 6, "port"),
            ("Host(`a.*.b`)", 6, "wildcard"),
            ("HostSNI(`a`)", 1, "unknown matcher"),
        ];
        for (rule, column, message) in cases {
            let error = parse(rule).expect_err(rule);
            assert_eq!(error.column, column, "{rule}: {error}");
            assert!(error.message.contains(message), "{rule}: {error}");
        }
        assert!(parse("Hots(`a`)").unwrap_err().help.contains("Host"));
    }

    #[test]
    fn depth_and_length_are_bounded() {
        let deep = format!("{}Host(`a`){}", "(".repeat(10_000 / 2), ")".repeat(10_000 / 2));
        assert!(parse(&deep).unwrap_err().message.contains("nested"));
        assert!(parse(&"!".repeat(1000)).is_err());
        let long = format!("Path(`/{}`)", "a".repeat(MAX_LENGTH));
        assert!(parse(&long).unwrap_err().message.contains("bytes long"));
    }
}
