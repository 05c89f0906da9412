//! The blocks of a Markdown text: paragraphs, list items, headings, table rows, code.

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Running text.
    Paragraph,
    /// The text of one item of a list; its number if the list is numbered.
    Item,
    /// A heading of this level.
    Heading(u8),
    /// The header of a table.
    Header,
    /// A row of a table.
    Row,
}

/// A block of text, without the marks around it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// What it is.
    pub(crate) kind: Kind,
    /// Bytes of the text it covers.
    pub(crate) span: Range<usize>,
}

/// A block of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    /// What stands behind the opening fence, trimmed; `None` for an indented block.
    pub(crate) info: Option<String>,
    /// Bytes of the whole block with its fences.
    pub(crate) span: Range<usize>,
    /// Bytes of the lines between the fences.
    pub(crate) body: Range<usize>,
    /// The code as Markdown reads it: without the indentation of the list or quote it stands in.
    pub(crate) text: String,
    /// The fence is closed.
    pub(crate) closed: bool,
}

/// What a text consists of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outline {
    /// Blocks of prose in their order.
    pub(crate) blocks: Vec<Block>,
    /// Blocks of code in their order.
    pub(crate) code: Vec<Code>,
    /// Spans of code within lines, and of raw HTML.
    pub(crate) inline: Vec<Range<usize>>,
    /// Number of items of each list, in the order in which the lists end.
    pub(crate) lists: Vec<usize>,
}

/// The extensions of Markdown that chat clients render.
pub(crate) fn options() -> Options {
    Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS
}

/// Reads the text as Markdown; plain prose is Markdown of paragraphs.
pub(crate) fn outline(text: &str) -> Outline {
    let mut walk = Walk { text, out: Outline::default(), open: Vec::new(), code: None, lists: Vec::new() };
    for (event, span) in Parser::new_ext(text, options()).into_offset_iter() {
        walk.event(event, span);
    }
    walk.out
}

struct Walk<'t> {
    text: &'t str,
    out: Outline,
    /// Kinds of the blocks that are open, outermost first, each with the block it has begun.
    open: Vec<(Kind, Option<usize>)>,
    code: Option<Code>,
    lists: Vec<usize>,
}

impl Walk<'_> {
    fn event(&mut self, event: Event<'_>, span: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(&tag, span),
            Event::End(tag) => self.end(tag, &span),
            Event::Text(t) => match &mut self.code {
                Some(code) => code.text.push_str(&t),
                None => self.cover(&span),
            },
            Event::Code(_) => {
                self.out.inline.push(span.clone());
                self.cover(&span);
            }
            Event::InlineHtml(_) | Event::Html(_) => self.out.inline.push(span),
            _ => {}
        }
    }

    fn start(&mut self, tag: &Tag<'_>, span: Range<usize>) {
        match tag {
            Tag::Paragraph => {
                // The paragraph of a loose item is the item's text.
                let kind = match self.open.last() {
                    Some((Kind::Item, _)) => Kind::Item,
                    _ => Kind::Paragraph,
                };
                self.open.push((kind, None));
            }
            Tag::Heading { level, .. } => self.open.push((Kind::Heading(*level as u8), None)),
            Tag::TableHead => self.open.push((Kind::Header, None)),
            Tag::TableRow => self.open.push((Kind::Row, None)),
            Tag::List(_) => self.lists.push(0),
            Tag::Item => {
                if let Some(n) = self.lists.last_mut() {
                    *n = n.saturating_add(1);
                }
                self.open.push((Kind::Item, None));
            }
            Tag::CodeBlock(kind) => {
                let info = match kind {
                    CodeBlockKind::Fenced(info) => Some(info.trim().to_owned()),
                    CodeBlockKind::Indented => None,
                };
                self.code = Some(Code { info, body: span.clone(), span, text: String::new(), closed: true });
            }
            _ => {}
        }
    }

    fn end(&mut self, tag: TagEnd, span: &Range<usize>) {
        match tag {
            TagEnd::Paragraph | TagEnd::Heading(_) | TagEnd::TableHead | TagEnd::TableRow | TagEnd::Item => {
                self.open.pop();
            }
            TagEnd::List(_) => self.out.lists.extend(self.lists.pop()),
            TagEnd::CodeBlock => {
                if let Some(mut code) = self.code.take() {
                    code.span = span.clone();
                    if code.info.is_some() {
                        (code.body, code.closed) = inside(self.text, span);
                    }
                    self.out.code.push(code);
                }
            }
            _ => {}
        }
    }

    /// The innermost open block reaches to the end of this piece of text.
    fn cover(&mut self, span: &Range<usize>) {
        let Some((kind, begun)) = self.open.last_mut() else { return };
        match begun.and_then(|at| self.out.blocks.get_mut(at)) {
            Some(block) => block.span.end = block.span.end.max(span.end),
            None => {
                *begun = Some(self.out.blocks.len());
                self.out.blocks.push(Block { kind: *kind, span: span.clone() });
            }
        }
    }
}

/// The lines between the fences of a fenced block, and whether its last line closes it.
fn inside(text: &str, span: &Range<usize>) -> (Range<usize>, bool) {
    let whole = text.get(span.clone()).unwrap_or("");
    let first = whole.find('\n').map_or(whole.len(), |i| i.saturating_add(1));
    let mark = whole.chars().next().unwrap_or('`');
    let opening = whole.chars().take_while(|c| *c == mark).count();
    let body = whole.get(first..).unwrap_or("");
    let trimmed = body.trim_end();
    let last = trimmed.rfind('\n').map_or(0, |i| i.saturating_add(1));
    // A fence within a quote has the quote's mark before it.
    let line = trimmed.get(last..).unwrap_or("").trim_start_matches(['>', ' ', '\t']);
    let closed = line.chars().all(|c| c == mark) && line.chars().count() >= opening.max(3);
    let from = span.start.saturating_add(first);
    if closed { (from..from.saturating_add(last), true) } else { (from..span.end.max(from), false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, want: &[(Kind, &str)]) {
        let got: Vec<(Kind, &str)> =
            outline(text).blocks.iter().map(|b| (b.kind, &text[b.span.clone()])).collect();
        assert_eq!(got, want, "{text:?}");
    }

    #[test]
    fn prose_is_told_from_its_marks() {
        check(
            "One. Two.\nThree.\n\nFour.",
            &[(Kind::Paragraph, "One. Two.\nThree."), (Kind::Paragraph, "Four.")],
        );
        check(
            "# Head\n\n- a **b**\n- c\n\n  d\n\n1. e\n   - f",
            &[
                (Kind::Heading(1), "Head"),
                (Kind::Item, "a **b"),
                (Kind::Item, "c"),
                (Kind::Item, "d"),
                (Kind::Item, "e"),
                (Kind::Item, "f"),
            ],
        );
        check(
            "| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n```",
            &[(Kind::Header, "a | b"), (Kind::Row, "1 | 2")],
        );
        check("> quoted\n> text", &[(Kind::Paragraph, "quoted\n> text")]);
    }

    #[test]
    fn items_are_counted_per_list() {
        assert_eq!(outline("- a\n  - b\n  - c\n- d\n\ntext\n\n1. x").lists, [2, 2, 1]);
    }

    #[test]
    fn code_keeps_its_place_and_loses_its_indentation() {
        let one = |text: &str, info: Option<&str>, body: &str, code: &str, closed: bool| {
            let o = outline(text);
            let got = o.code.first().unwrap_or_else(|| panic!("{text:?} has code"));
            assert_eq!(got.info.as_deref(), info, "{text:?}");
            assert_eq!(&text[got.body.clone()], body, "{text:?}");
            assert_eq!(got.text, code, "{text:?}");
            assert_eq!(got.closed, closed, "{text:?}");
        };
        one("a\n```rust,ignore\nlet x;\n```\nb", Some("rust,ignore"), "let x;\n", "let x;\n", true);
        one("```py\nx = 1", Some("py"), "x = 1", "x = 1", false);
        one("```py\nx = 1\n", Some("py"), "x = 1\n", "x = 1\n", false);
        one("- a\n\n  ```py\n  x = 1\n  ```", Some("py"), "  x = 1\n", "x = 1\n", true);
        one("> ```\n> x\n> ```", Some(""), "> x\n", "x\n", true);
        one("~~~\n```\n~~~", Some(""), "```\n", "```\n", true);
        one("````md\n```\n````", Some("md"), "```\n", "```\n", true);
        one("```", Some(""), "", "", false);
        one("```\n```", Some(""), "", "", true);
        one("text\n\n    indented\n", None, "indented\n", "indented\n", true);
    }

    #[test]
    fn marks_within_lines_are_kept_apart() {
        let text = "Use `x = 3` and <b>bold</b>.";
        let o = outline(text);
        let got: Vec<&str> = o.inline.iter().map(|s| &text[s.clone()]).collect();
        assert_eq!(got, ["`x = 3`", "<b>", "</b>"]);
    }
}
