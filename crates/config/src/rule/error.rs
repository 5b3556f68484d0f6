//! What is wrong in a rule, and where in it.

use std::fmt;

/// One mistake in a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Byte of the rule where the mistake starts.
    pub offset: usize,
    /// The same place as a column: characters from the start of the rule, the first is 1.
    pub column: usize,
    /// How many characters it covers; at least 1.
    pub width: usize,
    /// What is wrong.
    pub message: String,
    /// What would be right; may be empty.
    pub help: String,
}

impl RuleError {
    pub(crate) fn new(
        rule: &str,
        offset: usize,
        length: usize,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let before = rule.get(..offset).unwrap_or(rule);
        let covered = rule.get(offset..offset.saturating_add(length)).unwrap_or("");
        Self {
            offset,
            column: before.chars().count() + 1,
            width: covered.chars().count().max(1),
            message: message.into(),
            help: help.into(),
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}", self.column, self.message)?;
        if !self.help.is_empty() {
            write!(f, " ({})", self.help)?;
        }
        Ok(())
    }
}

impl std::error::Error for RuleError {}
