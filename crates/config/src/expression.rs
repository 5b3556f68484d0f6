//! When a circuit breaker opens, in Traefik's words: `NetworkErrorRatio() > 0.30 || LatencyAtQuantileMS(50.0) > 100`.
//!
//! ```text
//! or      = and ("||" and)*
//! and     = unary ("&&" unary)*
//! unary   = "!" unary | "(" or ")" | measure op number
//! measure = NetworkErrorRatio() | ResponseCodeRatio(from, to, of from, of to) | LatencyAtQuantileMS(quantile)
//!         | RequestThreshold()
//! op      = ">" | ">=" | "<" | "<=" | "==" | "!="
//! ```

use std::fmt;

use serde::{Serialize, Serializer};

use crate::rule::RuleError;

/// How deep parentheses and `!` may be nested.
const DEPTH: usize = 32;
/// How many measures one may have.
const MOST: usize = 256;

/// A condition over what was measured of late.
#[derive(Debug, Clone, PartialEq)]
pub enum Expression {
    /// Both.
    And(Box<Expression>, Box<Expression>),
    /// One or the other.
    Or(Box<Expression>, Box<Expression>),
    /// Not so.
    Not(Box<Expression>),
    /// A measure against a number.
    Compare(Measure, Comparison, f64),
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Measure {
    /// Requests without an answer, or answered 502 or 504, of all: 0 to 1.
    NetworkErrorRatio,
    /// Answers from the first to below the second status, of those from the third to below the fourth: 0 to 1.
    ResponseCodeRatio(u16, u16, u16, u16),
    /// The latency below which this percentage of requests stayed, milliseconds.
    LatencyAtQuantileMs(f64),
    /// How many requests there were.
    Requests,
}

/// How they are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

impl Expression {
    /// Reads it.
    ///
    /// # Errors
    /// The first mistake, with its place.
    pub fn parse(text: &str) -> Result<Expression, RuleError> {
        let mut parser = Parser { text, at: 0, depth: 0, measures: 0 };
        let expression = parser.or()?;
        parser.space();
        match parser.rest() {
            "" => Ok(expression),
            rest => {
                let length = rest.chars().next().map_or(1, char::len_utf8);
                Err(parser.error(length, "here the expression should end", "join conditions by && or ||"))
            }
        }
    }

    /// Does it hold, by what this tells of each measure?
    pub fn holds(&self, measure: &impl Fn(Measure) -> f64) -> bool {
        match self {
            Expression::And(a, b) => a.holds(measure) && b.holds(measure),
            Expression::Or(a, b) => a.holds(measure) || b.holds(measure),
            Expression::Not(inner) => !inner.holds(measure),
            Expression::Compare(what, how, value) => {
                let (found, value) = (measure(*what), *value);
                match how {
                    Comparison::Greater => found > value,
                    Comparison::GreaterOrEqual => found >= value,
                    Comparison::Less => found < value,
                    Comparison::LessOrEqual => found <= value,
                    Comparison::Equal => (found - value).abs() < f64::EPSILON,
                    Comparison::NotEqual => (found - value).abs() >= f64::EPSILON,
                }
            }
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    measures: usize,
}

type Parsed = Result<Expression, RuleError>;

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    /// Takes this, if it comes next.
    fn eat(&mut self, token: &str) -> bool {
        self.space();
        let is_next = self.rest().starts_with(token);
        self.at += if is_next { token.len() } else { 0 };
        is_next
    }

    fn error(&self, length: usize, message: impl Into<String>, help: impl Into<String>) -> RuleError {
        RuleError::new(self.text, self.at, length, message, help)
    }

    fn want(&mut self, token: &str) -> Result<(), RuleError> {
        if self.eat(token) { Ok(()) } else { Err(self.error(1, format!("`{token}` is missing"), "")) }
    }

    fn or(&mut self) -> Parsed {
        let mut left = self.and()?;
        while self.eat("||") {
            left = Expression::Or(Box::new(left), Box::new(self.and()?));
        }
        Ok(left)
    }

    fn and(&mut self) -> Parsed {
        let mut left = self.unary()?;
        while self.eat("&&") {
            left = Expression::And(Box::new(left), Box::new(self.unary()?));
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(self.error(1, "nested too deep", "at most 32 levels"));
        }
        let parsed = if self.eat("!") {
            // Parentheses are no level of their own here, since it is written with them.
            let inner = if self.eat("(") { self.inner() } else { self.unary() };
            inner.map(|inner| Expression::Not(Box::new(inner)))
        } else if self.eat("(") {
            self.inner()
        } else {
            self.compare()
        };
        self.depth -= 1;
        parsed
    }

    /// What stands between parentheses, and the second of them.
    fn inner(&mut self) -> Parsed {
        let inner = self.or()?;
        self.want(")").map(|()| inner)
    }

    fn compare(&mut self) -> Parsed {
        self.measures += 1;
        if self.measures > MOST {
            return Err(self.error(1, "too many measures", format!("at most {MOST}")));
        }
        let measure = self.measure()?;
        let how = self.comparison()?;
        let value = self.number()?;
        Ok(Expression::Compare(measure, how, value))
    }

    fn measure(&mut self) -> Result<Measure, RuleError> {
        const NAMES: [&str; 4] =
            ["NetworkErrorRatio", "ResponseCodeRatio", "LatencyAtQuantileMS", "RequestThreshold"];
        self.space();
        let begin = self.at;
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = self.rest().find(|c| !is_word(c)).unwrap_or(self.rest().len());
        let word = self.rest().get(..length).unwrap_or_default().to_owned();
        if !NAMES.contains(&word.as_str()) {
            if word.is_empty() {
                let help = "NetworkErrorRatio() > 0.3, for instance";
                return Err(self.error(1, "a measure is missing", help));
            }
            let help = crate::diagnostic::suggestion(&word, NAMES, "measures");
            return Err(self.error(length, format!("there is no measure `{word}`"), help));
        }
        self.at += length;
        let arguments = self.arguments()?;
        let wrong = |parser: &Self, help: &str| {
            let whole = parser.at - begin;
            RuleError::new(parser.text, begin, whole, format!("`{word}` takes other arguments"), help)
        };
        match (word.as_str(), arguments.as_slice()) {
            ("NetworkErrorRatio", []) => Ok(Measure::NetworkErrorRatio),
            ("RequestThreshold", []) => Ok(Measure::Requests),
            ("LatencyAtQuantileMS", [quantile]) if (0.0..=100.0).contains(quantile) => {
                Ok(Measure::LatencyAtQuantileMs(*quantile))
            }
            ("LatencyAtQuantileMS", _) => Err(wrong(self, "one percentage: LatencyAtQuantileMS(50.0)")),
            ("ResponseCodeRatio", &[from, to, of_from, of_to])
                if [from, to, of_from, of_to]
                    .iter()
                    .all(|n| n.fract() == 0.0 && (0.0..=1000.0).contains(n))
                    && from < to
                    && of_from < of_to =>
            {
                let [from, to, of_from, of_to] = [from, to, of_from, of_to].map(|number| number as u16);
                Ok(Measure::ResponseCodeRatio(from, to, of_from, of_to))
            }
            ("ResponseCodeRatio", _) => {
                Err(wrong(self, "from and below, of from and below: ResponseCodeRatio(500, 600, 0, 600)"))
            }
            _ => Err(wrong(self, "none")),
        }
    }

    fn arguments(&mut self) -> Result<Vec<f64>, RuleError> {
        self.want("(")?;
        let mut all = Vec::new();
        if self.eat(")") {
            return Ok(all);
        }
        loop {
            all.push(self.number()?);
            if !self.eat(",") {
                break;
            }
        }
        self.want(")")?;
        Ok(all)
    }

    fn comparison(&mut self) -> Result<Comparison, RuleError> {
        use Comparison::*;
        let all = [
            (">=", GreaterOrEqual),
            ("<=", LessOrEqual),
            ("==", Equal),
            ("!=", NotEqual),
            (">", Greater),
            ("<", Less),
        ];
        for (token, how) in all {
            if self.eat(token) {
                return Ok(how);
            }
        }
        Err(self.error(1, "a comparison is missing", "one of > >= < <= == !="))
    }

    fn number(&mut self) -> Result<f64, RuleError> {
        self.space();
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let length = self.rest().find(|c| !is_number(c)).unwrap_or(self.rest().len());
        let number = self.rest().get(..length).and_then(|text| text.parse::<f64>().ok());
        let number = number.filter(|number| number.is_finite());
        let number = number.ok_or_else(|| self.error(length.max(1), "a number is missing", "such as 0.3"))?;
        self.at += length;
        Ok(number)
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Measure::NetworkErrorRatio => f.write_str("NetworkErrorRatio()"),
            Measure::ResponseCodeRatio(from, to, of_from, of_to) => {
                write!(f, "ResponseCodeRatio({from}, {to}, {of_from}, {of_to})")
            }
            Measure::LatencyAtQuantileMs(quantile) => write!(f, "LatencyAtQuantileMS({quantile})"),
            Measure::Requests => f.write_str("RequestThreshold()"),
        }
    }
}

/// With parentheses only where it would mean something else without them, so that it is never nested deeper than what was
/// read, and can be read again.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use Expression::{And, Compare, Not, Or};
        match self {
            And(a, b) => {
                let (a, b) = (Part(a, matches!(**a, Or(..))), Part(b, matches!(**b, And(..) | Or(..))));
                write!(f, "{a} && {b}")
            }
            Or(a, b) => write!(f, "{a} || {}", Part(b, matches!(**b, Or(..)))),
            Not(inner) => write!(f, "!{}", Part(inner, !matches!(**inner, Not(_)))),
            Compare(what, how, value) => {
                let how = match how {
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Equal => "==",
                    Comparison::NotEqual => "!=",
                };
                write!(f, "{what} {how} {value}")
            }
        }
    }
}

/// A part of an expression, and whether it stands in parentheses.
struct Part<'a>(&'a Expression, bool);

impl fmt::Display for Part<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Part(part, is_inside) = self;
        if *is_inside { write!(f, "({part})") } else { write!(f, "{part}") }
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_traefik_are_read_and_read_back() {
        for text in [
            "NetworkErrorRatio() > 0.30",
            "LatencyAtQuantileMS(50.0) > 100",
            "ResponseCodeRatio(500, 600, 0, 600) > 0.25",
            "ResponseCodeRatio(500, 600, 0, 600) > 0.30 || NetworkErrorRatio() > 0.10",
            "NetworkErrorRatio() > 0.30 || LatencyAtQuantileMS(50.0) > 100 && !(RequestThreshold() < 5)",
        ] {
            let read = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(Expression::parse(&read.to_string()), Ok(read), "{text}");
        }
    }

    #[test]
    fn what_is_accepted_can_be_read_again() {
        let one = "RequestThreshold() > 5";
        for text in [
            vec![one; 100].join(" && "),
            vec![one; 100].join("||"),
            format!("{}{one}", "!".repeat(31)),
            format!("{}{one}{}", "!(".repeat(31), ")".repeat(31)),
            format!("{}{one}{}", "(".repeat(31), ")".repeat(31)),
            format!("{one} && ({one} && !({one} || ({one} || {one}) && {one}))"),
            "LatencyAtQuantileMS(0.00000001) < 0.0000000001".into(),
            format!("RequestThreshold() > {}", "9".repeat(300)),
        ] {
            let read = Expression::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(Expression::parse(&read.to_string()), Ok(read), "{text}");
        }
        let read = Expression::parse(&format!("(({one}) || !({one} && {one})) && !!({one})")).unwrap();
        assert_eq!(read.to_string(), format!("({one} || !({one} && {one})) && !!({one})"));
    }

    #[test]
    fn what_no_one_writes_is_refused() {
        let one = "RequestThreshold() > 5";
        for text in [
            vec![one; 257].join(" && "),
            format!("{}{one}{}", "(".repeat(32), ")".repeat(32)),
            format!("RequestThreshold() > {}", "9".repeat(400)),
        ] {
            assert!(Expression::parse(&text).is_err(), "{text}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        let holds = |text: &str, errors: f64, requests: f64| {
            Expression::parse(text).unwrap().holds(&|measure| match measure {
                Measure::NetworkErrorRatio => errors,
                _ => requests,
            })
        };
        let text = "RequestThreshold() == 9 || NetworkErrorRatio() > 0.3 && RequestThreshold() >= 10";
        assert!(holds(text, 0.0, 9.0) && holds(text, 0.4, 10.0));
        assert!(!holds(text, 0.3, 10.0) && !holds(text, 0.4, 8.0));
        assert!(holds("!(NetworkErrorRatio() != 1)", 1.0, 0.0));
    }

    #[test]
    fn mistakes_have_a_place() {
        for (text, column, message) in [
            ("", 1, "a measure is missing"),
            ("NetworkErorRatio() > 1", 1, "there is no measure `NetworkErorRatio`"),
            ("NetworkErrorRatio() 0.3", 21, "a comparison is missing"),
            ("NetworkErrorRatio() > x", 23, "a number is missing"),
            ("NetworkErrorRatio( > 1", 20, "a number is missing"),
            ("NetworkErrorRatio(1) > 1", 1, "`NetworkErrorRatio` takes other arguments"),
            ("ResponseCodeRatio(600, 500, 0, 600) > 1", 1, "`ResponseCodeRatio` takes other arguments"),
            ("(NetworkErrorRatio() > 1", 25, "`)` is missing"),
            ("NetworkErrorRatio() > 1 ü", 25, "here the expression should end"),
        ] {
            let error = Expression::parse(text).unwrap_err();
            assert_eq!((error.column, error.message.as_str()), (column, message), "{text}");
        }
        assert!(Expression::parse(&"!".repeat(100_000)).is_err());
        assert!(Expression::parse(&"(".repeat(100_000)).is_err());
    }
}
