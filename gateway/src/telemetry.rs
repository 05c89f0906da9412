//! The log: where it goes, in which form, and what may stand in it.
//!
//! `TURNOUT_LOG` takes a filter (`info`, `gateway=debug,info`), `TURNOUT_LOG_FORMAT=json` one object a line.
//! Lines hold no keys and no bodies; control characters are escaped so that nothing a client sends can
//! forge a line or drive a terminal.

use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{EnvFilter, fmt};
use types::printable::printable;

/// Longest line, in bytes.
const MAX_LINE: usize = 16 * 1024;

/// Starts the log on standard error. A second call does nothing. Gives back what was wrong with the
/// filter, if anything; `info` is then in force.
pub fn start(filter: Option<&str>, json: bool) -> Option<String> {
    let (filter, problem) = match filter.filter(|f| !f.is_empty()).map(EnvFilter::try_new) {
        None => (EnvFilter::new("info"), None),
        Some(Ok(f)) => (f, None),
        Some(Err(e)) => {
            (EnvFilter::new("info"), Some(format!("TURNOUT_LOG is no filter ({e}); using `info`")))
        }
    };
    let builder = fmt().with_env_filter(filter).with_ansi(false).with_target(true);
    let _ = if json {
        builder.with_writer(Stderr).json().flatten_event(true).try_init()
    } else {
        builder.with_writer(Stderr).try_init()
    };
    problem
}

/// Puts panics into the log, where they are escaped and bounded like everything else: the place, and the
/// message where it is a plain text.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let payload = info.payload();
        let text =
            payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        let message: String = text.unwrap_or("").chars().take(200).collect();
        tracing::error!(place, message, "panic");
    }));
}

/// Standard error, every line escaped.
struct Stderr;

impl<'a> MakeWriter<'a> for Stderr {
    type Writer = Escaping<io::Stderr>;

    fn make_writer(&'a self) -> Self::Writer {
        Escaping(io::stderr())
    }
}

/// Escapes what is not plain text. The subscriber hands over one whole line per call.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.write_all(escape(&String::from_utf8_lossy(line)).as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn escape(line: &str) -> String {
    let mut out = printable(line.strip_suffix('\n').unwrap_or(line), MAX_LINE).into_owned();
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_plain() {
        for (from, want) in [
            ("ok ä\n", "ok ä\n"),
            ("a\nb\n", "a\\u{a}b\n"),
            ("\u{1b}[31mred\n", "\\u{1b}[31mred\n"),
            ("x\u{202e}y", "x\\u{202e}y\n"),
            ("\u{85}\r\n", "\\u{85}\\u{d}\n"),
        ] {
            assert_eq!(escape(from), want);
        }
        assert!(escape(&"x".repeat(MAX_LINE * 2)).len() < MAX_LINE + 8);
    }
}
