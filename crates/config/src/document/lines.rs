//! From byte offsets to lines and columns.

use std::ops::Range;

use super::Position;

/// Where each line of a text starts.
pub(super) struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        // A byte order mark is no column.
        let first = if text.starts_with('\u{feff}') { 3 } else { 0 };
        let text = text.get(first..).unwrap_or(text);
        Self { text, starts: std::iter::once(0).chain(breaks.map(|at| at.saturating_sub(first))).collect() }
    }

    /// The position of a range of bytes; one that spans lines is cut at the end of its first.
    pub(super) fn position(&self, range: Range<usize>) -> Position {
        let line = self.starts.partition_point(|start| *start <= range.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..range.start).unwrap_or("");
        let covered = self.text.get(range).unwrap_or("").lines().next().unwrap_or("");
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Position {
            line: number(line),
            column: number(before.chars().count() + 1),
            width: number(covered.chars().count().max(1)),
        }
    }
}
