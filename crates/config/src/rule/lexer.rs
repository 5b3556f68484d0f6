//! The tokens of a rule. Strings are Go's: `` `raw` `` or `"with \" escapes"`.

use super::RuleError;

/// What a token is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    And,
    Or,
    Not,
    Open,
    Close,
    Comma,
    Word(String),
    Text(String),
    End,
}

impl Kind {
    /// How an error names it.
    pub(super) fn shown(&self) -> String {
        match self {
            Kind::And => "`&&`".into(),
            Kind::Or => "`||`".into(),
            Kind::Not => "`!`".into(),
            Kind::Open => "`(`".into(),
            Kind::Close => "`)`".into(),
            Kind::Comma => "`,`".into(),
            Kind::Word(word) => format!("`{word}`"),
            Kind::Text(_) => "a string".into(),
            Kind::End => "the end of the rule".into(),
        }
    }
}

/// A token and the bytes of the rule it was read from.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) offset: usize,
    pub(super) length: usize,
}

/// Cuts the whole rule into tokens; the last one is always `End`.
pub(super) fn tokens(rule: &str) -> Result<Vec<Token>, RuleError> {
    let mut lexer = Lexer { rule, at: 0 };
    let mut all = Vec::new();
    loop {
        let token = lexer.next()?;
        let done = token.kind == Kind::End;
        all.push(token);
        if done {
            return Ok(all);
        }
    }
}

struct Lexer<'a> {
    rule: &'a str,
    at: usize,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.rule.get(self.at..).unwrap_or("")
    }

    fn error(&self, offset: usize, length: usize, message: impl Into<String>, help: &str) -> RuleError {
        RuleError::new(self.rule, offset, length, message, help)
    }

    fn next(&mut self) -> Result<Token, RuleError> {
        let blank = self.rest().len() - self.rest().trim_start().len();
        self.at += blank;
        let (offset, rest) = (self.at, self.rest());
        let simple = [
            ("&&", Kind::And),
            ("||", Kind::Or),
            ("!", Kind::Not),
            ("(", Kind::Open),
            (")", Kind::Close),
            (",", Kind::Comma),
        ];
        for (text, kind) in simple {
            if rest.starts_with(text) {
                self.at += text.len();
                return Ok(Token { kind, offset, length: text.len() });
            }
        }
        let kind = match rest.chars().next() {
            None => Kind::End,
            Some('`') => Kind::Text(self.raw()?),
            Some('"') => Kind::Text(self.quoted()?),
            Some(c) if c.is_ascii_alphabetic() || c == '_' => {
                let word: String =
                    rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                self.at += word.len();
                Kind::Word(word)
            }
            Some(c) => return Err(self.stray(c)),
        };
        Ok(Token { kind, offset, length: self.at - offset })
    }

    fn stray(&self, c: char) -> RuleError {
        let (message, help) = match c {
            '\'' => ("a string in single quotes", "write strings in backticks or double quotes: `text`"),
            '&' => ("a single `&`", "write `&&` for \"and\""),
            '|' => ("a single `|`", "write `||` for \"or\""),
            '‘' | '’' | '“' | '”' => {
                ("a typographic quote", "write strings in backticks or double quotes: `text`")
            }
            _ => {
                let message = format!("the character {c:?} does not belong here");
                let help =
                    "a rule is made of matchers such as Host(`example.com`), `&&`, `||`, `!` and parentheses";
                return self.error(self.at, c.len_utf8(), message, help);
            }
        };
        self.error(self.at, c.len_utf8(), message, help)
    }

    /// Between backticks nothing is special; Go drops carriage returns.
    fn raw(&mut self) -> Result<String, RuleError> {
        let body = self.rest().get(1..).unwrap_or("");
        let Some(end) = body.find('`') else {
            return Err(self.error(
                self.at,
                self.rest().len(),
                "this string never ends",
                "close it with a backtick",
            ));
        };
        self.at += end + 2;
        Ok(body.get(..end).unwrap_or("").replace('\r', ""))
    }

    fn quoted(&mut self) -> Result<String, RuleError> {
        let start = self.at;
        self.at += 1;
        let mut bytes = Vec::new();
        loop {
            let Some(c) = self.rest().chars().next().filter(|c| *c != '\n') else {
                let length = self.at - start;
                return Err(self.error(
                    start,
                    length,
                    "this string never ends",
                    "close it with a double quote",
                ));
            };
            match c {
                '"' => {
                    self.at += 1;
                    break;
                }
                '\\' => self.escape(&mut bytes)?,
                _ => {
                    self.at += c.len_utf8();
                    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
        }
        String::from_utf8(bytes).map_err(|_| {
            self.error(start, self.at - start, "this string is not UTF-8", "check its \\x and octal escapes")
        })
    }

    /// The escapes of a Go string literal: <https://go.dev/ref/spec#String_literals>.
    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), RuleError> {
        let start = self.at;
        let after = self.rest().get(1..).unwrap_or("");
        let Some(c) = after.chars().next() else {
            return Err(self.error(
                start,
                1,
                "an escape without a character",
                "write `\\\\` for a backslash",
            ));
        };
        let simple = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' => b'\\',
            '"' => b'"',
            _ => 0,
        };
        if simple != 0 {
            out.push(simple);
            self.at += 2;
            return Ok(());
        }
        let (skip, digits, radix) = match c {
            'x' => (1, 2, 16),
            'u' => (1, 4, 16),
            'U' => (1, 8, 16),
            '0'..='7' => (0, 3, 8),
            _ => {
                let help = "escapes are \\a \\b \\f \\n \\r \\t \\v \\\\ \\\" \\xHH \\uHHHH \\UHHHHHHHH and \\OOO; between backticks none is needed";
                return Err(self.error(start, 1 + c.len_utf8(), format!("unknown escape `\\{c}`"), help));
            }
        };
        let text = after.get(skip..skip + digits).filter(|t| t.chars().all(|c| c.is_digit(radix)));
        let value = text.and_then(|t| u32::from_str_radix(t, radix).ok());
        let written = match (c, value) {
            ('u' | 'U', Some(value)) => char::from_u32(value).map(|c| {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }),
            (_, Some(value)) => u8::try_from(value).ok().map(|byte| out.push(byte)),
            (_, None) => None,
        };
        if written.is_none() {
            let help = format!("`\\{c}` needs {digits} digits of base {radix} that name a character");
            return Err(self.error(start, 2, "a bad escape", &help));
        }
        self.at += 1 + skip + digits;
        Ok(())
    }
}
