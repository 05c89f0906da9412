//! `markdown`: fences are closed, the rows of tables have as many cells as their header, headings step down one
//! level at a time, links lead somewhere.

use crate::finding::{Note, cut, unverified};
use crate::json::each_text;
use crate::params::{Params, Problem};
use crate::text::blocks::{Code, Kind as Block, Outline, options, outline};
use crate::text::{MAX_BYTES, line_column};
use crate::{About, Check, Entry, Input, Kind};
use pulldown_cmark::{Event, LinkType, Parser, Tag};
use serde_json::Value;
use std::ops::Range;
use std::sync::Arc;
use types::run::Severity;
use types::{Finding, Report};

const NAME: &str = "markdown";
const RULES: &[&str] = &["fences", "headings", "tables", "links"];

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "fences are closed, tables are even, headings do not jump, links lead somewhere",
    kind: Kind::Structural,
    stream: "end",
    severity: Severity::Warn,
    build,
};

#[derive(Debug)]
struct Markdown {
    severity: Severity,
    rules: Vec<&'static str>,
}

/// Parameters: `rules` (default all: fences, headings, tables, links) and `tables` (default true; false leaves
/// that rule out).
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    let params = Params::new(with, &["rules", "tables"])?;
    let mut rules = Vec::new();
    for name in params.strings("rules")? {
        rules.push(RULES.iter().copied().find(|r| *r == name).ok_or_else(|| {
            let near = types::diagnostic::suggestion(name, RULES.iter().copied());
            Problem::new(
                "rules",
                format!("`{name}` is not a rule; {near}"),
                format!("any of {}", RULES.join(", ")),
            )
        })?);
    }
    if rules.is_empty() {
        rules.extend(RULES);
    }
    if !params.boolean("tables", true)? {
        rules.retain(|r| *r != "tables");
    }
    Ok(Arc::new(Markdown { severity, rules }))
}

impl Check for Markdown {
    fn about(&self) -> About {
        About::structural(NAME, self.severity)
    }

    fn mend(&self, text: &str) -> Option<String> {
        fixed(text)
    }

    fn check(&self, input: &Input<'_>) -> Report {
        if input.completion.choices.iter().any(|c| c.text.len() > MAX_BYTES) {
            return unverified("the answer is too long to be looked at");
        }
        each_text(input, |choice, position, of| {
            let outline = outline(&choice.text);
            let mut notes: Vec<Note> = Vec::new();
            for rule in &self.rules {
                match *rule {
                    "fences" => notes.extend(self.fences(&choice.text, &outline)),
                    "headings" => notes.extend(self.headings(&choice.text, &outline)),
                    "tables" => notes.extend(self.tables(&choice.text, &outline)),
                    _ => notes.extend(self.links(&choice.text)),
                }
            }
            notes.into_iter().map(|n| n.choice(position, of).into_finding()).collect::<Vec<Finding>>()
        })
    }
}

impl Markdown {
    fn note(&self, text: &str, code: &str, span: &Range<usize>, what: &str) -> Note {
        let (line, _) = line_column(text, span.start);
        Note::new(NAME, self.severity, code, &format!("line {line}: {what}")).span(span.start, span.end)
    }

    fn fences(&self, text: &str, outline: &Outline) -> Vec<Note> {
        let open = outline.code.iter().filter(|c| !c.closed);
        open.map(|c| {
            self.note(text, "unclosed_fence", &c.span, "the code fence is not closed")
                .expected(fence(text, c))
                .hint("close every code fence with as many backticks as opened it")
        })
        .collect()
    }

    fn headings(&self, text: &str, outline: &Outline) -> Vec<Note> {
        let mut last: Option<u8> = None;
        let mut notes = Vec::new();
        for block in &outline.blocks {
            let Block::Heading(level) = block.kind else { continue };
            if last.is_some_and(|l| level > l.saturating_add(1)) {
                let title = cut(text.get(block.span.clone()).unwrap_or(""), 60);
                let from = last.unwrap_or(0);
                let what = format!("the heading `{title}` jumps from level {from} to {level}");
                let note = self.note(text, "heading_jump", &block.span, &what);
                notes.push(note.expected(from.saturating_add(1)).actual(level));
            }
            last = Some(level);
        }
        notes
    }

    fn tables(&self, text: &str, outline: &Outline) -> Vec<Note> {
        let mut notes = Vec::new();
        let tables = tables(text);
        for table in &tables {
            let Some(header) = table.rows.first() else { continue };
            let want = cells(text.get(header.clone()).unwrap_or(""));
            for row in table.rows.iter().skip(2) {
                let got = cells(text.get(row.clone()).unwrap_or(""));
                if got != want {
                    let what = format!("the row has {got} cells, its table {want}");
                    let note = self.note(text, "ragged_row", row, &what).expected(want).actual(got);
                    notes.push(note.hint("give every row of a table as many cells as its header"));
                }
            }
        }
        notes.extend(broken_tables(text, &tables, outline).into_iter().map(|span| {
            let what = "this looks like a table, but its second line does not fit its first";
            self.note(text, "broken_table", &span, what)
                .hint("put the header on one line and as many `---` as it has cells on the next")
        }));
        notes
    }

    fn links(&self, text: &str) -> Vec<Note> {
        let mut undefined = Vec::new();
        let mut empty = Vec::new();
        let mut missing = |link: pulldown_cmark::BrokenLink<'_>| {
            // `[1]` alone is a citation and `[x]` a choice; only `[text][name]` must be a link.
            if matches!(link.link_type, LinkType::Reference | LinkType::ReferenceUnknown) {
                undefined.push((link.span.clone(), link.reference.to_string()));
            }
            None
        };
        for (event, span) in
            Parser::new_with_broken_link_callback(text, options(), Some(&mut missing)).into_offset_iter()
        {
            if let Event::Start(Tag::Link { dest_url, .. }) = event
                && dest_url.trim().is_empty()
            {
                empty.push(span);
            }
        }
        let undefined = undefined.into_iter().map(|(span, name)| {
            let what = format!("`{}` is not defined as a link", cut(&name, 60));
            self.note(text, "undefined_link", &span, &what)
        });
        let empty =
            empty.into_iter().map(|span| self.note(text, "empty_link", &span, "the link leads nowhere"));
        undefined.chain(empty).collect()
    }
}

/// The line that closes a block of code.
fn fence(text: &str, code: &Code) -> String {
    let open = text.get(code.span.clone()).unwrap_or("");
    let mark = open.chars().next().unwrap_or('`');
    open.chars().take_while(|c| *c == mark).collect()
}

/// A table by its lines: header, delimiters, rows.
struct Table {
    span: Range<usize>,
    rows: Vec<Range<usize>>,
}

fn tables(text: &str) -> Vec<Table> {
    let mut out = Vec::new();
    for (event, span) in Parser::new_ext(text, options()).into_offset_iter() {
        if let Event::Start(Tag::Table(_)) = event {
            out.push(Table { rows: lines(text, &span), span });
        }
    }
    out
}

/// The lines of a part of the text that hold something, without the breaks.
fn lines(text: &str, span: &Range<usize>) -> Vec<Range<usize>> {
    let mut at = span.start;
    let mut out = Vec::new();
    for line in text.get(span.clone()).unwrap_or("").split_inclusive('\n') {
        let end = at.saturating_add(line.trim_end().len());
        if end > at && !line.trim().is_empty() {
            out.push(at..end);
        }
        at = at.saturating_add(line.len());
    }
    out
}

/// How many cells a row has: one more than the bars between them that no backslash escapes.
fn cells(row: &str) -> usize {
    let row = row.trim_start_matches(['>', ' ', '\t']).trim();
    let row = row.strip_prefix('|').unwrap_or(row);
    let (mut bars, mut escaped, mut last) = (0_usize, false, ' ');
    for c in row.chars() {
        if c == '|' && !escaped {
            bars = bars.saturating_add(1);
        }
        last = if escaped { ' ' } else { c };
        escaped = c == '\\' && !escaped;
    }
    if last == '|' { bars } else { bars.saturating_add(1) }
}

/// Rows of delimiters under a line with bars that are no part of a table.
fn broken_tables(text: &str, tables: &[Table], outline: &Outline) -> Vec<Range<usize>> {
    let inside = |at: usize| {
        tables.iter().any(|t| t.span.contains(&at)) || outline.code.iter().any(|c| c.span.contains(&at))
    };
    let all = lines(text, &(0..text.len()));
    all.windows(2)
        .filter_map(|pair| {
            let [above, line] = pair else { return None };
            let (head, dashes) = (text.get(above.clone())?, text.get(line.clone())?);
            let delimits = dashes.contains('|')
                && dashes.contains("--")
                && dashes.chars().all(|c| "|-: \t>".contains(c));
            let follows = text.get(above.end..line.start).is_some_and(|gap| gap.matches('\n').count() == 1);
            (delimits && follows && head.contains('|') && !inside(line.start))
                .then_some(above.start..line.end)
        })
        .collect()
}

/// The text with its open fence closed and short rows filled up; `None` if there is nothing to mend.
fn fixed(text: &str) -> Option<String> {
    if text.len() > MAX_BYTES {
        return None;
    }
    let mut out = text.to_owned();
    // From the end, so that the places before stay right.
    let mut rows: Vec<(Range<usize>, usize)> = Vec::new();
    for table in tables(text) {
        let want = table.rows.first().map_or(0, |h| cells(text.get(h.clone()).unwrap_or("")));
        for row in table.rows.into_iter().skip(2) {
            let got = cells(text.get(row.clone()).unwrap_or(""));
            if got < want {
                rows.push((row, want.saturating_sub(got)));
            }
        }
    }
    for (row, lacking) in rows.into_iter().rev() {
        let closed = text.get(row.clone()).is_some_and(|r| r.ends_with('|'));
        let more = if closed { "  |".repeat(lacking) } else { " |".repeat(lacking) };
        out.insert_str(row.end, &more);
    }
    if let Some(open) = outline(text).code.iter().find(|c| !c.closed) {
        let start =
            text.get(..open.span.start).and_then(|b| b.rfind('\n')).map_or(0, |i| i.saturating_add(1));
        let lead = text.get(start..open.span.start).unwrap_or("");
        // Within a list the fence stands under its text, not under the mark of the item.
        let lead: String = lead.chars().map(|c| if c == '>' { '>' } else { ' ' }).collect();
        if !out.ends_with('\n') {
            out.push('\n');
        }
        out.push_str(&lead);
        out.push_str(&fence(text, open));
        out.push('\n');
    }
    // A fence that ended with the quotation around it is not closed by one that comes after.
    (out != text && outline(&out).code.iter().all(|c| c.closed)).then_some(out)
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "tables read better with values built in place")]
mod tests {
    use super::*;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, with: Value, want: &[&str]) {
        assert_eq!(codes(NAME, &with, &request(json!({})), &answer(text)), want, "{text:?}");
    }

    #[test]
    fn fences_close() {
        check("```py\nx\n```\n", Value::Null, &[]);
        check("a\n```py\nx\n", Value::Null, &["unclosed_fence"]);
        check("````md\n```\n````", Value::Null, &[]);
        check("````md\n```\n", Value::Null, &["unclosed_fence"]);
        check("- a\n  ```\n  x\n  ```\n", Value::Null, &[]);
    }

    #[test]
    fn headings_step_down_one_by_one() {
        check("## a\n### b\n# c\n## d", Value::Null, &[]);
        check("# a\n### b", Value::Null, &["heading_jump"]);
        check("# a\n```\n### b\n```", Value::Null, &[]);
        check("# a\n### b", json!({"rules": ["fences"]}), &[]);
    }

    #[test]
    fn tables_are_even() {
        check("| a | b |\n|---|---|\n| 1 | 2 |\n", Value::Null, &[]);
        check("a | b\n--|--\n1 | 2\n", Value::Null, &[]);
        check("| a | b |\n|---|---|\n| 1 |\n| 1 | 2 | 3 |\n", Value::Null, &["ragged_row", "ragged_row"]);
        check("| a | b |\n|---|---|\n| 1 \\| x | 2 |\n", Value::Null, &[]);
        check("| a | b |\n|---|\n| 1 | 2 |\n", Value::Null, &["broken_table"]);
        check("| a | b |\n|---|---|\n| 1 |\n", json!({"tables": false}), &[]);
        check("```\n| a | b |\n|---|\n```", Value::Null, &[]);
    }

    #[test]
    fn links_lead_somewhere() {
        check("[a](http://x) [b][c] and [1]\n\n[c]: http://y", Value::Null, &[]);
        check("[a]() and [b][c]", Value::Null, &["undefined_link", "empty_link"]);
    }

    #[test]
    fn what_is_certain_is_mended() {
        for (text, want) in [
            ("a\n```py\nx", Some("a\n```py\nx\n```\n")),
            ("- a\n  ~~~\n  x\n", Some("- a\n  ~~~\n  x\n  ~~~\n")),
            ("| a | b |\n|---|---|\n| 1 |\n", Some("| a | b |\n|---|---|\n| 1 |  |\n")),
            ("fine", None),
            ("| a |\n|---|\n| 1 | 2 |", None),
        ] {
            assert_eq!(fixed(text).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn parameters_are_checked() {
        assert!(refused(NAME, &json!({"rules": ["fence"]})).message.contains("did you mean `fences`"));
    }

    #[test]
    fn a_fence_that_ended_with_its_quotation_is_left_alone() {
        assert_eq!(fixed(">~~~\na"), None);
    }

    proptest! {
        #[test]
        fn a_mended_text_has_no_open_fence(text in "[a-z`~ \n|>#-]{0,60}") {
            if let Some(mended) = fixed(&text) {
                let again = outline(&mended).code;
                prop_assert!(again.iter().all(|c| c.closed), "{:?} {:?}", text, mended);
                prop_assert_eq!(fixed(&mended), None);
            }
        }
    }
}
