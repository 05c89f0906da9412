//! What the lines and paragraphs of a text look like: code, data, tables, lists, labels, options, prose.

mod line;
mod record;

use crate::lanes::Lanes;
use line::LineKind;
pub(crate) use line::asks_in_greek;
use record::Records;

/// Lines that begin with a label are told apart up to this many.
const LABELS: usize = 24;
/// A paragraph of this many bytes or more may be material to work on.
const MATERIAL_BYTES: usize = 280;
/// A paragraph under this many bytes may be the question about the material.
const QUESTION_BYTES: usize = 300;

/// Line and paragraph counts of the text read so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    /// Bytes seen.
    pub(crate) bytes: usize,
    /// Lines that are not blank.
    pub(crate) lines: u32,
    /// Fence lines (three backticks or tildes).
    pub(crate) fences: u32,
    /// Lines that read as program code.
    pub(crate) code_lines: u32,
    /// Code lines that define or import something: one is enough to know code.
    pub(crate) definitions: u32,
    /// Lines that read as JSON, XML or the like.
    pub(crate) data_lines: u32,
    /// Lines of a table.
    pub(crate) table_lines: u32,
    /// Bytes of code, data and table lines.
    pub(crate) structured_bytes: usize,
    /// Bytes of data and table lines, of lines that repeat a form, and of data written into prose.
    pub(crate) data_bytes: usize,
    /// Lines of a list.
    pub(crate) list_lines: u32,
    /// Lines that offer a choice: `(A) …`, `B. …`.
    pub(crate) option_lines: u32,
    /// Headings: `# …`.
    pub(crate) heading_lines: u32,
    /// Lines that are all in brackets: `[Question]`.
    pub(crate) bracket_lines: u32,
    /// Lines that open or close a tag of markup.
    pub(crate) tag_lines: u32,
    /// Lines that begin with a number in brackets or the name of a document and its number.
    pub(crate) document_lines: u32,
    /// Paragraphs.
    pub(crate) paragraphs: u32,
    /// Bytes of the longest paragraph of prose.
    pub(crate) longest_prose: usize,
    /// The first or the last paragraph is a short question.
    pub(crate) edge_question: bool,
    /// Distinct labels at line starts (`Question:`), and how often each.
    labels: Vec<(u32, u32)>,
    paragraph: Paragraph,
    records: Records,
    /// The last line was data, and it goes on in the next piece.
    cut_data: bool,
}

/// The paragraph that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Paragraph {
    bytes: usize,
    signs: u32,
    questions: u32,
    lines: u32,
    first: Line,
    last: Line,
}

/// A line at the edge of a paragraph.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Line {
    bytes: usize,
    signs: u32,
    questions: u32,
}

impl Shape {
    /// Share of bytes that stand in code, data or table lines, 0..=1.
    pub(crate) fn structured_share(&self) -> f32 {
        if self.bytes == 0 { 0.0 } else { self.structured_bytes as f32 / self.bytes as f32 }
    }

    /// Share of lines that read as code, 0..=1.
    pub(crate) fn code_share(&self) -> f32 {
        if self.lines == 0 { 0.0 } else { self.code_lines as f32 / self.lines as f32 }
    }

    /// How many different labels stand at line starts.
    pub(crate) fn label_kinds(&self) -> usize {
        self.labels.len()
    }

    /// How often the most frequent label comes again: examples before the question.
    pub(crate) fn label_repeats(&self) -> u32 {
        self.labels.iter().map(|(_, n)| n.saturating_sub(1)).max().unwrap_or(0)
    }

    /// Adds a piece of text.
    pub(crate) fn read(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        let mut goes_on = std::mem::take(&mut self.cut_data);
        for line in text.lines() {
            let before = self.data_bytes;
            self.read_line(line.trim(), line.len());
            if goes_on && self.data_bytes == before {
                self.data_bytes = self.data_bytes.saturating_add(line.len());
            }
            goes_on = false;
            self.cut_data = self.data_bytes > before;
        }
        self.cut_data &= !text.ends_with('\n');
    }

    /// Ends the text: its last paragraph counts.
    pub(crate) fn end(&mut self) {
        if self.paragraph.lines > 0 {
            let question = self.close_paragraph(true);
            self.edge_question |= question;
        }
    }

    fn read_line(&mut self, line: &str, bytes: usize) {
        if line.is_empty() {
            if self.paragraph.lines > 0 {
                let first = self.paragraphs == 0;
                let question = self.close_paragraph(false);
                self.edge_question |= first && question;
            }
            return;
        }
        self.lines = self.lines.saturating_add(1);
        let signs = Signs::of(line);
        self.paragraph.add(line, &signs);
        let kind = line::kind(line, &signs);
        let records = self.records.read(line, &signs, bytes.saturating_add(1));
        let data = match kind {
            LineKind::Data | LineKind::Table => bytes.saturating_add(1),
            LineKind::Prose if signs.code > 1 => records.max(record::inline_data(line)),
            LineKind::Prose => records,
            LineKind::Fence | LineKind::Code | LineKind::Definition => 0,
        };
        self.data_bytes = self.data_bytes.saturating_add(data);
        let count = match kind {
            LineKind::Fence => &mut self.fences,
            LineKind::Data => &mut self.data_lines,
            LineKind::Code | LineKind::Definition => &mut self.code_lines,
            LineKind::Table => &mut self.table_lines,
            LineKind::Prose => return self.read_prose(line),
        };
        *count = count.saturating_add(1);
        self.definitions = self.definitions.saturating_add(u32::from(kind == LineKind::Definition));
        self.tag_lines = self.tag_lines.saturating_add(u32::from(line.starts_with('<')));
        self.document_lines = self.document_lines.saturating_add(u32::from(line::starts_document(line)));
        self.structured_bytes = self.structured_bytes.saturating_add(bytes.saturating_add(1));
    }

    fn read_prose(&mut self, line: &str) {
        for (count, holds) in [
            (&mut self.list_lines, line::is_list(line)),
            (&mut self.option_lines, line::is_option(line)),
            (&mut self.heading_lines, line.starts_with('#')),
            (&mut self.bracket_lines, line.starts_with('[') && line.len() <= 60 && line.ends_with(']')),
            (&mut self.tag_lines, line::opens_tag(line)),
            (&mut self.document_lines, line::starts_document(line)),
        ] {
            *count = count.saturating_add(u32::from(holds));
        }
        let Some(label) = line::label(line) else { return };
        if let Some((_, n)) = self.labels.iter_mut().find(|(l, _)| *l == label) {
            *n = n.saturating_add(1);
        } else if self.labels.len() < LABELS {
            self.labels.push((label, 1));
        }
    }

    /// Counts the paragraph that ends; whether it is a short question, or, at an edge of the text, its outer line is.
    fn close_paragraph(&mut self, last: bool) -> bool {
        let p = std::mem::take(&mut self.paragraph);
        let first = self.paragraphs == 0;
        self.paragraphs = self.paragraphs.saturating_add(1);
        // No blank line need stand between material and the question about it.
        let outer = [(first, p.first), (last, p.last)];
        let asks = |line: &Line| p.lines > 1 && line.asks() && p.without(line).is_material();
        let asked = outer.into_iter().find(|(at_edge, line)| *at_edge && asks(line)).map(|(_, line)| line);
        let material = asked.map_or(p, |line| p.without(&line));
        if material.is_material() {
            self.longest_prose = self.longest_prose.max(material.bytes);
        }
        asked.is_some() || (p.bytes < QUESTION_BYTES && p.questions > 0)
    }
}

impl Paragraph {
    fn add(&mut self, line: &str, signs: &Signs) {
        let read = Line { bytes: line.len(), signs: signs.code, questions: questions(line, signs) };
        if self.lines == 0 {
            self.first = read;
        }
        self.last = read;
        self.bytes = self.bytes.saturating_add(read.bytes);
        self.lines = self.lines.saturating_add(1);
        self.signs = self.signs.saturating_add(read.signs);
        self.questions = self.questions.saturating_add(read.questions);
    }

    /// The paragraph without one of its lines.
    fn without(&self, line: &Line) -> Self {
        Paragraph {
            bytes: self.bytes.saturating_sub(line.bytes),
            signs: self.signs.saturating_sub(line.signs),
            questions: self.questions.saturating_sub(line.questions),
            ..*self
        }
    }

    /// Prose long enough to be worked on, with few signs of code and not one question after another.
    fn is_material(&self) -> bool {
        let telling = u32::try_from(self.bytes / 400).unwrap_or(u32::MAX).saturating_add(1);
        self.bytes >= MATERIAL_BYTES
            && (self.signs as usize).saturating_mul(60) < self.bytes
            && self.questions <= telling
    }
}

impl Line {
    fn asks(&self) -> bool {
        self.bytes < QUESTION_BYTES && self.questions > 0
    }
}

/// Words by which Thai, which writes no question mark, asks.
const THAI_QUESTIONS: [&str; 9] = ["อะไร", "ใคร", "ไหน", "ใด", "เมื่อไ", "เท่าไ", "กี่", "ทำไม", "อย่างไร"];
/// Ends of a Japanese question without a mark.
const KANA_QUESTIONS: [&str; 3] = ["か", "か。", "か．"];

/// Question marks of a line, of any script; of one without them, one if its words ask.
fn questions(line: &str, signs: &Signs) -> u32 {
    if line.is_ascii() {
        return signs.questions;
    }
    let (mut marks, mut thai) = (signs.questions, false);
    for c in line.chars() {
        marks = marks.saturating_add(u32::from(matches!(c, '？' | '؟' | '\u{37E}' | '՞' | '፧')));
        thai |= matches!(c, '\u{0E00}'..='\u{0E7F}');
    }
    if marks > 0 || line.len() >= QUESTION_BYTES {
        return marks;
    }
    let asks = asks_in_greek(line)
        || KANA_QUESTIONS.iter().any(|end| line.ends_with(end))
        || (thai && THAI_QUESTIONS.iter().any(|word| line.contains(word)));
    u32::from(asks)
}

/// Signs of a line by which its kind is told.
struct Signs {
    bars: u32,
    tabs: u32,
    commas: u32,
    semicolons: u32,
    equals: u32,
    /// Signs that code and formulas are full of.
    code: u32,
    questions: u32,
}

impl Signs {
    fn of(line: &str) -> Self {
        static SETS: Lanes = Lanes::new([b"|", b"\t", b",", b"=", b"=;{}<>|\\$", b"?", b";", b""]);
        let [bars, tabs, commas, equals, code, questions, semicolons, _] = SETS.count(line.as_bytes());
        Signs { bars, tabs, commas, semicolons, equals, code, questions }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Shape {
        let mut shape = Shape::default();
        shape.read(text);
        shape.end();
        shape
    }

    #[test]
    fn code_is_told_from_prose() {
        let code = read("def f(x):\n    y = x + 1\n    return y\n\nint main() {\n  f(2);\n}");
        // The lone closing brace may as well be data.
        assert!(code.code_lines >= 4, "{code:?}");
        assert!(code.structured_share() > 0.7);
        let prose = read(
            "Use your time well.\nReturn when you can. From here on it is easy; or so they say.\nClass begins at nine.",
        );
        assert_eq!(prose.code_lines, 0, "{prose:?}");
    }

    #[test]
    fn data_tables_and_lists_are_counted() {
        assert_eq!(read("{\n \"a\": 1\n}").data_lines, 3);
        assert_eq!(read("| a | b |\n|---|---|\n| 1 | 2 |").table_lines, 3);
        assert_eq!(read("- one\n- two\n3. three").list_lines, 3);
        assert_eq!(read("What?\n(A) one\n(B) two\nC. three").option_lines, 3);
        assert_eq!(
            read("[1] The lake.\nDocument 2: The sea.\n<doc id=\"3\">The pond.</doc>").document_lines,
            3
        );
    }

    #[test]
    fn labels_and_examples_are_counted() {
        let s = read("Question: a\nAnswer: b\n\nQuestion: c\nAnswer: d\n\nQuestion: e\nAnswer:");
        assert_eq!((s.label_kinds(), s.label_repeats()), (2, 2));
        assert_eq!(
            read("At noon: we left for the hills and went on until the very last light: done").label_kinds(),
            1
        );
    }

    #[test]
    fn questions_are_told_in_scripts_with_other_marks_or_none() {
        let greek = "Η λίμνη ήταν ήσυχη κάτω από έναν γκρίζο ουρανό και δεν πέρασε κανείς. ".repeat(4);
        let thai = "ทะเลสาบเงียบสงบใต้ท้องฟ้าสีเทาและไม่มีใครผ่านมา ".repeat(4);
        let kana = "湖は灰色の空の下で静かに横たわり、誰も通りかからなかった。".repeat(6);
        for text in [
            format!("{greek}\n\nΠοιος πέρασε;"),
            format!("{thai}\n\nทะเลสาบเป็นอย่างไร"),
            format!("{kana}\n湖はどこにありますか。"),
        ] {
            let s = read(&text);
            assert!(s.longest_prose >= 400 && s.edge_question && s.code_lines == 0, "{s:?}");
        }
        assert_eq!(read("μ = 3;\nreturn x;").code_lines, 2);
    }

    #[test]
    fn material_with_a_question_is_noticed() {
        let material = "The lake lay still under a grey sky and nobody came by. ".repeat(8);
        for text in [format!("{material}\n\nWho came by?"), format!("Who came by?\n\n{material}")] {
            let s = read(&text);
            assert!(s.longest_prose >= 400 && s.edge_question, "{s:?}");
        }
        assert!(!read(&material).edge_question);
        for text in [format!("{material}\nWho came by?"), format!("Who came by?\n{material}")] {
            let s = read(&text);
            assert!(s.longest_prose >= 400 && s.edge_question, "{s:?}");
        }
        assert!(!read(&format!("{material}\nNobody came by.")).edge_question);
        let talk = "Who came by? Where from? What for? With whom? And when?".repeat(8);
        assert_eq!(read(&format!("{talk}\nWho came by?")).longest_prose, 0);
        assert_eq!(read(&"if (a == b) { c[1] = d; }".repeat(30)).longest_prose, 0);
    }
}
