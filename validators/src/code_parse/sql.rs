//! SQL, in the dialects people write it in.

use super::Reading;
use super::tree::Fault;
use regex::Regex;
use sqlparser::dialect::{
    BigQueryDialect, ClickHouseDialect, Dialect, DuckDbDialect, GenericDialect, HiveDialect, MsSqlDialect,
    MySqlDialect, PostgreSqlDialect, RedshiftSqlDialect, SQLiteDialect, SnowflakeDialect,
};
use sqlparser::keywords::Keyword;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::Range;
use std::sync::LazyLock;

/// Longest text that is parsed, in bytes: every dialect may be tried on it.
const MAX_BYTES: usize = 64 * 1024;
/// Deepest brackets that are parsed: the parser tries several readings of each.
const MAX_BRACKETS: usize = 24;

struct Patterns {
    place: Regex,
    procedural: Regex,
    placeholder: Regex,
    table: Regex,
    client: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        place: Regex::new(r"Line:? (\d+),? Column:? (\d+)").ok()?,
        procedural: Regex::new(
            r"(?i)\bcreate\s+(?:or\s+replace\s+|or\s+alter\s+)?(?:definer\s*=\s*\S+\s+)?(?:function|procedure|proc|trigger|event|package|rule|operator|aggregate|policy|extension|type|user|role|login)\b|\bdeclare\b|\bdelimiter\b|\bbegin\b|\bdo\s+\$|\bloop\b|\bcursor\b|\bgo\s*$|\bexec(?:ute)?\b|\bpivot\b|\bmatch_recognize\b|\bmodel\b|\bconnect\s+by\b|\bpartition\s+by\s+(?:range|list|hash)\b",
        )
        .ok()?,
        table: Regex::new(r"(?im)^\s*(?:create|alter)\s").ok()?,
        placeholder: Regex::new(r"%\(\w+\)s|%s|\$?\{\{?\s*[\w.]+\s*\}?\}|\[[A-Z][A-Z_ ]+\]").ok()?,
        client: Regex::new(r"(?m)^[ \t]*(?:\\[a-z?!][^\n]*|\.[a-z]+[^\n]*|(?:mysql|sqlite|postgres|\w+)[=\-]?[#>] ?)").ok()?,
    })
});

/// What follows a fragment of SQL that is no statement: a clause, an expression, the columns of a table.
const FRAMES: &[(&str, &str)] =
    &[("SELECT * FROM x ", ""), ("SELECT ", ""), ("CREATE TABLE x (", ")"), ("CREATE TABLE x (", "x int)")];

/// Parses SQL; any dialect that takes it is enough, the labelled one is asked first.
pub(super) fn read(code: &str, label: &str) -> Reading {
    let Some(p) = PATTERNS.as_ref() else {
        return Reading::Unsure("the patterns of SQL do not compile".into());
    };
    if code.len() > MAX_BYTES || brackets(code) > MAX_BRACKETS {
        return Reading::Unsure("it is too long or nests too deep to be parsed as SQL".into());
    }
    // Commands of a client are no SQL.
    let code: String = p
        .client
        .replace_all(code, |c: &regex::Captures<'_>| " ".repeat(c.get(0).map_or(0, |m| m.len())))
        .into_owned();
    let filled: String = p
        .placeholder
        .replace_all(&code, |c: &regex::Captures<'_>| "x".repeat(c.get(0).map_or(0, |m| m.len())))
        .into_owned();
    let first = match parse(&filled, label) {
        Ok(()) => return nameless(&filled).map_or(Reading::Fine, |f| Reading::Faulty(vec![f])),
        Err(message) => message,
    };
    let body = filled.trim().trim_end_matches([',', ';']);
    if FRAMES.iter().any(|(before, after)| parse(&format!("{before}{body}{after}"), label).is_ok()) {
        return Reading::Fine;
    }
    if first.contains("recursion") {
        return Reading::Unsure("it nests too deep to be parsed as SQL".into());
    }
    // What stands behind the columns of a table is each vendor's own.
    let options = first.contains("Expected: end of statement") && p.table.is_match(&code);
    if options {
        return Reading::Unsure("it uses options of one vendor, which the parser does not know".into());
    }
    // The parser knows the statements of data and tables; of procedures and of servers it knows few.
    if p.procedural.is_match(&code) || first.contains("Expected: an SQL statement") {
        return Reading::Unsure(
            "it uses SQL of procedures or of one vendor, which the parser does not know".into(),
        );
    }
    let span = place(&code, &first, &p.place);
    let what =
        first.split(" at Line").next().unwrap_or("").trim_start_matches("sql parser error: ").to_owned();
    Reading::Faulty(vec![Fault { span, missing: None, what: Some(what) }])
}

/// A clause where the name of a table belongs: some dialects allow any word there.
fn nameless(code: &str) -> Option<Fault> {
    let tokens = Tokenizer::new(&GenericDialect {}, code).tokenize_with_location().ok()?;
    let mut from = false;
    for t in tokens.iter().filter(|t| !matches!(t.token, Token::Whitespace(_))) {
        let keyword = match &t.token {
            Token::Word(w) if w.quote_style.is_none() => w.keyword,
            _ => Keyword::NoKeyword,
        };
        let clause = matches!(
            keyword,
            Keyword::WHERE | Keyword::GROUP | Keyword::ORDER | Keyword::HAVING | Keyword::LIMIT
        );
        if from && clause {
            let message = format!("Line: {}, Column: {}", t.span.start.line, t.span.start.column);
            let span = place(code, &message, &PATTERNS.as_ref()?.place);
            return Some(Fault {
                span,
                missing: None,
                what: Some(format!("a table is missing before {}", t.token)),
            });
        }
        from = keyword == Keyword::FROM;
    }
    None
}

fn brackets(code: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0_usize);
    for b in code.bytes() {
        match b {
            b'(' | b'[' | b'{' => open = open.saturating_add(1),
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// The message of the dialect that got furthest.
fn parse(code: &str, label: &str) -> Result<(), String> {
    let mut best: Option<String> = None;
    let place = PATTERNS.as_ref().map(|p| &p.place);
    let reach = |m: &str| {
        let c = place.and_then(|p| p.captures(m));
        let n = |i: usize| c.as_ref().and_then(|c| c.get(i)).and_then(|m| m.as_str().parse::<usize>().ok());
        (n(1).unwrap_or(0), n(2).unwrap_or(0))
    };
    for dialect in dialects(label) {
        match Parser::parse_sql(dialect, code) {
            Ok(_) => return Ok(()),
            Err(e) => {
                let message = e.to_string();
                if best.as_ref().is_none_or(|b| reach(&message) > reach(b)) {
                    best = Some(message);
                }
            }
        }
    }
    Err(best.unwrap_or_default())
}

/// The dialect of the label first, then the others.
fn dialects(label: &str) -> Vec<&'static dyn Dialect> {
    let all: [(&[&str], &'static dyn Dialect); 11] = [
        (&["sql"], &GenericDialect {}),
        (&["postgres", "postgresql", "pgsql", "psql"], &PostgreSqlDialect {}),
        (&["mysql", "mariadb"], &MySqlDialect {}),
        (&["sqlite", "sqlite3"], &SQLiteDialect {}),
        (&["tsql", "t-sql", "mssql"], &MsSqlDialect {}),
        (&["bigquery"], &BigQueryDialect {}),
        (&["snowflake"], &SnowflakeDialect),
        (&["duckdb"], &DuckDbDialect {}),
        (&["hive", "spark-sql"], &HiveDialect {}),
        (&["redshift"], &RedshiftSqlDialect {}),
        (&["clickhouse"], &ClickHouseDialect {}),
    ];
    let mut out: Vec<&'static dyn Dialect> = Vec::new();
    out.extend(all.iter().filter(|(n, _)| n.contains(&label)).map(|(_, d)| *d));
    out.extend(all.iter().filter(|(n, _)| !n.contains(&label)).map(|(_, d)| *d));
    out
}

/// The word at the place that the message names, else all of the code.
fn place(code: &str, message: &str, pattern: &Regex) -> Range<usize> {
    let found = pattern.captures(message).and_then(|c| {
        let n = |i: usize| c.get(i).and_then(|m| m.as_str().parse::<usize>().ok());
        Some((n(1)?, n(2)?))
    });
    if message.contains("found: EOF") {
        return code.len()..code.len();
    }
    let Some((line, column)) = found.filter(|(l, c)| *l > 0 && *c > 0) else { return 0..code.len() };
    let start: usize = code.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let rest = code.get(start..).unwrap_or("");
    let offset = rest.char_indices().nth(column.saturating_sub(1)).map_or(rest.len(), |(i, _)| i);
    let at = start.saturating_add(offset).min(code.len());
    let word = code.get(at..).unwrap_or("");
    let len = word.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(word.len());
    at..at.saturating_add(len.max(word.chars().next().map_or(0, char::len_utf8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, label: &str, want: &str) {
        let got = match read(code, label) {
            Reading::Fine => "fine".to_owned(),
            Reading::Unsure(_) => "unsure".to_owned(),
            Reading::Faulty(f) => code[f[0].span.clone()].to_owned(),
        };
        assert_eq!(got, want, "{code}");
    }

    #[test]
    fn statements_of_many_dialects_are_read() {
        for code in [
            "SELECT a, COUNT(*) FROM t WHERE b > 1 GROUP BY a HAVING COUNT(*) > 2 ORDER BY a;",
            "WITH x AS (SELECT 1) SELECT * FROM x; SELECT 2;",
            "SELECT `a` FROM `t` LIMIT 5, 10",
            "SELECT TOP 5 [name] FROM [dbo].[users]",
            "INSERT INTO t (a) VALUES ($1) ON CONFLICT (a) DO NOTHING RETURNING id",
            "CREATE TABLE t (id SERIAL PRIMARY KEY, a JSONB NOT NULL DEFAULT '{}')",
            "SELECT * FROM t WHERE id = ? AND b = :b AND c = %s AND d = {d}",
            "-- only a comment\nSELECT 1",
            "SELECT a FROM t QUALIFY ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) = 1",
            "UPDATE t SET a = 1 WHERE b IN (SELECT c FROM d)",
        ] {
            check(code, "sql", "fine");
        }
    }

    #[test]
    fn clauses_and_columns_are_fragments() {
        check("WHERE a = 1 AND b LIKE '%x%'", "sql", "fine");
        check("JOIN b ON a.id = b.id\nWHERE c = 1;", "sql", "fine");
        check("COUNT(*) OVER (PARTITION BY a)", "sql", "fine");
        check("id INT PRIMARY KEY,\nname TEXT", "sql", "fine");
    }

    #[test]
    fn mistakes_are_placed() {
        check("SELECT FROM WHERE;", "sql", "WHERE");
        check("SELECT a FROM t WHERE (b = 1", "sql", "");
        check("SELECT a, b FROM t GROUP a", "sql", "GROUP");
        check("INSERT INTO t (a, b VALUES (1, 2)", "mysql", "VALUES");
    }

    #[test]
    fn what_the_parser_does_not_know_is_not_judged() {
        check("CREATE PROCEDURE p() BEGIN SELCT 1; END", "mysql", "unsure");
        check("DELIMITER //\nCREATE TRIGGER x\n//", "mysql", "unsure");
        check(&format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40)), "sql", "unsure");
        check(&format!("SELECT {}1{}", "(".repeat(20), ")".repeat(20)), "sql", "fine");
    }
}
