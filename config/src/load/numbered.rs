//! A source whose lines are numbered once, so that the place of each of a hundred thousand values is found by its number of
//! lines' logarithm and not by reading everything before it.

use std::ops::{Deref, Range};

use super::Source;
use crate::{Place, problem::Position};

pub(super) struct Numbered<'a> {
    source: &'a Source<'a>,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl<'a> Numbered<'a> {
    pub(super) fn new(source: &'a Source<'a>) -> Self {
        let behind_newlines = source.text.match_indices('\n').map(|(newline, _)| newline + 1);
        Self { source, lines: std::iter::once(0).chain(behind_newlines).collect() }
    }

    /// The place of these bytes of the file, widened to whole characters.
    pub(super) fn place(&self, span: Range<usize>) -> Place {
        let text = self.source.text;
        let span = text.floor_char_boundary(span.start)..text.ceil_char_boundary(span.end);
        let line = self.lines.partition_point(|start| *start <= span.start);
        let column = text[self.lines[line - 1]..span.start].chars().count() + 1;
        Place::File(Position { line, column, span })
    }
}

impl<'a> Deref for Numbered<'a> {
    type Target = Source<'a>;

    fn deref(&self) -> &Source<'a> {
        self.source
    }
}
