//! What the lines of a text look like: code, data, tables, lists, numbers, formulas.

/// Line and sign counts of the text read so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
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
    /// Lines of a list.
    pub(crate) list_lines: u32,
    /// Runs of digits.
    pub(crate) numbers: u32,
    /// Signs of formulas: `=`, `^`, `\` commands, `$…$`, `√`, `≤` and the like.
    pub(crate) formula_signs: u32,
    /// Question marks, of any script.
    pub(crate) questions: u32,
    /// Words of answer asked for by number ("in 300 words", "two pages" as digits).
    pub(crate) words_asked: Option<u32>,
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

    /// Adds a piece of text.
    pub(crate) fn read(&mut self, text: &str) {
        self.bytes = self.bytes.saturating_add(text.len());
        for line in text.lines() {
            self.read_line(line.trim(), line.len());
        }
        self.read_signs(text.as_bytes());
        self.questions = self.questions.saturating_add(wide_question_marks(text));
    }

    fn read_line(&mut self, line: &str, bytes: usize) {
        if line.is_empty() {
            return;
        }
        self.lines = self.lines.saturating_add(1);
        let kind = if line.starts_with("```") || line.starts_with("~~~") {
            &mut self.fences
        } else if is_data(line) {
            &mut self.data_lines
        } else if is_code(line) {
            self.definitions = self.definitions.saturating_add(u32::from(is_definition(line)));
            &mut self.code_lines
        } else if is_table(line) {
            &mut self.table_lines
        } else {
            if is_list(line) {
                self.list_lines = self.list_lines.saturating_add(1);
            }
            return;
        };
        *kind = kind.saturating_add(1);
        self.structured_bytes = self.structured_bytes.saturating_add(bytes.saturating_add(1));
    }

    fn read_signs(&mut self, bytes: &[u8]) {
        let mut in_number = false;
        for (i, b) in bytes.iter().enumerate() {
            if b.is_ascii_digit() {
                if !in_number {
                    self.numbers = self.numbers.saturating_add(1);
                    if self.words_asked.is_none() {
                        self.words_asked = words_asked(bytes.get(i..).unwrap_or(&[]));
                    }
                }
                in_number = true;
                continue;
            }
            // A separator between digits keeps the number one.
            in_number = in_number && matches!(b, b',' | b'.');
            match b {
                b'=' | b'^' | b'\\' | b'$' => self.formula_signs = self.formula_signs.saturating_add(1),
                b'?' => self.questions = self.questions.saturating_add(1),
                _ => {}
            }
        }
    }
}

/// `？` and `؟`, which the byte loop does not see.
fn wide_question_marks(text: &str) -> u32 {
    if text.is_ascii() {
        return 0;
    }
    let n = text.chars().filter(|c| matches!(c, '？' | '؟')).count();
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// Starts of lines that are code unless they end as a sentence does.
const CODE_STARTS: &[&str] = &[
    "def ",
    "class ",
    "import ",
    "from ",
    "#include",
    "#define",
    "return ",
    "return;",
    "const ",
    "let ",
    "var ",
    "fn ",
    "func ",
    "function ",
    "public ",
    "private ",
    "protected ",
    "static ",
    "async ",
    "await ",
    "print(",
    "console.",
    "package ",
    "using ",
    "namespace ",
    "struct ",
    "enum ",
    "impl ",
    "pub ",
    "use ",
    "SELECT ",
    "INSERT ",
    "UPDATE ",
    "CREATE ",
    "DELETE ",
    ">>> ",
    "@@ ",
    "+++ ",
    "--- a/",
    "diff --git",
    "$ ",
    "#!/",
    "//",
    "/*",
    "elif ",
    "except ",
    "raise ",
    "assert ",
    "self.",
    "int ",
    "void ",
    "double ",
    "std::",
    "if (",
    "for (",
    "while (",
    "switch (",
];
/// Starts of lines that are code when they end in a colon.
const BLOCK_STARTS: &[&str] =
    &["if ", "for ", "while ", "else", "elif ", "try", "with ", "def ", "class ", "except"];

fn is_code(line: &str) -> bool {
    let last = line.as_bytes().last().copied().unwrap_or(b' ');
    if matches!(last, b';' | b'{') && line.len() > 1 {
        return true;
    }
    if last == b':' && BLOCK_STARTS.iter().any(|s| line.starts_with(s)) {
        return true;
    }
    if !matches!(last, b'.' | b'?' | b'!' | b',') && CODE_STARTS.iter().any(|s| line.starts_with(s)) {
        return line.len() < 200 && (has_code_sign(line) || line.split_ascii_whitespace().count() <= 4);
    }
    // An assignment: one word, an equals sign, a value.
    line.split_once(" = ").is_some_and(|(name, value)| {
        !name.is_empty()
            && !value.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'[' | b']'))
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && name.len() > 1
    })
}

/// Starts of lines that hardly occur outside code, given that the line reads as code at all.
const DEFINITION_STARTS: &[&str] = &[
    "def ",
    "class ",
    "#include",
    "fn ",
    "pub fn ",
    "func ",
    "function ",
    "public ",
    "import ",
    "from ",
    "SELECT ",
    "async def ",
    "diff --git",
    "@@ ",
    "#!/",
    ">>> ",
];

fn is_definition(line: &str) -> bool {
    DEFINITION_STARTS.iter().any(|s| line.starts_with(s))
}

fn has_code_sign(line: &str) -> bool {
    line.bytes().any(|b| matches!(b, b'(' | b')' | b'=' | b';' | b'{' | b'<' | b'*' | b':' | b'_' | b'+'))
}

fn is_data(line: &str) -> bool {
    let bytes = line.as_bytes();
    match bytes.first() {
        Some(b'{' | b'}' | b'[' | b']') => bytes.len() <= 2 || line.contains("\":") || line.contains("':"),
        Some(b'"') => line.contains("\":"),
        Some(b'<') => {
            bytes.last() == Some(&b'>')
                && bytes.get(1).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'/' || *b == b'!')
        }
        _ => false,
    }
}

fn is_table(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.iter().filter(|b| **b == b'|').count() >= 2
        || bytes.iter().filter(|b| **b == b'\t').count() >= 2
        || (bytes.iter().filter(|b| **b == b',').count() >= 3 && !line.contains(", "))
}

fn is_list(line: &str) -> bool {
    let bytes = line.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(b'-' | b'*'), Some(b' ')) => true,
        (Some(d), Some(b'.' | b')')) => d.is_ascii_digit(),
        _ => line.starts_with('•'),
    }
}

/// Units of length and how many words one is, as they follow a number.
const UNITS: &[(&str, u32)] = &[
    ("word", 1),
    ("wörter", 1),
    ("worte", 1),
    ("mots", 1),
    ("palabras", 1),
    ("palavras", 1),
    ("parole", 1),
    ("слов", 1),
    ("字", 1),
    ("文字", 1),
    ("sentence", 20),
    ("paragraph", 100),
    ("page", 500),
    ("bullet", 20),
];

/// The number at the start of `bytes` times its unit, if a unit of length follows; 5..=20000.
fn words_asked(bytes: &[u8]) -> Option<u32> {
    let mut number: u32 = 0;
    let mut rest = bytes;
    while let Some((b, after)) = rest.split_first() {
        match b {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u32::from(b - b'0'))?,
            b',' => {}
            _ => break,
        }
        rest = after;
    }
    if let Some((b' ' | b'-', after)) = rest.split_first() {
        rest = after;
    }
    // Most numbers are followed by something else: look closer only where a unit may start.
    if !rest.first().is_some_and(|b| b.is_ascii_alphabetic() || *b >= 0x80) {
        return None;
    }
    let (_, each) = UNITS
        .iter()
        .find(|(unit, _)| rest.get(..unit.len()).is_some_and(|r| r.eq_ignore_ascii_case(unit.as_bytes())))?;
    number.checked_mul(*each).filter(|n| (5..=20_000).contains(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Shape {
        let mut shape = Shape::default();
        shape.read(text);
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
    fn data_tables_lists_and_formulas_are_counted() {
        assert_eq!(read("{\n \"a\": 1\n}").data_lines, 3);
        assert_eq!(read("| a | b |\n|---|---|\n| 1 | 2 |").table_lines, 3);
        assert_eq!(read("- one\n- two\n3. three").list_lines, 3);
        let formula = read("Find $x^2 = 4$ where x = 1,000.5?");
        assert_eq!((formula.numbers, formula.questions), (3, 1));
        assert!(formula.formula_signs >= 4);
        assert_eq!(read("你好吗？").questions, 1);
    }

    #[test]
    fn a_stated_length_is_read() {
        for (text, words) in [
            ("Write 1,200 words on tea", Some(1_200)),
            ("a 300-word essay", Some(300)),
            ("in 5 sentences", Some(100)),
            ("写一篇800字的作文", Some(800)),
            ("in 2024 we met", None),
            ("99999999999999 words", None),
        ] {
            assert_eq!(read(text).words_asked, words, "{text}");
        }
    }
}
