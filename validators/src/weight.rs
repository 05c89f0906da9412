//! What patterns take when they are compiled: one of a few bytes may take a million, and a schema may hold a thousand of
//! them. Of a schema it is told before they are compiled; of all that is built together it is counted.

use crate::finding::cut;
use regex_automata::nfa::thompson;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Bytes that all patterns of a schema may take together, compiled.
pub(crate) const MAX_COMPILED: usize = 2 * 1024 * 1024;
/// Bytes that all patterns of what is built together may take, compiled.
pub(crate) const MAX_TOGETHER: usize = 8 * 1024 * 1024;
/// Longest pattern of a schema, in bytes: already read, one byte of it may take a thousand.
const MAX_SOURCE: usize = 16 * 1024;
/// How much of a pattern a message quotes, in bytes.
const QUOTED: usize = 60;

thread_local! {
    /// Bytes that patterns which are built together on this thread may still take.
    static LEFT: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Puts back what was left before, on whatever way it is left.
struct Restores(usize);

impl Drop for Restores {
    fn drop(&mut self) {
        LEFT.set(self.0);
    }
}

/// What `f` gives, which may build checks whose patterns take 8 MiB in all when compiled; what would take more is not
/// built. A schema counts as often as it stands there, whoever compiled it before.
pub fn together<T>(f: impl FnOnce() -> T) -> T {
    let _restores = Restores(LEFT.replace(MAX_TOGETHER));
    f()
}

/// Counts patterns that are built.
///
/// # Errors
/// With those before them they take more than may be built together.
pub(crate) fn count(bytes: usize) -> Result<(), String> {
    let Some(left) = LEFT.get().checked_sub(bytes) else {
        return Err(format!(
            "with the patterns before it, it takes more than {MAX_TOGETHER} bytes when compiled"
        ));
    };
    LEFT.set(left);
    Ok(())
}

/// Bytes that the patterns take together, compiled; each is counted once, as it is compiled once. What is no pattern is
/// not counted: who compiles the schema refuses it.
///
/// # Errors
/// Which pattern is too large, takes them beyond [`MAX_COMPILED`], or cannot be weighed.
pub(crate) fn of(patterns: &BTreeSet<&str>) -> Result<usize, Arc<str>> {
    let mut all = 0_usize;
    for pattern in patterns {
        let quoted = cut(pattern, QUOTED);
        if pattern.len() > MAX_SOURCE {
            let has = pattern.len();
            return Err(
                format!("the pattern `{quoted}` has {has} bytes and may have {MAX_SOURCE} at most").into()
            );
        }
        let Ok(translated) = jsonschema_regex::to_rust_regex(pattern) else { continue };
        let parsed = regex_syntax::parse(&translated).or_else(|_| regex_syntax::parse(&flat(&translated)));
        let parsed = parsed.map_err(|_| {
            format!("the pattern `{quoted}` holds what patterns of schemas (ECMA-262) have not")
        })?;
        let left = MAX_COMPILED.saturating_sub(all);
        let settings = thompson::Config::new().nfa_size_limit(Some(left));
        let compiled = thompson::Compiler::new().configure(settings).build_from_hir(&parsed);
        let taken = compiled.ok().map(|nfa| nfa.memory_usage()).filter(|taken| *taken <= left);
        all = all.saturating_add(taken.ok_or_else(|| {
            format!(
                "its patterns are too large: together they may take {MAX_COMPILED} bytes when compiled, and \
                 with `{quoted}` they take more; repeat classes of letters less often, or check less by patterns"
            )
        })?);
    }
    Ok(all)
}

/// The pattern with what only a search that goes back knows taken for groups: looks around and atomic groups are what
/// they hold, and a back-reference is nothing. What it takes compiled is at least about that of its parts.
fn flat(pattern: &str) -> String {
    const GROUPS: [&str; 5] = ["(?<=", "(?<!", "(?=", "(?!", "(?>"];
    let mut out = String::with_capacity(pattern.len());
    let (mut rest, mut in_class) = (pattern, false);
    while let Some(c) = rest.chars().next() {
        let group = GROUPS.iter().find(|g| !in_class && rest.starts_with(**g));
        let taken = match (c, group) {
            (_, Some(group)) => {
                out.push_str("(?:");
                group.len()
            }
            ('\\', None) => {
                let escaped = rest.chars().nth(1);
                let digits = rest.bytes().skip(1).take_while(u8::is_ascii_digit).count();
                if digits == 0 {
                    out.push(c);
                    out.extend(escaped);
                }
                1_usize.saturating_add(digits.max(escaped.map_or(0, char::len_utf8)))
            }
            (_, None) => {
                in_class = (in_class || c == '[') && c != ']';
                out.push(c);
                c.len_utf8()
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(patterns: &[&str]) -> Result<usize, String> {
        of(&patterns.iter().copied().collect()).map_err(|why| why.to_string())
    }

    #[test]
    fn patterns_of_every_day_weigh_little() {
        let usual = [
            r"^\w{1,64}$",
            r"^[^@\s]+@[^@\s]+\.[^@\s]+$",
            r"^(?=.*\d)(?!.*\s).{8,64}$",
            r"^\p{Lu}\p{L}{0,9}$",
            r"^.{1,2000}$",
            r#"^(['"]).*\1$"#,
            r"^[\w.-]+\/[\w.-]+$",
        ];
        assert!(weight(&usual).is_ok_and(|bytes| bytes < MAX_COMPILED), "{:?}", weight(&usual));
        let letters = weight(&[r"^\p{L}{10}$"]);
        assert!(letters.as_ref().is_ok_and(|bytes| (100_000..600_000).contains(bytes)), "{letters:?}");
        // What is no pattern is refused where schemas are compiled.
        assert_eq!(weight(&["("]), Ok(0));
    }

    #[test]
    fn patterns_that_are_too_large_together_are_refused() {
        let many: Vec<String> = (0..3).map(|i| format!("^\\p{{L}}{{50}}x{i}$")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(weight(&many[..1]).is_ok());
        for patterns in
            [&many[..], &[r"(?=\p{L}{200})x"], &[r"(a)\1(?:\p{L}{20}){20}"], &["a{1000}{1000}{1000}{1000}"]]
        {
            assert!(weight(patterns).is_err_and(|why| why.contains("too large")), "{patterns:?}");
        }
        assert!(weight(&[&"a".repeat(MAX_SOURCE + 1)]).is_err_and(|why| why.contains("at most")));
        assert!(weight(&[r"(?<a>\p{L}{20})(?=x)\g<a>\g<a>"]).is_err_and(|why| why.contains("ECMA-262")));
    }

    #[test]
    fn what_is_built_together_is_counted() {
        let third = MAX_TOGETHER / 3;
        let counts = || [count(third), count(third), count(third), count(third)].map(|c| c.is_ok());
        assert_eq!(together(counts), [true, true, true, false]);
        assert_eq!(together(|| (together(counts)[2], counts()[2])), (true, true));
        assert_eq!(counts(), [true; 4]);
    }

    #[test]
    fn what_goes_back_is_taken_for_groups() {
        let check = |pattern: &str, want: &str| assert_eq!(flat(pattern), want);
        check(r"(?=a)(?!b)(?<=c)(?<!d)(?>e)", "(?:a)(?:b)(?:c)(?:d)(?:e)");
        check(r"(['])x\1y\10", "(['])xy");
        check(r"[(?=](?=\])\\1é\é", r"[(?=](?:\])\\1é\é");
    }
}
