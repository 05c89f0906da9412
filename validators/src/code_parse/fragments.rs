//! Pieces of code that stand for themselves in an answer: what a parser must be given around them.

use super::language::Language;
use super::prepare;
use super::tree::{self, Fault, Gave};
use std::borrow::Cow;

/// Longest code that is tried as a fragment, in bytes; what is longer is a file.
const MAX_FRAGMENT: usize = 16 * 1024;

/// Text before and after a fragment.
type Frame = (&'static str, &'static str);

/// Frames in which a fragment of several lines is whole: bodies, members, cases.
const fn frames(language: Language) -> &'static [Frame] {
    match language {
        Language::Rust => &[
            ("fn x() {\n", "\n}"),
            ("impl X {\n", "\n}"),
            ("struct X {\n", "\n}"),
            ("trait X {\n", "\n}"),
            ("enum X {\n", "\n}"),
            ("fn x() { match x {\n", "\n} }"),
            ("const X: X = X {\n", "\n};"),
            ("macro_rules! x {\n", "\n}"),
        ],
        Language::Java => &[
            ("class X {\n", "\n}"),
            ("class X { void x() {\n", "\n} }"),
            ("enum X {\n", "\n}"),
            ("interface X {\n", "\n}"),
        ],
        Language::C => &[
            ("void x(void) {\n", "\n}"),
            ("struct x {\n", "\n};"),
            ("enum x {\n", "\n};"),
            ("int x[] = {\n", "\n};"),
        ],
        Language::Cpp => &[
            ("void x() {\n", "\n}"),
            ("class X {\n", "\n};"),
            ("enum x {\n", "\n};"),
            ("int x[] = {\n", "\n};"),
        ],
        Language::Go => &[
            ("package x\n", ""),
            ("func x() {\n", "\n}"),
            ("type X struct {\n", "\n}"),
            ("type X interface {\n", "\n}"),
            ("func x() { switch {\n", "\n} }"),
            ("var x = X{\n", "\n}"),
            ("import (\n", "\n)"),
        ],
        Language::JavaScript => &[
            ("class X {\n", "\n}"),
            ("x = {\n", "\n}"),
            ("x = [\n", "\n]"),
            ("x = <>\n", "\n</>"),
            ("switch (x) {\n", "\n}"),
            ("import {\n", "\n} from 'x'"),
        ],
        Language::TypeScript => &[
            ("class X {\n", "\n}"),
            ("x = {\n", "\n}"),
            ("x = [\n", "\n]"),
            ("interface X {\n", "\n}"),
            ("enum X {\n", "\n}"),
            ("switch (x) {\n", "\n}"),
            ("import {\n", "\n} from 'x'"),
            ("type X =\n", ""),
        ],
        Language::Tsx => {
            &[("class X {\n", "\n}"), ("x = {\n", "\n}"), ("x = <>\n", "\n</>"), ("interface X {\n", "\n}")]
        }
        Language::Css => &[("x {\n", "\n}")],
        Language::Json => &[("{\n", "\n}"), ("[\n", "\n]")],
        Language::Python => &[
            ("if x:\n    pass\n", ""),
            ("try:\n    pass\n", ""),
            ("x = {\n", "\n}"),
            ("x = [\n", "\n]"),
            ("x(\n", "\n)"),
        ],
        _ => &[],
    }
}

/// Frames for a single line: a signature, an expression, a type.
const fn line_frames(language: Language) -> &'static [Frame] {
    match language {
        Language::Rust => &[("type X = ", ";"), ("const X: x = ", ";"), ("", ";"), ("", " {}")],
        Language::Java => {
            &[("", " {}"), ("class X { ", "; }"), ("class X { ", " x; }"), ("class X { Object x = ", "; }")]
        }
        Language::C | Language::Cpp => &[("", ";"), ("", " {}"), ("", " x;"), ("int x = ", ";")],
        Language::Go => &[("var x = ", ""), ("var x ", ""), ("type X interface { ", " }"), ("", " {}")],
        Language::TypeScript | Language::Tsx => {
            &[("", " {}"), ("type X = ", ";"), ("x = ", ""), ("declare ", ";")]
        }
        Language::JavaScript => &[("", " {}"), ("x = ", "")],
        Language::Python => &[("", " pass"), ("", ": pass")],
        Language::Css => &[("", " {}")],
        _ => &[],
    }
}

/// Parses the code as a whole file and as the fragments it may be. The faults of the reading that makes most
/// of it; none if one reading makes sense of all.
pub(crate) fn faults(language: Language, code: &str) -> Result<Vec<Fault>, Gave> {
    let mut best = read(language, code, ("", ""))?;
    if best.is_empty() {
        return Ok(best);
    }
    if code.len() > MAX_FRAGMENT {
        return Ok(best);
    }
    let single = code.trim().lines().count() <= 1;
    let code = if single { code.trim_end() } else { code };
    let lines: &[Frame] = if single { line_frames(language) } else { &[] };
    for frame in frames(language).iter().chain(lines).filter(|f| fits(f, code)) {
        // What is too much in one frame may be fine in another, and was fine without.
        let Ok(found) = read(language, code, *frame) else { continue };
        if found.is_empty() {
            return Ok(found);
        }
        if weight(&found) < weight(&best) {
            best = found;
        }
    }
    if language == Language::TypeScript {
        let jsx = faults_of(Language::Tsx, code)?;
        if weight(&jsx) < weight(&best) {
            best = jsx;
        }
    }
    if language == Language::C {
        // Headers and snippets labelled `c` often are C++.
        let cpp = faults_of(Language::Cpp, code)?;
        if cpp.is_empty() {
            return Ok(cpp);
        }
    }
    Ok(best)
}

/// Whether a frame may be put around the code: between tags of JSX any prose would do.
fn fits(frame: &Frame, code: &str) -> bool {
    !frame.0.contains("<>") || code.trim_start().starts_with('<')
}

fn faults_of(language: Language, code: &str) -> Result<Vec<Fault>, Gave> {
    let mut best = read(language, code, ("", ""))?;
    for frame in frames(language).iter().filter(|f| fits(f, code)) {
        let Ok(found) = read(language, code, *frame) else { continue };
        if weight(&found) < weight(&best) {
            best = found;
        }
    }
    Ok(best)
}

/// Less is better: bytes that make no sense, and something for every fault.
fn weight(faults: &[Fault]) -> usize {
    faults.iter().map(|f| f.span.len().saturating_add(4)).sum()
}

fn read(language: Language, code: &str, (before, after): Frame) -> Result<Vec<Fault>, Gave> {
    let whole: Cow<'_, str> = if before.is_empty() && after.is_empty() {
        code.into()
    } else {
        format!("{before}{code}{after}").into()
    };
    let tree = tree::parse(language, &whole)?;
    let back = |at: usize| at.saturating_sub(before.len()).min(code.len());
    Ok(tree::faults(&tree, language)
        .into_iter()
        .map(|f| Fault { span: back(f.span.start)..back(f.span.end), ..f })
        .collect())
}

/// The forms of a snippet worth a try, in the order in which they are: as it is, as the input of a session,
/// without the lines of a notebook, with placeholders filled in.
pub(crate) fn readings(language: Language, code: &str) -> Vec<String> {
    let mut out = Vec::new();
    match prepare::session(language, code) {
        Some(input) => out.push(input),
        None => out.push(code.to_owned()),
    }
    let first = out.first().cloned().unwrap_or_default();
    if language == Language::Python {
        out.extend(prepare::without_magic(&first));
    }
    if matches!(language, Language::Bash | Language::Sql | Language::Yaml) {
        out.extend(prepare::filled_in(&first));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(language: Language, code: &str, fine: bool) {
        let got = faults(language, code).unwrap();
        assert_eq!(got.is_empty(), fine, "{language:?} {code:?} {got:?}");
    }

    #[test]
    fn fragments_are_no_errors() {
        use Language::{C, Cpp, Css, Go, Java, JavaScript, Json, Python, Rust, Tsx, TypeScript};
        for (l, code) in [
            (Java, "public int add(int a, int b) {\n    return a + b;\n}"),
            (Java, "int x = 1;\nx++;\nSystem.out.println(x);"),
            (Java, "private final String name;\n\npublic Foo(String name) {\n    this.name = name;\n}"),
            (Java, "public static void main(String[] args)"),
            (Java, "Map<String, Integer>"),
            (C, "int x = 1;\nfor (int i = 0; i < 3; i++) {\n    x += i;\n}\nreturn x;"),
            (C, "int strcmp(const char *a, const char *b)"),
            (C, "std::vector<int> v;"),
            (Cpp, "std::cout << \"hi\" << std::endl;\nreturn 0;"),
            (Cpp, "public:\n  int f() const { return 1; }\nprivate:\n  int x_;"),
            (Go, "x := 1\nif x > 0 {\n\treturn x\n}"),
            (Go, "func add(a, b int) int {\n\treturn a + b\n}"),
            (Go, "Name string `json:\"name\"`\nAge int"),
            (Rust, "let x = 1;\nprintln!(\"{x}\");"),
            (Rust, "fn area(&self) -> f64 {\n    self.w * self.h\n}"),
            (Rust, "Vec<Option<String>>"),
            (Rust, "Some(x) => x,\nNone => 0,"),
            (JavaScript, "constructor(a) {\n  this.a = a;\n}\nget b() { return 1; }"),
            (JavaScript, "a: 1,\nb: function () { return 2; },"),
            (JavaScript, "return <div>{x}</div>;"),
            (JavaScript, "<A />\n<B />"),
            (TypeScript, "name: string;\nage?: number;"),
            (TypeScript, "const x = <div>{y as string}</div>;"),
            (Tsx, "const A: React.FC<P> = ({a}) => <b>{a}</b>;"),
            (Css, "color: red;\nmargin: 0 auto;"),
            (Json, "\"a\": 1,\n\"b\": [2]"),
            (Json, "{\"a\": 1} // why\n"),
            (Python, "elif x > 1:\n    y = 2\nelse:\n    y = 3"),
            (Python, "except ValueError:\n    pass"),
            (Python, "def f(x: int) -> str:"),
            (Python, "return x"),
        ] {
            check(l, code, true);
        }
    }

    #[test]
    fn errors_are_errors_in_every_frame() {
        use Language::{C, Cpp, Css, Go, Java, JavaScript, Json, Python, Rust, TypeScript};
        for (l, code) in [
            (Java, "public int add(int a, int b) {\n    return a + ;\n}"),
            (Java, "class A { void f() { int x = 1 }"),
            (C, "int main(void) {\n    printf(\"hi\"\n    return 0;\n}"),
            (Cpp, "int main() { std::cout << ; }"),
            (Go, "func main() {\n\tfmt.Println(\"a\"\n}"),
            (Rust, "fn main() { let x = ; }"),
            (JavaScript, "function f( { return 1; }"),
            (JavaScript, "const a = [1, 2;\nlet b;\n"),
            (TypeScript, "let x: = 3;"),
            (Css, "a { color: red; b { } "),
            (Json, "{\"a\": 1,, \"b\": 2}"),
            (Json, "{'a': 1}"),
            (Python, "def f(x:\n    return x\n"),
            (Python, "print('a'\nx = 1\n"),
        ] {
            check(l, code, false);
        }
    }
}
