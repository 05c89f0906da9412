//! Which of our providers another gateway means, and how a model of it is called here.

use super::{Fate, Import, Model, Provider, ident, secrets};
use types::matrix::Matrix;

/// What others call a provider, and what it is called in the shipped matrix.
const NAMES: &[(&str, &str)] = &[
    ("openai", "openai"),
    ("text-completion-openai", "openai"),
    ("anthropic", "anthropic"),
    ("gemini", "google"),
    ("google", "google"),
    ("google-ai-studio", "google"),
    ("groq", "groq"),
    ("openrouter", "openrouter"),
    ("together_ai", "together"),
    ("together-ai", "together"),
    ("together", "together"),
    ("mistral", "mistral"),
    ("mistral-ai", "mistral"),
    ("mistralai", "mistral"),
    ("nvidia_nim", "nvidia"),
    ("nvidia", "nvidia"),
    ("cerebras", "cerebras"),
    ("cohere", "cohere"),
    ("cohere_chat", "cohere"),
    ("github", "github"),
    ("huggingface", "huggingface"),
    ("zai", "zai"),
    ("z-ai", "zai"),
    ("deepseek", "deepseek"),
    ("xai", "xai"),
    ("x-ai", "xai"),
    ("fireworks_ai", "fireworks"),
    ("fireworks-ai", "fireworks"),
    ("fireworks", "fireworks"),
    ("ollama", "ollama"),
    ("ollama_chat", "ollama"),
];

/// Providers whose requests need another signature or form than we speak.
const OTHERS: &[&str] = &[
    "vertex_ai",
    "vertex-ai",
    "google-vertex",
    "vertex_ai_beta",
    "bedrock",
    "amazon-bedrock",
    "sagemaker",
    "watsonx",
    "replicate",
    "azure_ai",
    "databricks",
    "snowflake",
    "oci",
];

/// The shipped provider of that name.
pub(super) fn provider(name: &str, shipped: &Matrix) -> Option<&'static str> {
    let name = name.trim().to_ascii_lowercase();
    let found = NAMES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours)?;
    shipped.providers().iter().any(|p| p.id == found).then_some(found)
}

/// The shipped provider that the name of an account such as `openai-prod` begins with.
pub(super) fn of_account(account: &str, shipped: &Matrix) -> Option<&'static str> {
    let account = account.trim_start_matches('@').to_ascii_lowercase();
    let starts = |theirs: &str| {
        account
            .strip_prefix(theirs)
            .is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphanumeric()))
    };
    let best = NAMES.iter().filter(|(theirs, _)| starts(theirs)).max_by_key(|(theirs, _)| theirs.len());
    best.and_then(|(theirs, _)| provider(theirs, shipped))
}

/// Whether requests of a provider need another signature or form than we speak.
pub(super) fn speaks_otherwise(name: &str) -> bool {
    OTHERS.contains(&name.to_ascii_lowercase().as_str())
}

/// Why a provider cannot be called.
pub(super) fn why_not(name: &str) -> String {
    if speaks_otherwise(name) {
        format!(
            "`{name}` asks for a signature or form that Turnout does not speak; use the vendor's OpenAI-compatible address"
        )
    } else {
        format!(
            "the shipped matrix has no provider `{name}`; describe it in matrix.d with its address and dialect"
        )
    }
}

/// A provider of its own at an address: its name.
pub(super) fn at(import: &mut Import, dialect: &'static str, base: &str, place: &str) -> String {
    let (base, less) = secrets::without(base);
    if less {
        let text = "the user, the password or what stood behind `?` in the address is not repeated: what the host asks for is \
                    given as `headers` of the provider, such as `{ authorization: \"Basic ${ENV:NAME}\" }`";
        import.note(format!("{place}.address"), Fate::Changed, text);
    }
    let base = base.trim_end_matches('/').to_owned();
    let same = |p: &Provider| p.own.as_ref().is_some_and(|(d, b)| *d == dialect && *b == base);
    if let Some((id, _)) = import.providers.iter().find(|(_, p)| same(p)) {
        return id.clone();
    }
    let host = base.split("://").nth(1).unwrap_or(&base).split('/').next().unwrap_or("");
    let name = ident(host).replace('_', "-");
    let mut id = name.clone();
    let mut n = 2_u32;
    while import.providers.contains_key(&id) {
        id = format!("{name}-{n}");
        n = n.saturating_add(1);
    }
    let own = Some((dialect, base));
    import.providers.insert(id.clone(), Provider { own, ..Provider::default() });
    id
}

/// A model of a provider, which is written if the shipped matrix does not have it: its id; `None` = it cannot be named
/// here, which is noted.
pub(super) fn model(
    import: &mut Import,
    shipped: &Matrix,
    provider: &str,
    name: &str,
    place: &str,
) -> Option<String> {
    let id = format!("{provider}/{name}");
    if name.is_empty() || !types::options::is_identifier(&id) {
        let text =
            format!("a model of the name {name:?}: names have up to 256 letters, digits and . _ : / @ + -");
        import.note(place, Fate::Left, text);
        return None;
    }
    if !import.models.contains_key(&id) {
        let fresh = shipped.find(&id).is_none();
        import.models.insert(id.clone(), Model { fresh, place: place.to_owned(), ..Model::default() });
    }
    Some(id)
}
