//! Whether those can be told whom the settings name: what would end a start is a problem like any other.

use super::Environment;
use super::server::{PREFIX, Server};
use crate::webhooks::{MIN_SECRET, SECRET};
use types::Diagnostic;
use types::doc::{Node, SourceFile, Span};

/// What is wrong with addresses that are told (`webhooks.notify_url`, `audit.anchor_url`) and the secret they are told by. What the environment lacks is a warning:
/// it may be another one in which the server starts.
pub(super) fn check(
    server: &Server,
    file: Option<&SourceFile>,
    environment: &Environment,
) -> Vec<Diagnostic> {
    let mut problems = Vec::new();
    let secret = environment.secret(SECRET);
    if let Some(short) = secret.as_deref().filter(|s| s.len() < MIN_SECRET) {
        // Not a byte of it is told, so that it is no text to show an excerpt of.
        let unseen = SourceFile::new(format!("environment variable {SECRET}"), "");
        let message = format!("{SECRET} has {} bytes", short.len());
        let problem = Diagnostic::warning(format!("{PREFIX}104"), &unseen, Span::default(), message);
        problems.push(problem.expected(format!("{MIN_SECRET} or more")).hint(REFUSED));
    }
    for (section, name, url) in
        [("webhooks", "notify_url", &server.notify_url), ("audit", "anchor_url", &server.anchor_url)]
    {
        let Some(url) = url else { continue };
        let key = format!("{section}.{name}");
        let variable = format!(
            "environment variable TURNOUT_{}__{}",
            section.to_ascii_uppercase(),
            name.to_ascii_uppercase()
        );
        let unseen = SourceFile::new(variable, url.as_str());
        // The environment outranks the file: what the file says then is not what is wrong.
        let of_file = file.and_then(|f| Some((f, place(f, (section, name), url)?)));
        let (file, span) = of_file.unwrap_or((&unseen, Span::default()));
        if let Err(refused) = server.webhooks.check(url) {
            let message = format!("`{key}`: {}", refused.for_webhooks());
            problems.push(Diagnostic::error(format!("{PREFIX}104"), file, span, message).field(&key));
        }
        if secret.is_none() {
            let message =
                format!("`{key}` is set, and the environment has no variable {SECRET} to sign with");
            let problem = Diagnostic::warning(format!("{PREFIX}104"), file, span, message);
            problems.push(problem.hint(REFUSED).field(&key));
        }
    }
    problems
}

const REFUSED: &str = "`turnout serve` does not start so";

/// Where the file says it.
fn place(file: &SourceFile, (section, name): (&str, &str), url: &str) -> Option<Span> {
    let root = types::doc::parse(file, PREFIX).ok()?;
    let said = root.get(section).and_then(|w| w.get(name));
    said.filter(|n| n.as_str() == Some(url)).map(|n: &Node| n.span)
}
