//! YAML, every document of the stream.

use super::tree::Fault;
use super::{Reading, prepare};
use saphyr_parser::{Event, Parser};

/// Deepest nesting of flow collections that is parsed.
const MAX_DEPTH: usize = 100;

/// Parses YAML as events, so that nothing is built and no alias is followed.
pub(super) fn read(code: &str) -> Reading {
    let flow = code.bytes().fold((0_usize, 0_usize), |(open, most), b| match b {
        b'[' | b'{' => (open.saturating_add(1), most.max(open.saturating_add(1))),
        b']' | b'}' => (open.saturating_sub(1), most),
        _ => (open, most),
    });
    if flow.1 > MAX_DEPTH {
        return Reading::Unsure("it nests too deep to be parsed".into());
    }
    let mut parser = Parser::new_from_str(code);
    loop {
        match parser.next_event() {
            None | Some(Ok((Event::StreamEnd, _))) => return Reading::Fine,
            Some(Ok(_)) => {}
            Some(Err(_)) if prepare::is_template(code) => {
                return Reading::Unsure("it is a template, which is filled in before it is YAML".into());
            }
            Some(Err(e)) => {
                let at = code.char_indices().nth(e.marker().index()).map_or(code.len(), |(i, _)| i);
                let line = code.get(at..).and_then(|r| r.split('\n').next()).unwrap_or("");
                let span = at..at.saturating_add(line.len());
                return Reading::Faulty(vec![Fault { span, missing: None, what: Some(e.info().to_owned()) }]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, want: &str) {
        let got = match read(code) {
            Reading::Fine => "fine".to_owned(),
            Reading::Unsure(_) => "unsure".to_owned(),
            Reading::Faulty(f) => format!("at {}", code[..f[0].span.start].matches('\n').count() + 1),
        };
        assert_eq!(got, want, "{code:?}");
    }

    #[test]
    fn documents_are_read_and_mistakes_placed() {
        check("a: 1\nb:\n  - x\n  - y: {z: [1, 2]}\n", "fine");
        check("---\na: 1\n---\nb: 2\n...\n", "fine");
        check("a: |\n  text: with: colons\nb: *unknown\n", "at 3");
        check("a: 1\n  b: 2\n", "at 2");
        check("a: [1, 2\nb: 3\n", "at 2");
        check("a: \"x\n", "at 1");
        check("a:\n\tb: 1\n", "at 2");
        check("a: {{ .Values.x }\n", "unsure");
        check(&"[".repeat(5_000), "unsure");
        check("", "fine");
    }
}
