//! `turnout policy fmt`: rules and policies in their usual form.

use super::read;
use crate::cli::out::Out;
use crate::cli::{FAILED, GOOD, Global, Outcome, Problem};
use crate::config::folder;
use crate::config::sources::{OF_TENANTS, POLICIES, RULE_SCRIPTS, RULES, TENANTS, folders};
use policies::format;
use serde_json::json;
use std::path::{Path, PathBuf};
use types::Diagnostic;
use types::doc::SourceFile;
use workflows::lay_out;

/// Give rules and policies their usual form
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Examples:\n  turnout policy fmt\n  turnout policy fmt --check\n  turnout policy fmt policies/spend_guard.rhai\n\nWithout files: routing_rules.yaml, policies/*.rhai, policies/rules/*.rhai and what stands in policies/tenants/<tenant>/ of\nthe configuration's folder. Only layout changes, never meaning; comments stay.\nExit code: 0 good, 2 something would change (--check) or cannot be read."
)]
pub(super) struct Args {
    /// Rules files (.yaml) and policies (.rhai)
    files: Vec<PathBuf>,
    /// Change nothing; tell what would change
    #[arg(long)]
    check: bool,
}

pub(super) fn run(global: &Global, args: &Args, out: &Out) -> Outcome {
    let files = if args.files.is_empty() { found(&global.config)? } else { args.files.clone() };
    let (mut changed, mut refused) = (Vec::new(), Vec::new());
    for path in &files {
        let text = read(path)?;
        let formatted = match formatted(path, &text) {
            Ok(formatted) if formatted == text => continue,
            Ok(formatted) => formatted,
            Err(d) => {
                refused.push((*d, text));
                continue;
            }
        };
        if !args.check {
            std::fs::write(path, formatted).map_err(|e| Problem(format!("{}: {e}", path.display())))?;
        }
        changed.push(path.display().to_string());
    }
    if out.json {
        let problems: Vec<_> = refused.iter().map(|(d, _)| d).collect();
        out.value(&json!({"files": files.len(), "changed": changed, "problems": problems}));
    } else {
        let word = if args.check { "would change" } else { "changed" };
        for path in &changed {
            out.line(&format!("{word}  {path}"));
        }
        refused.iter().for_each(|(d, text)| out.error(&d.render(Some(text), Out::colour())));
        out.line(&format!("{} files, {} {word}", files.len(), changed.len()));
    }
    Ok(if !refused.is_empty() || args.check && !changed.is_empty() { FAILED } else { GOOD })
}

/// A file in its usual form: the layout of every YAML file of this house, then what is special to rules.
fn formatted(path: &Path, text: &str) -> Result<String, Box<Diagnostic>> {
    if path.extension().is_some_and(|e| e == "rhai") {
        return Ok(format::script(text));
    }
    let file = SourceFile::new(path.display().to_string(), text);
    lay_out(&file, &[], "PL").map(|laid_out| format::rules(&laid_out))
}

/// The rules and policies of a configuration's folder.
fn found(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    if !folder.is_dir() {
        let what = if folder.exists() { "it is no folder" } else { "there is no such folder" };
        return Err(Problem(format!("{}: {what}", folder.display())));
    }
    let mut files = folder::list(folder)?;
    files.retain(|p| p.file_name().is_some_and(|name| name == RULES));
    for dir in [POLICIES, RULE_SCRIPTS] {
        files.extend(folder::texts(&folder.join(dir), "rhai")?);
    }
    let within = |name: &String| name.strip_prefix(TENANTS).is_some_and(|rest| !rest.is_empty());
    for dir in folders(folder).iter().filter(|name| within(name)) {
        for extension in OF_TENANTS {
            files.extend(folder::texts(&folder.join(dir), extension)?);
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rules(text: &str) -> String {
        formatted(Path::new("routing_rules.yaml"), text).unwrap_or_else(|d| panic!("{d}\n{text}"))
    }

    #[test]
    fn rules_are_laid_out_with_their_comments() {
        let text = "# top\nversion:   1\nrules:\n# about a\n- id:  a   # why\n  when: a==1\n  actions:\n      deny:   no\n- {id: b}\n";
        let want = "# top\nversion: 1\nrules:\n  # about a\n  - id: a   # why\n    when: a == 1\n    actions:\n      deny: no\n\n  - { id: b }\n";
        assert_eq!(rules(text), want);
        assert_eq!(rules(want), want);
        let wrong = formatted(Path::new("routing_rules.yaml"), "rules: [\n").map_err(|d| d.code.clone());
        assert!(wrong.is_err_and(|code| code.starts_with("PL")));
    }

    const SHIPPED: &str = include_str!("../../../../routing_rules.yaml");
    const COMPANY: &str = include_str!("../../../../docs/examples/policies/company/routing_rules.yaml");

    #[test]
    fn what_is_shipped_has_the_usual_form() {
        assert_eq!(rules(SHIPPED), SHIPPED);
        assert_eq!(rules(COMPANY), COMPANY);
    }

    /// Everything that stands in a text but white space.
    fn marks(text: &str) -> Vec<char> {
        text.chars().filter(|c| !c.is_whitespace()).collect()
    }

    proptest! {
        /// However a file is laid out, its usual form is the same, and formatting that again changes nothing.
        #[test]
        fn the_usual_form_does_not_depend_on_the_layout(
            more in 0_usize..4, ends in proptest::collection::vec(0_usize..3, 1..20), gaps in 1_usize..3,
        ) {
            let one = |(i, line): (usize, &str)| {
                let indent = line.len() - line.trim_start().len();
                let end = ends.get(i % ends.len()).copied().unwrap_or(0);
                let gap = if line.is_empty() { "\n".repeat(gaps) } else { String::new() };
                let indent = if indent > 0 { indent + more } else { 0 };
                format!("{}{}{}\n{gap}", " ".repeat(indent), line.trim_start(), " ".repeat(end))
            };
            let text: String = COMPANY.lines().enumerate().map(one).collect();
            let formatted = rules(&text);
            prop_assert_eq!(marks(&formatted), marks(COMPANY));
            prop_assert_eq!(&formatted, COMPANY);
            prop_assert_eq!(rules(&formatted), formatted);
        }
    }
}
