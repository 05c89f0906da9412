//! Files that look as if they belonged to a configuration, and are not read.

use super::folder::{self, is_text};
use super::sources::{
    MATRIX, OF_TENANTS, OVERLAYS, POLICIES, POLICY_TESTS, REGISTRIES, RULE_SCRIPTS, RULES, SCHEMAS, SETTINGS,
    SIGNATURE, TENANTS, WORKFLOWS, folders, shown, told,
};
use crate::control::fields::is_identifier;
use std::path::Path;
use types::Diagnostic;
use types::diagnostic::nearest;
use types::doc::{SourceFile, Span};

/// What nobody would miss until it is too late: warnings for names that are nearly ours, errors where one of ours has
/// only the wrong ending.
pub(super) fn find(dir: &Path) -> Vec<Diagnostic> {
    let mut all = Vec::new();
    for folder in folders(dir) {
        let folder = folder.as_str();
        let entries = folder::list(&dir.join(folder)).unwrap_or_else(|e| {
            // Of the others who reads their files tells.
            if folder.is_empty() {
                all.push(told(&e));
            }
            Vec::new()
        });
        for path in entries {
            let name = path
                .file_name()
                .and_then(|n| n.to_str())
                .filter(|n| !n.starts_with('.') && !n.ends_with('~'));
            let Some(name) = name else { continue };
            let stray = if path.is_dir() { sub_folder(folder, name) } else { file(folder, name) };
            let Some(stray) = stray else { continue };
            all.push(stray.told(&SourceFile::new(shown(&path), ""), name));
        }
    }
    all
}

/// A name that is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stray {
    /// One of ours but for its ending.
    Ending(&'static str),
    /// Nearly this one.
    Near(&'static str),
    /// Files of this folder end otherwise.
    Kind(&'static str),
    /// No tenant can be called so.
    NoTenant,
    /// It belongs into the folder of a tenant.
    Tenantless,
}

impl Stray {
    fn told(self, file: &SourceFile, name: &str) -> Diagnostic {
        let at = Span { line: 1, column: 1, ..Span::default() };
        let message = format!("`{name}` is not read");
        match self {
            Stray::Ending(right) => {
                Diagnostic::error("TS009", file, at, message).hint(format!("call it `{right}`"))
            }
            Stray::Near(right) => {
                Diagnostic::warning("TS009", file, at, message).hint(format!("did you mean `{right}`?"))
            }
            Stray::Kind(ending) => Diagnostic::warning("TS009", file, at, message)
                .hint(format!("files of this folder end with `.{ending}`")),
            Stray::NoTenant => {
                Diagnostic::error("TS009", file, at, format!("no tenant can be called `{name}`"))
                    .expected("1 to 63 lower-case letters, digits, `_` and `-`, a letter or digit first")
                    .hint("name the folder as the tenant, by its `id`")
            }
            Stray::Tenantless => Diagnostic::error("TS009", file, at, message)
                .hint(format!("put it into the folder of a tenant: `{TENANTS}/<tenant>/{name}`")),
        }
    }
}

fn sub_folder(folder: &str, name: &str) -> Option<Stray> {
    let known: &[&str] = match folder {
        "" => &[OVERLAYS, POLICIES, WORKFLOWS],
        TENANTS => return (!is_identifier(name)).then_some(Stray::NoTenant),
        POLICIES => &["rules", "tests", "tenants"],
        POLICY_TESTS => &["registries"],
        // `schema` holds what editors check workflows with.
        WORKFLOWS => &["schemas", "schema", "tests"],
        _ => &[],
    };
    near(name, known)
}

fn file(folder: &str, name: &str) -> Option<Stray> {
    let ending = match folder {
        "" => return top(name),
        POLICIES | RULE_SCRIPTS => "rhai",
        OVERLAYS | POLICY_TESTS | REGISTRIES | WORKFLOWS => "yaml",
        SCHEMAS => "json",
        TENANTS => "",
        _ => return of_a_tenant(folder, name),
    };
    let (_, found) = name.rsplit_once('.')?;
    if folder == TENANTS {
        return looks_like_ours(found).then_some(Stray::Tenantless);
    }
    // What editors check workflows with may stand beside them: `turnout workflow new` puts it there.
    if folder == WORKFLOWS && found == "json" {
        return None;
    }
    (looks_like_ours(found) && !is_text(name, ending)).then_some(Stray::Kind(ending))
}

fn looks_like_ours(ending: &str) -> bool {
    let ours = ["yaml", "yml", "rhai", "json"];
    ours.contains(&ending) || !nearest(ending, ours).is_empty()
}

/// A file in the folder of a tenant, which holds rules and policies.
fn of_a_tenant(folder: &str, name: &str) -> Option<Stray> {
    let (_, found) = name.rsplit_once('.').filter(|_| folder.starts_with(TENANTS))?;
    let known = OF_TENANTS.iter().any(|ending| is_text(name, ending));
    (looks_like_ours(found) && !known).then_some(Stray::Kind("yaml` or `.rhai"))
}

fn top(name: &str) -> Option<Stray> {
    const KNOWN: [&str; 4] = [SETTINGS, MATRIX, RULES, SIGNATURE];
    if let Some(stem) = name.strip_suffix(".yml")
        && let Some(right) = KNOWN.into_iter().find(|k| k.strip_suffix(".yaml") == Some(stem))
    {
        return Some(Stray::Ending(right));
    }
    near(name, &KNOWN)
}

/// The name of ours that this one is nearly, but is not.
fn near(name: &str, known: &[&'static str]) -> Option<Stray> {
    if known.contains(&name) {
        return None;
    }
    let near =
        known.iter().find(|k| strsim::damerau_levenshtein(name, k) <= 2 || k.eq_ignore_ascii_case(name));
    near.copied().map(Stray::Near)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, want: Option<Stray>) {
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        assert_eq!(file(folder, name), want, "{path}");
    }

    #[test]
    fn names_that_are_nearly_ours_are_noticed_and_others_are_not() {
        check("turnout.yml", Some(Stray::Ending("turnout.yaml")));
        check("routing_rules.yml", Some(Stray::Ending("routing_rules.yaml")));
        check("routing_rule.yaml", Some(Stray::Near("routing_rules.yaml")));
        check("Turnout.yaml", Some(Stray::Near("turnout.yaml")));
        check("policies/a.rai", Some(Stray::Kind("rhai")));
        check("policies/a.yaml", Some(Stray::Kind("rhai")));
        check("policies/rules/a.rhia", Some(Stray::Kind("rhai")));
        check("workflows/w.yaaml", Some(Stray::Kind("yaml")));
        check("workflows/schemas/s.jsn", Some(Stray::Kind("json")));
        check("policies/tenants/acme/rules.yaaml", Some(Stray::Kind("yaml` or `.rhai")));
        check("policies/tenants/rules.yaml", Some(Stray::Tenantless));
        check("policies/tenants/README.md", None);
        check("policies/tenants/acme/rules.yml", None);
        check("policies/tenants/acme/guard.rhai", None);
        for good in [
            "turnout.yaml",
            "README.md",
            "docker-compose.yml",
            ".env",
            "prices.csv",
            "workflows/w.yml",
            "matrix.d/a.yaml",
            "policies/a.rhai",
            "policies/README.md",
            "policies/notes.txt",
            "workflows/schemas/s.json",
            "policies/LICENSE",
        ] {
            check(good, None);
        }
        for (folder, name, want) in [
            ("", "polices", Some(Stray::Near("policies"))),
            ("", "workflow", Some(Stray::Near("workflows"))),
            ("", "matrix_d", Some(Stray::Near("matrix.d"))),
            ("policies", "test", Some(Stray::Near("tests"))),
            ("policies", "tenant", Some(Stray::Near("tenants"))),
            ("policies/tenants", "Acme", Some(Stray::NoTenant)),
            ("policies/tenants", "acme", None),
            ("workflows", "shemas", Some(Stray::Near("schemas"))),
            ("workflows", "schema", None),
            ("", "policies", None),
            ("", "data", None),
            ("workflows", "rules", None),
        ] {
            assert_eq!(sub_folder(folder, name), want, "{folder}/{name}");
        }
    }

    #[test]
    fn a_folder_is_told_of_them_with_their_paths() {
        let dir = tempfile::tempdir().unwrap();
        for path in
            ["routing_rules.yml", "policies/a.rai", "polices/b.rhai", "workflows/w.yaml", "policies/b.rhai~"]
        {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let found = find(dir.path());
        let told: Vec<(bool, String)> = found
            .iter()
            .map(|d| {
                (
                    d.severity == types::Severity::Error,
                    d.file.rsplit('/').next().unwrap_or_default().to_owned(),
                )
            })
            .collect();
        let want = [(false, "polices"), (true, "routing_rules.yml"), (false, "a.rai")];
        assert_eq!(told, want.map(|(e, n)| (e, n.to_owned())), "{found:?}");
    }
}
