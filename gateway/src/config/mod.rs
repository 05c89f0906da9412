//! Configuration: which files there are, what they say together, and every problem of all of them at once.
//!
//! Later outranks earlier: shipped defaults, files, environment, flags. What a crate of the house can be
//! told is checked by that crate; this module finds the texts and puts the results together.

mod away;
pub(crate) mod folder;
mod hollow;
mod registries;
pub mod server;
pub(crate) mod signature;
pub mod sources;
mod strays;
mod told;

use crate::clock;
pub(crate) use away::away;
use engine::{Bundle, Files};
pub use registries::registries;
use server::{PublicKey, Server};
pub use signature::Signer;
pub(crate) use sources::built_in_rules;
pub use sources::{Source, Sources, Texts};
use std::collections::BTreeMap;
use std::sync::Arc;
use types::doc::SourceFile;
use types::matrix::{Dialect, Matrix};
use types::{Diagnostic, Severity, diagnostic};

/// The environment, read once at the start. Holds keys, so it does not print.
#[derive(Clone, Default)]
pub struct Environment(Arc<BTreeMap<String, String>>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables)", self.0.len())
    }
}

impl Environment {
    /// The environment of the process; what is no text is left out.
    #[must_use]
    pub fn of_the_process() -> Self {
        let text = |s: std::ffi::OsString| s.into_string().ok();
        Environment(Arc::new(std::env::vars_os().filter_map(|(k, v)| Some((text(k)?, text(v)?))).collect()))
    }

    /// These variables and no others.
    pub fn of<K: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (K, V)>) -> Self {
        Environment(Arc::new(variables.into_iter().map(|(k, v)| (k.into(), v.into())).collect()))
    }

    /// A variable; an empty one counts as unset.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|v| !v.is_empty()).cloned()
    }

    /// A secret of this program's own, for whoever looks whether it is long enough: an empty one is a mistake, and must
    /// not switch off by accident what it is for.
    #[must_use]
    pub fn secret(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// Only the variables of this program: with them no provider has a key.
    #[must_use]
    pub fn only_ours(&self) -> Self {
        Environment(Arc::new(self.ours().into_iter().collect()))
    }

    fn ours(&self) -> Vec<(String, String)> {
        let ours = self.0.iter().filter(|(k, v)| k.starts_with("TURNOUT_") && !v.is_empty());
        ours.map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

/// What becomes of simulated models.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Simulated {
    /// As the matrix says; the shipped one has them switched off.
    #[default]
    AsWritten,
    /// They are switched on, beside the others.
    Also,
    /// They are switched on, and everything else off.
    Only,
}

impl Simulated {
    /// What is told behind the name of a bundle: it is another one with simulated models than without.
    #[must_use]
    pub const fn told(self) -> &'static str {
        match self {
            Simulated::AsWritten => "",
            Simulated::Also => " with simulated models",
            Simulated::Only => " of simulated models",
        }
    }
}

/// A configuration as it was loaded.
#[derive(Debug)]
pub struct Loaded {
    /// Settings of the server.
    pub server: Server,
    /// What the engine runs on; `None` if anything is an error.
    pub bundle: Option<Bundle>,
    /// Every problem of every file.
    pub problems: Vec<Diagnostic>,
    /// The texts, for excerpts.
    pub texts: Vec<SourceFile>,
    /// The texts that make the bundle, whether or not they are good.
    pub files: Texts,
    /// The paths of those that are built in, for nobody wrote them.
    pub built_in: Vec<String>,
    /// Names those texts.
    pub hash: Arc<str>,
    /// Who vouches for them, where somebody has to.
    pub signer: Option<Signer>,
}

impl Loaded {
    /// Whether nothing is an error.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.bundle.is_some() && !self.problems.iter().any(|d| d.severity == Severity::Error)
    }

    /// The settings, and the names of the rest: nothing is made of it.
    fn unread(
        sources: &Sources,
        mut problems: Vec<Diagnostic>,
        environment: &Environment,
        simulated: Simulated,
    ) -> Loaded {
        let (server, found) = settings(sources, environment);
        problems.extend(found);
        let (files, built_in) = (sources.bundle(), sources.built_in());
        let (texts, hash) = (sources.texts(), hash(&files, simulated));
        Loaded { server, bundle: None, problems, texts, files, built_in, hash, signer: None }
    }

    /// The problems as a person reads them, with excerpts.
    #[must_use]
    pub fn report(&self, colour: bool) -> String {
        report(&self.problems, &self.texts, colour)
    }
}

/// Problems as a person reads them, each with the line it is about.
#[must_use]
pub fn report(problems: &[Diagnostic], texts: &[SourceFile], colour: bool) -> String {
    let text = |d: &Diagnostic| texts.iter().find(|t| t.path == d.file).map(|t| &*t.text);
    let parts: Vec<String> = problems.iter().map(|d| d.render(text(d), colour)).collect();
    parts.join("\n\n")
}

/// Largest bundle, bytes of all its texts.
pub const MAX_BUNDLE_BYTES: usize = 8 << 20;

/// Loads everything of a source.
#[must_use]
pub fn load(source: &Source, environment: &Environment, simulated: Simulated) -> Loaded {
    load_read(source.read(), environment, simulated)
}

/// Loads what was read, with what was wrong in reading it. A test of the policies that fails is an error like any
/// other.
#[must_use]
pub fn load_read(
    read: (Sources, Vec<Diagnostic>),
    environment: &Environment,
    simulated: Simulated,
) -> Loaded {
    let (tests, fleets) = (read.0.tests.clone(), read.0.registries.clone());
    let mut loaded = load_untested(read, environment, simulated);
    let is_error = |d: &Diagnostic| d.severity == Severity::Error;
    let (registries, mut found) = registries(&fleets);
    match loaded.bundle.as_ref().filter(|_| !found.iter().any(is_error)) {
        Some(bundle) => found.extend(bundle.policies().failing(&tests, &registries)),
        // What they say of rules nobody can tell, their shape is wrong all the same.
        None => found.extend(policies::misshapen(&tests)),
    }
    if found.iter().any(is_error) {
        loaded.bundle = None;
    }
    loaded.problems.extend(found);
    loaded
}

/// As [`load_read`], for what is to be served: one of these keys must vouch for it, where there are any. `None` = those
/// of the settings that were read. Of what nobody vouches for nothing but that is told: it is not looked into.
#[must_use]
pub fn load_to_serve(
    read: (Sources, Vec<Diagnostic>),
    environment: &Environment,
    simulated: Simulated,
    keys: Option<&[PublicKey]>,
) -> Loaded {
    let own = keys.is_none().then(|| settings(&read.0, environment).0.bundles.require_signature);
    match signature::check(&read.0, keys.or(own.as_deref()).unwrap_or_default()) {
        Ok(signer) => Loaded { signer, ..load_read(read, environment, simulated) },
        Err(found) => {
            let (sources, problems) = read;
            let mut loaded = Loaded::unread(&sources, problems, environment, simulated);
            loaded.problems.extend(found);
            loaded
        }
    }
}

/// As [`load_read`], with whether those vouch for it whom the settings name: everything, for who is about to sign.
#[must_use]
pub fn load_to_check(
    read: (Sources, Vec<Diagnostic>),
    environment: &Environment,
    simulated: Simulated,
) -> Loaded {
    let sources = read.0.clone();
    let mut loaded = load_read(read, environment, simulated);
    if let Err(found) = signature::check(&sources, &loaded.server.bundles.require_signature) {
        loaded.bundle = None;
        loaded.problems.extend(found);
    }
    loaded
}

/// As [`load_read`], whatever the tests of the policies say: for who runs them.
#[must_use]
pub fn load_untested(
    (sources, problems): (Sources, Vec<Diagnostic>),
    environment: &Environment,
    simulated: Simulated,
) -> Loaded {
    let mut loaded = Loaded::unread(&sources, problems, environment, simulated);
    let (matrix, found) = matrix(&sources.matrix, environment, simulated);
    loaded.problems.extend(found);
    let files = Files {
        rules: sources.rules.clone(),
        defaults: Some(sources::built_in_rules()),
        scripts: sources.scripts.clone(),
        tenants: sources.tenants.clone(),
        workflows: sources.workflows.clone(),
        schemas: sources.schemas.clone(),
        runner: loaded.server.runner.enabled,
        around: Some(Arc::new(Around {
            hosts: loaded.server.tools.clone(),
            environment: environment.clone(),
        })),
        now_ms: Some(clock::unix_ms()),
    };
    let (bundle, found) = Bundle::load(Arc::new(matrix), &files);
    loaded.problems.extend(found);
    let empty = hollow::find(&sources, &loaded.problems);
    loaded.problems.extend(empty);
    let bytes: usize = loaded.files.values().map(|t| t.len()).sum();
    if bytes > MAX_BUNDLE_BYTES {
        let text = format!("all files together hold {bytes} bytes; at most {MAX_BUNDLE_BYTES} are allowed");
        loaded.problems.push(unreadable(&sources.rules.path, &text));
    }
    let broken = loaded.problems.iter().any(|d| d.severity == Severity::Error);
    loaded.bundle = bundle.filter(|_| !broken).map(|b| b.named(loaded.hash.clone()));
    loaded
}

/// What is wrong with the settings that were read.
pub(crate) fn wrong_settings(sources: &Sources, environment: &Environment) -> Vec<Diagnostic> {
    let (_, mut problems) = settings(sources, environment);
    problems.retain(|d| d.severity == Severity::Error);
    problems
}

/// The settings of the server, with what is wrong with them.
fn settings(sources: &Sources, environment: &Environment) -> (Server, Vec<Diagnostic>) {
    let mut server = Server::default();
    let file = sources.settings.as_ref();
    let mut problems = file.map(|file| server::apply_file(&mut server, file)).unwrap_or_default();
    problems.extend(server::apply_environment(&mut server, &environment.ours()));
    problems.extend(told::check(&server, file, environment));
    (server, problems)
}

/// What tools are checked against: the hosts that may be asked, and the environment of their secrets.
#[derive(Debug)]
struct Around {
    hosts: crate::hosts::Config,
    environment: Environment,
}

impl engine::outside::Surroundings for Around {
    fn may_ask(&self, url: &str) -> Result<(), String> {
        self.hosts.check(url).map_err(|e| e.for_tools().to_owned())
    }

    fn has_secret(&self, env: &str) -> bool {
        self.environment.get(env).is_some()
    }
}

/// Names a bundle by its texts: BLAKE3, the first 16 hexadecimal digits.
fn hash(texts: &Texts, simulated: Simulated) -> Arc<str> {
    let mut h = blake3::Hasher::new();
    if simulated != Simulated::AsWritten {
        // The same texts are another configuration then.
        sources::part(&mut h, &format!("{simulated:?}"));
    }
    for (path, text) in texts {
        sources::part(&mut h, path);
        sources::part(&mut h, text);
    }
    h.finalize().to_hex().as_str().get(..16).unwrap_or("").into()
}

/// The matrix, with the simulated fleet switched as asked.
fn matrix(
    files: &[SourceFile],
    environment: &Environment,
    simulated: Simulated,
) -> (Matrix, Vec<Diagnostic>) {
    let env = |name: &str| environment.get(name);
    let (matrix, problems) = providers::matrix::load(files, &env, Some(clock::today()));
    if simulated == Simulated::AsWritten || problems.iter().any(|d| d.severity == Severity::Error) {
        return (matrix, problems);
    }
    let mut overlay = String::from("providers:\n");
    for p in matrix.providers() {
        let on = p.dialect == Dialect::Simulated;
        if on || simulated == Simulated::Only {
            // JSON strings are YAML strings.
            overlay.push_str(&format!("  {}: {{ enabled: {on} }}\n", serde_json::Value::from(p.id.as_str())));
        }
    }
    let mut files = files.to_vec();
    files.push(SourceFile::new("simulated fleet (built in)", overlay));
    providers::matrix::load(&files, &env, Some(clock::today()))
}

/// A problem that has no place in a text: a folder that is missing, a file that cannot be read.
fn unreadable(path: &str, why: &str) -> Diagnostic {
    let file = SourceFile::new(path, "");
    let start = types::doc::Span { line: 1, column: 1, ..types::doc::Span::default() };
    diagnostic::Diagnostic::error("TS007", &file, start, format!("cannot be read: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_in_is_good() {
        let loaded = load(&Source::default(), &Environment::default(), Simulated::AsWritten);
        assert!(loaded.is_good(), "{}", loaded.report(false));
        let matrix = loaded.bundle.as_ref().map(|b| b.matrix().clone()).unwrap();
        assert!(matrix.providers().iter().any(|p| p.enabled));
    }

    #[test]
    fn the_simulated_fleet_is_switched_as_asked() {
        let on = |simulated| {
            let loaded = load(&Source::default(), &Environment::default(), simulated);
            assert!(loaded.is_good(), "{}", loaded.report(false));
            // Nobody can mend a warning of what is built in.
            assert_eq!(loaded.problems, [], "{simulated:?}");
            let matrix = loaded.bundle.as_ref().map(|b| b.matrix().clone()).unwrap();
            let mut on: Vec<bool> = matrix
                .providers()
                .iter()
                .filter(|p| p.enabled)
                .map(|p| p.dialect == Dialect::Simulated)
                .collect();
            on.sort_unstable();
            on.dedup();
            on
        };
        assert_eq!(on(Simulated::AsWritten), [false]);
        assert_eq!(on(Simulated::Also), [false, true]);
        assert_eq!(on(Simulated::Only), [true]);
    }

    #[test]
    fn schemas_in_files_reach_workflows_and_name_the_bundle() {
        let load_with = |schema: &str| {
            let text = "version: 1\nname: own\nnodes:\n  - id: ask\n    type: generate\n    response: \
                        { format: json_schema, schema: \"file:schemas/own.json\" }\noutput: nodes.ask.completion\n";
            let source = Source::Given(vec![
                ("workflows/own.yaml".into(), text.into()),
                ("workflows/schemas/own.json".into(), schema.into()),
            ]);
            load(&source, &Environment::default(), Simulated::AsWritten)
        };
        let (a, b) = (load_with("{\"type\": \"object\"}"), load_with("{\"type\": \"array\"}"));
        assert!(a.is_good() && b.is_good(), "{}", a.report(false));
        assert_ne!(a.hash, b.hash);
        let bad = load_with("{\"type\": 1}");
        assert!(!bad.is_good() && bad.report(false).contains("WF207"), "{}", bad.report(false));
    }

    #[test]
    fn a_shipped_pool_that_is_missed_is_told_as_it_is_shipped() {
        let rules = "version: 1\npools: { mine: { models: [\"groq/*\"] } }\nrules:\n  - { id: a, actions: { prefer: [\"pool:strong\"] } }\n  \
                     - { id: b, actions: { prefer: [\"pool:mien\"] } }\n";
        let source = Source::Given(vec![("routing_rules.yaml".into(), rules.into())]);
        let loaded = load(&source, &Environment::default(), Simulated::AsWritten);
        let hints: Vec<&str> = loaded.problems.iter().filter_map(|d| d.hint.as_deref()).collect();
        let [strong, mien] = hints.as_slice() else { panic!("{hints:?}") };
        assert!(strong.contains("`strong: { where: model.tier == 3 }`"), "{strong}");
        assert!(mien.contains("mine"), "{mien}");
    }

    #[test]
    fn problems_of_all_files_come_at_once_with_their_files() {
        let source = Source::Given(vec![
            ("turnout.yaml".into(), "edge: { heder_timeout: 1s }\n".into()),
            ("routing_rules.yaml".into(), "version: 1\nruels: []\n".into()),
            ("matrix.d/own.yaml".into(), "providers:\n  openai: { teir: paid }\n".into()),
            ("workflows/own.yaml".into(), "version: 1\nname: own\nnodes: 3\n".into()),
            ("policies/own.rhai".into(), "fn (".into()),
            ("policies/tests/own.yaml".into(), "version: 1\ncases: [{ givn: {}, expect: {} }]\n".into()),
        ]);
        let loaded = load(&source, &Environment::default(), Simulated::AsWritten);
        assert!(!loaded.is_good() && loaded.bundle.is_none());
        for file in [
            "turnout.yaml",
            "routing_rules.yaml",
            "matrix.d/own.yaml",
            "workflows/own.yaml",
            "policies/own.rhai",
            "policies/tests/own.yaml",
        ] {
            assert!(
                loaded.problems.iter().any(|d| d.file == file && d.line > 0),
                "{file}\n{}",
                loaded.report(false)
            );
        }
    }

    /// Rules that do not load, a policy that is none, and a test that fails cost nothing, and are not told.
    #[test]
    fn what_nobody_vouches_for_is_not_looked_into() {
        let texts = [
            ("routing_rules.yaml", "version: 1\nruels: []\n"),
            ("policies/own.rhai", "fn ("),
            ("policies/tests/own.yaml", "version: 1\ncases: [{ expect: { denied: true } }]\n"),
        ];
        let read = || Source::Given(texts.map(|(p, t)| (p.to_owned(), t.to_owned())).into()).read();
        let key = signature_key();
        let environment = Environment::default();
        let codes =
            |loaded: &Loaded| -> Vec<String> { loaded.problems.iter().map(|d| d.code.clone()).collect() };
        let served = load_to_serve(read(), &environment, Simulated::AsWritten, Some(&[key]));
        assert_eq!(codes(&served), ["TS010"]);
        assert!(!served.is_good() && !served.hash.is_empty() && served.files.len() == 4);
        // Where nobody has to vouch for it, and for who is about to sign, everything is told.
        let free = load_to_serve(read(), &environment, Simulated::AsWritten, Some(&[]));
        assert_eq!(free.hash, served.hash);
        assert!(codes(&free).iter().any(|c| c.starts_with("PL")), "{:?}", codes(&free));
        let (mut sources, problems) = read();
        let settings = format!("bundles: {{ require_signature: [\"{key}\"] }}\n");
        sources.settings = Some(SourceFile::new("turnout.yaml", settings));
        let unsigned =
            load_to_serve((sources.clone(), problems.clone()), &environment, Simulated::AsWritten, None);
        assert_eq!(codes(&unsigned), ["TS010"]);
        let checked = load_to_check((sources, problems), &environment, Simulated::AsWritten);
        let codes = codes(&checked);
        assert!(
            codes.contains(&"TS010".to_owned()) && codes.iter().any(|c| c.starts_with("PL")),
            "{codes:?}"
        );
    }

    fn signature_key() -> PublicKey {
        crate::signing::PrivateKey::parse(&"a".repeat(64)).unwrap().public()
    }

    #[test]
    fn equal_texts_have_equal_names_and_every_byte_counts() {
        let of = |texts: &[(&str, &str)], simulated| {
            let given = texts.iter().map(|(p, t)| ((*p).to_owned(), (*t).to_owned())).collect();
            load(&Source::Given(given), &Environment::default(), simulated)
        };
        let name = |texts: &[(&str, &str)]| of(texts, Simulated::AsWritten).hash;
        let rules = ("routing_rules.yaml", "version: 1\n");
        let a = of(&[rules], Simulated::AsWritten);
        assert_eq!(a.bundle.as_ref().map(|b| b.hash().clone()), Some(a.hash.clone()));
        assert_eq!(a.hash, name(&[("turnout.yaml", "mode: free\n"), rules]), "settings are no part of it");
        assert_ne!(a.hash, name(&[]));
        assert_ne!(a.hash, name(&[("routing_rules.yaml", "version: 1\n\n")]));
        assert_ne!(a.hash, of(&[rules], Simulated::Also).hash);
        assert_ne!(
            name(&[rules, ("workflows/a.yaml", "x"), ("workflows/b.yaml", "")]),
            name(&[rules, ("workflows/a.yaml", ""), ("workflows/b.yaml", "x")])
        );
    }

    #[test]
    fn keys_do_not_print() {
        let env = Environment::of([("OPENAI_API_KEY", "sk-secret")]);
        assert!(!format!("{env:?}").contains("secret"));
    }
}
