//! Which files there are: those of a folder, or texts given in process; what is absent is built in.

use super::folder::{self, Unreadable, Why, is_text};
use super::unreadable;
use crate::control::fields::is_identifier;
use policies::TenantFiles;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use types::doc::{self, SourceFile};
use types::printable::is_plain;
use types::{Diagnostic, diagnostic};

/// The rules that are built into the binary.
const SHIPPED_RULES: &str = include_str!("../../../routing_rules.yaml");

/// Ends the names of files that stand in for absent ones.
const BUILT_IN: &str = " (built in)";

/// The rules that are built into the binary.
pub(crate) fn built_in_rules() -> SourceFile {
    SourceFile::new(format!("{RULES}{BUILT_IN}"), SHIPPED_RULES)
}

/// All files that are built into the binary, by the paths they would have in a folder.
pub(crate) fn built_in() -> Vec<SourceFile> {
    let single = [(MATRIX, providers::matrix::SHIPPED), (RULES, SHIPPED_RULES)];
    let single = single.into_iter().map(|(path, text)| SourceFile::new(path, text));
    single.chain(workflows::shipped()).collect()
}

/// Whether a file stands in for one that is absent.
pub(crate) fn is_built_in(file: &SourceFile) -> bool {
    file.path.ends_with(BUILT_IN)
}

pub(crate) const SETTINGS: &str = "turnout.yaml";
pub(crate) const MATRIX: &str = "capability_matrix.yaml";
/// The rules of a configuration, by its path within it.
pub(crate) const RULES: &str = "routing_rules.yaml";
/// Who vouches for a configuration.
pub(crate) const SIGNATURE: &str = "signature.json";
pub(crate) const OVERLAYS: &str = "matrix.d";
/// The folder of scripts.
pub(crate) const POLICIES: &str = "policies";
/// The folder of policies that rules name.
pub(crate) const RULE_SCRIPTS: &str = "policies/rules";
/// The folder of tests of policies.
pub(crate) const POLICY_TESTS: &str = "policies/tests";
pub(super) const REGISTRIES: &str = "policies/tests/registries";
/// The folder of what tenants have of their own, each in a folder of its name.
pub(crate) const TENANTS: &str = "policies/tenants";
/// The folder of workflows.
pub(crate) const WORKFLOWS: &str = "workflows";
pub(super) const SCHEMAS: &str = "workflows/schemas";

/// The folders of a configuration, by their paths within it; the empty one is the configuration itself.
pub(crate) const FOLDERS: &[&str] =
    &["", OVERLAYS, POLICIES, RULE_SCRIPTS, POLICY_TESTS, REGISTRIES, TENANTS, WORKFLOWS, SCHEMAS];

/// The folders of a configuration that stands there: [`FOLDERS`], and one for each tenant that has any.
pub(crate) fn folders(dir: &Path) -> Vec<String> {
    let named = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    // A folder that cannot be listed is told of by who reads it.
    let within = folder::list(&dir.join(TENANTS)).unwrap_or_default();
    let tenants = within.iter().filter(|p| p.is_dir()).filter_map(named);
    let tenants = tenants.filter(|name| is_identifier(name)).map(|name| of_tenant(&name));
    FOLDERS.iter().map(|f| (*f).to_owned()).chain(tenants).collect()
}

/// The folder of what a tenant has of its own.
pub(crate) fn of_tenant(tenant: &str) -> String {
    format!("{TENANTS}/{tenant}")
}

/// The tenant whose folder that is.
fn tenant_in(folder: &str) -> Option<&str> {
    folder.strip_prefix(TENANTS)?.strip_prefix('/').filter(|name| is_identifier(name))
}

/// What a bundle may hold, for people.
const LAYOUT: &str = "capability_matrix.yaml, routing_rules.yaml, matrix.d/*.yaml, policies/*.rhai, \
                      policies/rules/*.rhai, policies/tests/*.yaml, policies/tests/registries/*.yaml, \
                      policies/tenants/<tenant>/*.yaml, policies/tenants/<tenant>/*.rhai, workflows/*.yaml, \
                      workflows/schemas/*.json or signature.json";

/// The texts of a bundle by their paths, which are the same for equal bundles wherever they came from.
pub type Texts = BTreeMap<String, Arc<str>>;

/// What files of a tenant end with: rules, and policies.
pub(crate) const OF_TENANTS: [&str; 2] = ["yaml", "rhai"];

/// Most files of one kind.
const MAX_FILES: usize = 1_000;

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder in the layout of the README.
    Folder(PathBuf),
    /// Texts by the names they would have in a folder.
    Given(Vec<(String, String)>),
}

impl Default for Source {
    /// Nothing but what is built in.
    fn default() -> Self {
        Source::Given(Vec::new())
    }
}

/// What is wrong with the paths of files that are to be a bundle.
#[must_use]
pub fn misplaced<'a>(paths: impl Iterator<Item = &'a str>) -> Vec<Diagnostic> {
    paths.filter(|p| !has_a_place(p)).map(nowhere).collect()
}

/// Whether a path reads as what it is: one with a line feed, a command to a terminal or a mark that turns the direction
/// of text in it would break the lines in which it is told.
pub(crate) fn is_readable(path: &str) -> bool {
    path.chars().all(is_plain)
}

fn has_a_place(path: &str) -> bool {
    if !is_readable(path) {
        return false;
    }
    let Some((folder, name)) = path.rsplit_once('/') else {
        return [MATRIX, RULES, SIGNATURE].contains(&path);
    };
    if tenant_in(folder).is_some() {
        return OF_TENANTS.iter().any(|extension| is_text(name, extension));
    }
    let extension = match folder {
        OVERLAYS | POLICY_TESTS | REGISTRIES | WORKFLOWS => "yaml",
        POLICIES | RULE_SCRIPTS => "rhai",
        SCHEMAS => "json",
        _ => return false,
    };
    is_text(name, extension)
}

fn nowhere(path: &str) -> Diagnostic {
    let start = doc::Span { line: 1, column: 1, ..doc::Span::default() };
    let shown = if is_readable(path) { path.to_owned() } else { path.escape_debug().to_string() };
    let file = SourceFile::new(shown.as_str(), "");
    let mut d = Diagnostic::error("TS008", &file, start, format!("`{shown}` is no file of a bundle"));
    d.hint = Some(if path == SETTINGS {
        "the settings of the server stay with the server: leave the file out".to_owned()
    } else if !is_readable(path) {
        "its name holds characters that nobody sees (control characters, marks of direction): rename it"
            .to_owned()
    } else {
        diagnostic::suggestion(path, [MATRIX, RULES, SIGNATURE])
    });
    d.expected(LAYOUT)
}

/// The texts of a configuration.
#[derive(Clone, Debug)]
pub struct Sources {
    /// `turnout.yaml`, if there is one.
    pub settings: Option<SourceFile>,
    /// The matrix and what is merged over it, in order.
    pub matrix: Vec<SourceFile>,
    /// `routing_rules.yaml`.
    pub rules: SourceFile,
    /// `policies/*.rhai` and `policies/rules/*.rhai`.
    pub scripts: Vec<SourceFile>,
    /// `policies/tenants/<tenant>/*.yaml` and `*.rhai`, by tenant.
    pub tenants: Vec<TenantFiles>,
    /// `policies/tests/*.yaml`.
    pub tests: Vec<SourceFile>,
    /// `policies/tests/registries/*.yaml`.
    pub registries: Vec<SourceFile>,
    /// `workflows/*.yaml`.
    pub workflows: Vec<SourceFile>,
    /// `workflows/schemas/*.json`.
    pub schemas: Vec<SourceFile>,
    /// `signature.json`, if there is one.
    pub signature: Option<SourceFile>,
}

impl Sources {
    /// All of them.
    #[must_use]
    pub fn texts(&self) -> Vec<SourceFile> {
        let Sources { matrix, scripts, tests, registries, workflows, schemas, .. } = self;
        let lists = [matrix, scripts, tests, registries, workflows, schemas];
        let tenants = self.tenants.iter().map(|t| &t.files);
        let single = self.settings.iter().chain(std::iter::once(&self.rules)).chain(&self.signature);
        single.chain(lists.into_iter().chain(tenants).flatten()).cloned().collect()
    }

    /// What makes a bundle: everything but the settings of the server; what is built in stands for absent files.
    #[must_use]
    pub fn bundle(&self) -> Texts {
        let base = self.matrix.iter().take(1).map(|f| (MATRIX.to_owned(), f));
        let overlays = self.matrix.iter().skip(1).map(|f| (within(OVERLAYS, f), f));
        let scripts = self.scripts.iter().map(|f| {
            let ruled = within(RULE_SCRIPTS, f);
            (if f.path.ends_with(&ruled) { ruled } else { within(POLICIES, f) }, f)
        });
        let tenants = self.tenants.iter().flat_map(|t| {
            let folder = of_tenant(&t.tenant);
            t.files.iter().map(move |f| (within(&folder, f), f))
        });
        let tests = self.tests.iter().map(|f| (within(POLICY_TESTS, f), f));
        let registries = self.registries.iter().map(|f| (within(REGISTRIES, f), f));
        let workflows = self.workflows.iter().map(|f| (within(WORKFLOWS, f), f));
        let schemas = self.schemas.iter().map(|f| (within(SCHEMAS, f), f));
        let rules = std::iter::once((RULES.to_owned(), &self.rules));
        let signature = self.signature.iter().map(|f| (SIGNATURE.to_owned(), f));
        let all = base.chain(overlays).chain(rules).chain(scripts).chain(tests).chain(registries);
        let all = all.chain(tenants).chain(workflows).chain(schemas).chain(signature);
        all.map(|(path, f)| (path, f.text.clone())).collect()
    }

    /// As [`Sources::bundle`], without what is built in.
    #[must_use]
    pub fn written(&self) -> Texts {
        let mut texts = self.bundle();
        self.built_in().iter().for_each(|path| {
            texts.remove(path);
        });
        texts
    }

    /// The paths of those texts of [`Sources::bundle`] that stand in for absent files.
    #[must_use]
    pub fn built_in(&self) -> Vec<String> {
        let matrix = self.matrix.first().is_some_and(is_built_in).then_some(MATRIX);
        let rules = is_built_in(&self.rules).then_some(RULES);
        matrix.into_iter().chain(rules).map(str::to_owned).collect()
    }

    /// Identifies what was read, settings and problems included.
    pub(crate) fn digest(&self, problems: &[Diagnostic]) -> blake3::Hash {
        let mut h = blake3::Hasher::new();
        for f in self.texts() {
            part(&mut h, &f.path);
            part(&mut h, &f.text);
        }
        problems.iter().for_each(|p| part(&mut h, &p.to_string()));
        h.finalize()
    }
}

/// The path of a file in a folder of the configuration.
fn within(folder: &str, file: &SourceFile) -> String {
    format!("{folder}/{}", file.path.rsplit('/').next().unwrap_or(&file.path))
}

/// Hashes a text so that no two sequences of texts are hashed alike.
pub(super) fn part(h: &mut blake3::Hasher, text: &str) {
    h.update(&(text.len() as u64).to_le_bytes());
    h.update(text.as_bytes());
}

impl Source {
    /// The texts of a bundle as they are kept, of which these were built in when it came: nobody has to vouch for them.
    pub(crate) fn kept(texts: &Texts, built_in: &[String]) -> Source {
        let named =
            |path: &String| if built_in.contains(path) { format!("{path}{BUILT_IN}") } else { path.clone() };
        Source::Given(texts.iter().map(|(path, text)| (named(path), text.to_string())).collect())
    }

    /// Reads everything; gives what could be read, and what could not.
    #[must_use]
    pub fn read(&self) -> (Sources, Vec<Diagnostic>) {
        let mut found = Found { source: self, problems: Vec::new() };
        match self {
            Source::Folder(dir) if dir.is_dir() => found.problems.extend(super::strays::find(dir)),
            Source::Folder(dir) => {
                found.problems.push(unreadable(
                    &dir.display().to_string(),
                    match dir.exists() {
                        true => "it is no folder",
                        false => "there is no such folder",
                    },
                ));
            }
            Source::Given(_) => {}
        }
        let mut matrix =
            vec![found.one(MATRIX).unwrap_or_else(|| {
                SourceFile::new(format!("{MATRIX}{BUILT_IN}"), providers::matrix::SHIPPED)
            })];
        matrix.extend(found.all(OVERLAYS, "yaml"));
        let mut scripts = found.all(POLICIES, "rhai");
        scripts.extend(found.all(RULE_SCRIPTS, "rhai"));
        let sources = Sources {
            settings: found.one(SETTINGS),
            matrix,
            rules: found.one(RULES).unwrap_or_else(built_in_rules),
            scripts,
            tenants: found.tenants(),
            tests: found.all(POLICY_TESTS, "yaml"),
            registries: found.all(REGISTRIES, "yaml"),
            workflows: found.all(WORKFLOWS, "yaml"),
            schemas: found.all(SCHEMAS, "json"),
            signature: found.one(SIGNATURE),
        };
        (sources, found.problems)
    }
}

struct Found<'a> {
    source: &'a Source,
    problems: Vec<Diagnostic>,
}

impl Found<'_> {
    fn one(&mut self, name: &str) -> Option<SourceFile> {
        match self.source {
            Source::Given(texts) => {
                let is = |n: &str| n.strip_suffix(BUILT_IN).unwrap_or(n) == name;
                let text = texts.iter().rev().find(|(n, _)| is(n));
                text.map(|(n, t)| SourceFile::new(n.as_str(), t.as_str()))
            }
            Source::Folder(dir) => self.file(&dir.join(name)),
        }
    }

    /// What each tenant has of its own, by the names of tenants.
    fn tenants(&mut self) -> Vec<TenantFiles> {
        let mut folders: Vec<String> = match self.source {
            Source::Folder(dir) => {
                if let Err(e) = folder::list(&dir.join(TENANTS)) {
                    self.problems.push(told(&e));
                }
                folders(dir)
            }
            Source::Given(texts) => {
                let folder = |(path, _): &(String, String)| Some(path.rsplit_once('/')?.0.to_owned());
                texts.iter().filter_map(folder).collect()
            }
        };
        folders.sort();
        folders.dedup();
        let own = folders.iter().filter_map(|folder| Some((tenant_in(folder)?, folder)));
        let own = own.map(|(tenant, folder)| {
            let files = OF_TENANTS.iter().flat_map(|extension| self.all(folder, extension)).collect();
            TenantFiles { tenant: tenant.into(), files }
        });
        own.filter(|t| !t.files.is_empty()).collect()
    }

    /// Every file of a folder with that extension, by name.
    fn all(&mut self, folder: &str, extension: &str) -> Vec<SourceFile> {
        let mut list = match self.source {
            Source::Given(texts) => {
                let within = |n: &str| {
                    let rest = n.strip_prefix(folder).and_then(|r| r.strip_prefix('/'));
                    rest.is_some_and(|r| !r.contains('/') && is_text(r, extension))
                };
                let texts = texts.iter().filter(|(n, _)| within(n));
                texts.map(|(n, t)| SourceFile::new(n.as_str(), t.as_str())).collect()
            }
            Source::Folder(dir) => self.folder(&dir.join(folder), extension),
        };
        list.sort_by(|a, b| a.path.cmp(&b.path));
        list
    }

    fn folder(&mut self, dir: &Path, extension: &str) -> Vec<SourceFile> {
        let paths = folder::texts(dir, extension).unwrap_or_else(|e| {
            self.problems.push(told(&e));
            Vec::new()
        });
        if paths.len() > MAX_FILES {
            self.problems.push(unreadable(&shown(dir), &format!("it holds more than {MAX_FILES} files")));
            return Vec::new();
        }
        paths.iter().filter_map(|p| self.file(p)).collect()
    }

    /// A file, if there is one; what is there and cannot be read is a problem.
    fn file(&mut self, path: &Path) -> Option<SourceFile> {
        read(path).unwrap_or_else(|d| {
            self.problems.push(*d);
            None
        })
    }
}

/// A file of a configuration; `None` = there is none of that name.
///
/// # Errors
/// It is there and cannot be read.
pub(crate) fn read(path: &Path) -> Result<Option<SourceFile>, Box<Diagnostic>> {
    let text = folder::text(path).map_err(|e| {
        let mut d = told(&e);
        // What workflows call that of which they are told when it comes another way.
        let folder = path.parent().and_then(Path::file_name);
        let workflow = folder.is_some_and(|f| f == WORKFLOWS);
        if workflow && matches!(e.why, Why::TooLarge(_)) {
            "WF003".clone_into(&mut d.code);
        }
        Box::new(d)
    })?;
    Ok(text.map(|text| SourceFile::new(shown(path), text)))
}

/// A path as it is told.
pub(super) fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}

/// The problem of something that is there and cannot be read.
pub(super) fn told(Unreadable { path, why }: &Unreadable) -> Diagnostic {
    let mut d = unreadable(&shown(path), &why.to_string());
    if let Why::NotUtf8 { line, column, .. } = why {
        (d.line, d.column) = (*line, *column);
    }
    match why.hint() {
        Some(hint) => d.hint(hint),
        None => d,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_place_or_are_told_where_there_is_one() {
        let good = [
            "capability_matrix.yaml",
            "routing_rules.yaml",
            "matrix.d/own.yml",
            "policies/a.rhai",
            "policies/rules/a.rhai",
            "policies/tests/a.yaml",
            "policies/tests/registries/a.yaml",
            "policies/tenants/acme/rules.yaml",
            "policies/tenants/acme/guard.rhai",
            "workflows/w.yaml",
            "workflows/schemas/s.json",
            "signature.json",
        ];
        assert_eq!(misplaced(good.into_iter()), []);
        let bad = [
            "turnout.yaml",
            "/routing_rules.yaml",
            "../routing_rules.yaml",
            "routing_rule.yaml",
            "workflows/w.rhai",
            "workflows/.yaml",
            "workflows/.w.yaml",
            "workflows/deep/w.yaml",
            "workflows/s.json",
            "workflows/schemas/w.yaml",
            "policies/a",
            "policies/tenants/rules.yaml",
            "policies/tenants/Acme/rules.yaml",
            "policies/tenants/acme/deep/rules.yaml",
            "policies/tenants/acme/rules.json",
            "routing_rules.yaml (built in)",
            "",
        ];
        let found = misplaced(bad.into_iter());
        assert_eq!(found.iter().map(|d| d.file.as_str()).collect::<Vec<_>>(), bad);
        let hint = |i: usize| found[i].hint.clone().unwrap_or_default();
        assert!(
            hint(0).contains("leave the file out") && hint(3).contains("routing_rules.yaml"),
            "{found:?}"
        );
    }

    /// Rules that a broken link hides would be missed by nobody: they are an error, wherever they stand.
    #[test]
    fn what_is_there_and_cannot_be_read_is_an_error() {
        let names = [
            "turnout.yaml",
            "capability_matrix.yaml",
            "routing_rules.yaml",
            "signature.json",
            "matrix.d",
            "matrix.d/own.yaml",
            "policies",
            "policies/guard.rhai",
            "policies/rules",
            "policies/rules/guard.rhai",
            "policies/tests",
            "policies/tests/own.yaml",
            "policies/tests/registries",
            "policies/tests/registries/own.yaml",
            "policies/tenants",
            "policies/tenants/acme/rules.yaml",
            "policies/tenants/acme/guard.rhai",
            "workflows",
            "workflows/own.yml",
            "workflows/schemas",
            "workflows/schemas/own.json",
        ];
        for name in names {
            for broken in ["gone", "round", "folder"] {
                let is_folder = !name.contains('.') || name == "matrix.d";
                if broken == "folder" && is_folder {
                    continue;
                }
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                match broken {
                    "gone" => std::os::unix::fs::symlink("not/there", &path).unwrap(),
                    "round" => std::os::unix::fs::symlink(&path, &path).unwrap(),
                    _ => std::fs::create_dir(&path).unwrap(),
                }
                let source = Source::Folder(folder.path().to_owned());
                let (sources, problems) = source.read();
                let is_told = |d: &Diagnostic| {
                    let told = d.code == "TS007" && d.severity == types::Severity::Error;
                    told && d.file == path.display().to_string()
                };
                assert!(problems.iter().any(is_told), "{name} {broken}: {problems:?}");
                // Gone for good it is absent, and that is no problem.
                if broken == "folder" {
                    std::fs::remove_dir(&path).unwrap();
                } else {
                    std::fs::remove_file(&path).unwrap();
                }
                let (without, problems) = source.read();
                assert_eq!(problems, [], "{name}");
                assert_eq!(without.bundle(), sources.bundle(), "{name}");
            }
        }
    }

    #[test]
    fn a_folder_and_the_same_texts_give_the_same_bundle() {
        let folder = tempfile::tempdir().unwrap();
        let texts = [
            ("routing_rules.yaml", "version: 1\n"),
            ("policies/a.rhai", "1"),
            ("policies/rules/a.rhai", "2"),
            ("policies/tests/a.yaml", "4"),
            ("policies/tests/registries/a.yaml", "5"),
            ("policies/tenants/acme/a.rhai", "6"),
            ("policies/tenants/acme/rules.yaml", "7"),
            ("policies/tenants/other/rules.yaml", "8"),
            ("workflows/w.yaml", "3"),
            ("workflows/schemas/s.json", "{}"),
            ("turnout.yaml", "mode: free\n"),
        ];
        for (path, text) in texts {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let given = Source::Given(texts.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect());
        let (a, problems) = Source::Folder(folder.path().to_owned()).read();
        assert_eq!(problems, []);
        let b = given.read().0;
        assert_eq!(a.bundle(), b.bundle());
        assert_eq!(a.bundle().len(), 11, "with the matrix that is built in, without the settings");
        let written: Vec<String> = a.written().into_keys().collect();
        assert_eq!(
            written,
            [
                "policies/a.rhai",
                "policies/rules/a.rhai",
                "policies/tenants/acme/a.rhai",
                "policies/tenants/acme/rules.yaml",
                "policies/tenants/other/rules.yaml",
                "policies/tests/a.yaml",
                "policies/tests/registries/a.yaml",
                "routing_rules.yaml",
                "workflows/schemas/s.json",
                "workflows/w.yaml"
            ]
        );
        // Read back from its own texts it is the same again.
        let again = a.bundle().into_iter().map(|(p, t)| (p, t.to_string())).collect();
        assert_eq!(Source::Given(again).read().0.bundle(), a.bundle());
        assert_ne!(a.digest(&[]), Source::default().read().0.digest(&[]));
    }
}
