//! What kind of line a line is, by how it begins and ends.

use super::Signs;

/// Kinds of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// Three backticks or tildes.
    Fence,
    /// JSON, XML or the like.
    Data,
    /// Program code.
    Code,
    /// Program code that defines or imports something.
    Definition,
    /// A row of a table.
    Table,
    /// Anything else.
    Prose,
}

/// The kind of a line that is not blank, without the blanks around it.
pub(super) fn kind(line: &str, signs: &Signs) -> LineKind {
    if line.starts_with("```") || line.starts_with("~~~") {
        LineKind::Fence
    } else if is_data(line) {
        LineKind::Data
    } else if is_code(line, signs) {
        if is_definition(line) { LineKind::Definition } else { LineKind::Code }
    } else if is_table(line, signs) {
        LineKind::Table
    } else {
        LineKind::Prose
    }
}

/// `(A) …`, `B. …`, `C: …`.
pub(super) fn is_option(line: &str) -> bool {
    let bytes = line.strip_prefix('(').unwrap_or(line).as_bytes();
    matches!(bytes, [b'A'..=b'J', b'.' | b')' | b':', ..])
}

/// A tag at the start of a line of prose: `<doc id="1">The lake …`.
pub(super) fn opens_tag(line: &str) -> bool {
    let bytes = line.as_bytes();
    bytes.first() == Some(&b'<')
        && bytes.get(1).is_some_and(|b| b.is_ascii_alphabetic() || *b == b'/')
        && bytes.iter().take(60).any(|b| *b == b'>')
}

/// Names that stand before the number of a document.
const DOCUMENT_NAMES: [&str; 8] =
    ["document", "doc", "passage", "source", "context", "<doc", "article", "snippet"];

/// `[1] …`, `Document 2: …`, `<doc …`.
pub(super) fn starts_document(line: &str) -> bool {
    let bytes = line.as_bytes();
    if let [b'[', b'0'..=b'9', rest @ ..] = bytes {
        return rest.iter().take(2).any(|b| *b == b']');
    }
    DOCUMENT_NAMES.iter().any(|name| {
        let rest = bytes.get(..name.len()).filter(|b| b.eq_ignore_ascii_case(name.as_bytes()));
        rest.is_some_and(|_| {
            let after = bytes.get(name.len()..).unwrap_or(&[]);
            name.starts_with('<') || matches!(after, [b' ' | b'#' | b'_' | b'[', rest @ ..] if rest.iter().take(3).any(u8::is_ascii_digit))
        })
    })
}

/// Longest label, bytes.
const LABEL_BYTES: usize = 26;

/// A hash of the label that a line begins with (`Question 3:` and `**Question**:` are the same label).
pub(super) fn label(line: &str) -> Option<u32> {
    let bytes = line.as_bytes();
    let colon = bytes.iter().take(LABEL_BYTES).position(|b| *b == b':')?;
    let name = bytes.get(..colon)?;
    let mut hash = 0x811c_9dc5_u32;
    let mut letters = 0_u32;
    for byte in name {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' => {
                letters = letters.saturating_add(1);
                hash = (hash ^ u32::from(byte | 0x20)).wrapping_mul(0x0100_0193);
            }
            b' ' | b'0'..=b'9' | b'#' | b'*' | b'[' | b']' | b'(' | b')' | b'<' | b'>' => {}
            _ => return None,
        }
    }
    (letters >= 2).then_some(hash)
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

/// Whether any line of [`CODE_STARTS`] begins with that byte: most lines need no closer look.
static CODE_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut i = 0;
    while i < CODE_STARTS.len() {
        #[expect(clippy::indexing_slicing, reason = "a constant table filled at compile time")]
        {
            table[CODE_STARTS[i].as_bytes()[0] as usize] = true;
        }
        i += 1;
    }
    table
};

fn starts_as_code(line: &str) -> bool {
    let first = line.as_bytes().first().copied().unwrap_or(0);
    CODE_BYTES.get(usize::from(first)).copied().unwrap_or(false)
        && CODE_STARTS.iter().any(|s| line.starts_with(s))
}

fn is_code(line: &str, signs: &Signs) -> bool {
    let last = line.as_bytes().last().copied().unwrap_or(b' ');
    if matches!(last, b';' | b'{') && line.len() > 1 {
        return !asks_in_greek(line);
    }
    if last == b':' && BLOCK_STARTS.iter().any(|s| line.starts_with(s)) {
        return true;
    }
    if !matches!(last, b'.' | b'?' | b'!' | b',') && starts_as_code(line) {
        return line.len() < 200 && (has_code_sign(line) || line.split_ascii_whitespace().count() <= 4);
    }
    // An assignment: one word, an equals sign, a value.
    let assigned = if signs.equals > 0 { line.split_once(" = ") } else { None };
    assigned.is_some_and(|(name, value)| {
        !name.is_empty()
            && !value.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'[' | b']'))
            && name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic())
            && name.len() > 1
    })
}

/// Whether a line ends in the Greek question mark, which is written as a semicolon, after Greek words.
pub(crate) fn asks_in_greek(line: &str) -> bool {
    let Some(asked) = line.strip_suffix([';', '\u{37E}']) else { return false };
    let last = asked.rsplit(' ').next().unwrap_or(asked);
    last.chars().count() > 1
        && last.chars().all(|c| matches!(c, '\u{370}'..='\u{3FF}' | '\u{1F00}'..='\u{1FFF}'))
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

fn is_table(line: &str, signs: &Signs) -> bool {
    signs.bars >= 2 || signs.tabs >= 2 || (signs.commas >= 3 && !line.contains(", "))
}

pub(super) fn is_list(line: &str) -> bool {
    let bytes = line.as_bytes();
    match (bytes.first(), bytes.get(1)) {
        (Some(b'-' | b'*'), Some(b' ')) => true,
        (Some(d), Some(b'.' | b')')) => d.is_ascii_digit(),
        _ => line.starts_with('•'),
    }
}
