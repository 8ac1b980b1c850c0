//! Standard output, whose reader may leave early: `ketch topic list | head -1`.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stdout};

use anyhow::{Context, Result};

/// Nobody reads standard output any more: the command ends there, and nothing is wrong.
#[derive(Debug, PartialEq, Eq)]
pub struct ReaderGone;

impl Display for ReaderGone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("standard output is closed")
    }
}

impl std::error::Error for ReaderGone {}

/// Writes a line.
///
/// # Errors
/// [`ReaderGone`], or why standard output does not take it.
pub fn line(text: impl Display) -> Result<()> {
    written(writeln!(stdout(), "{text}"))
}

/// Tells [`ReaderGone`] from other failures of standard output.
///
/// # Errors
/// As [`line`].
pub fn written(result: std::io::Result<()>) -> Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(ReaderGone.into()),
        result => result.context("cannot write to standard output"),
    }
}
