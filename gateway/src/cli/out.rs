//! What commands say: lines to standard output, problems to standard error. A reader that left is no error.

use crate::config;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use types::printable::{printable_lines, styled_lines};
use types::{Diagnostic, doc::SourceFile};

/// Columns below which a table cannot be read.
const NARROWEST: u16 = 100;

/// Something of what a command said could not be written. Of the process, as its standard output is.
static LOST: AtomicBool = AtomicBool::new(false);

/// The one writer of all commands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Out {
    /// Machine-readable output was asked for.
    pub(super) json: bool,
    /// Standard output is a terminal.
    pub(super) terminal: bool,
}

/// A moment, given as Unix milliseconds, as people write it: in UTC.
pub(super) fn moment_of(ms: &serde_json::Value) -> Option<String> {
    let at = jiff::Timestamp::from_millisecond(ms.as_i64()?).ok()?;
    Some(at.strftime("%F %T").to_string())
}

impl Out {
    pub(super) fn new(json: bool) -> Self {
        Out { json, terminal: io::stdout().is_terminal() }
    }

    /// Whether colours are welcome on standard error.
    pub(super) fn colour() -> bool {
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
    }

    /// Text and a line end. What callers of the server named a thing gives the terminal no commands.
    pub(super) fn line(&self, text: &str) {
        self.text(&format!("{text}\n"));
    }

    /// As [`Out::line`], of text that has its line ends.
    pub(super) fn text(&self, text: &str) {
        self.raw(&printable_lines(text));
    }

    /// What is wrong with files, each problem with its line, in colours where a person reads it.
    pub(super) fn problems(&self, problems: &[Diagnostic], texts: &[SourceFile]) {
        if !problems.is_empty() {
            let report = config::report(problems, texts, self.terminal && Out::colour());
            self.raw(&format!("{}\n\n", styled_lines(&report)));
        }
    }

    /// Bytes of a file as they are, for another program or the operator's own.
    pub(super) fn raw(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        if let Err(e) = written
            && e.kind() != io::ErrorKind::BrokenPipe
            && !LOST.swap(true, Ordering::Relaxed)
        {
            self.error(&format!("the output cannot be written: {e}"));
        }
    }

    /// Whether everything that was said could be written, as far as anybody was there to read it.
    pub(super) fn is_whole() -> bool {
        !LOST.load(Ordering::Relaxed)
    }

    /// One JSON document, indented for people on a terminal.
    pub(super) fn value(&self, value: &Value) {
        let indented = self.terminal.then(|| serde_json::to_string_pretty(value).ok()).flatten();
        self.raw(&format!("{}\n", indented.unwrap_or_else(|| value.to_string())));
    }

    /// An empty table with these columns, as wide as the terminal.
    pub(super) fn table(&self, columns: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::UTF8_FULL_CONDENSED);
        table.set_content_arrangement(ContentArrangement::Dynamic);
        // Some terminals do not know their width, or say zero.
        if self.terminal && table.width().is_none_or(|w| w < NARROWEST) {
            table.set_width(NARROWEST);
        }
        table.set_header(columns.iter().copied());
        table
    }

    /// Progress, to standard error: what goes to standard output is the result alone.
    pub(super) fn note(&self, text: &str) {
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// A problem; for programs in the form in which servers tell theirs.
    pub(super) fn error(&self, text: &str) {
        if self.json {
            return self.refused(&serde_json::json!({"error": {"message": text}}));
        }
        let _ = writeln!(io::stderr().lock(), "turnout: {text}");
    }

    /// What a server says against something, as it came: with its code, and with problems one by one.
    pub(super) fn refused(&self, document: &Value) {
        let _ = writeln!(io::stderr().lock(), "{document}");
    }
}
