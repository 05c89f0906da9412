//! `secrets`: keys and tokens, recognised by the form their makers give them and by how random they are.

use crate::finding::Note;
use crate::params::{Params, Problem};
use crate::scan::{Hunt, Rule, before, behind};
use crate::{About, Check, Entry, Growing, Input, Kind, Promise};
use serde_json::Value;
use std::ops::Range;
use std::sync::{Arc, LazyLock};
use types::run::Severity;
use types::{ChatRequest, Report};

const NAME: &str = "secrets";

/// Its line in the list.
pub(crate) const ENTRY: Entry = Entry {
    name: NAME,
    about: "no keys and tokens: those of known makers, private keys, and random values that are named as secrets",
    kind: Kind::Semantic,
    stream: "window",
    severity: Severity::Block,
    build,
};

/// A form of keys: its name, its pattern, and the least randomness of what stands behind its fixed beginning,
/// in bits per character. Placeholders such as `sk-xxxxxxxx` and words are below that.
struct Form {
    code: &'static str,
    pattern: &'static str,
    /// Bytes of the fixed beginning.
    fixed: usize,
    least: f64,
}

const fn form(code: &'static str, pattern: &'static str, fixed: usize, least: f64) -> Form {
    Form { code, pattern, fixed, least }
}

const FORMS: &[Form] = &[
    form("private_key", r"-----BEGIN (?:[A-Z]{2,10} ){0,3}PRIVATE KEY(?: BLOCK)?-----", 0, 0.0),
    form("anthropic", r"sk-ant-[A-Za-z0-9_\-]{24,140}", 7, 3.5),
    form("openai", r"sk-(?:proj-|svcacct-|admin-)[A-Za-z0-9_\-]{24,200}", 3, 3.5),
    form("api_key", r"sk-(?:or-v1-|to-)?[A-Za-z0-9_]{32,120}", 3, 3.3),
    form("aws_access_key", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", 4, 2.8),
    form("github", r"gh[pousr]_[A-Za-z0-9]{36,255}", 4, 3.3),
    form("github", r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", 11, 3.5),
    form("gitlab", r"gl(?:pat|ptt|dt|rt|cbt|oas)-[A-Za-z0-9_\-]{20,64}", 6, 3.2),
    form("slack", r"xox[abeoprs]-[A-Za-z0-9\-]{20,250}", 5, 2.8),
    form("slack", r"xapp-\d-[A-Z0-9]{8,14}-\d{8,14}-[a-f0-9]{40,64}", 5, 2.8),
    form(
        "slack_webhook",
        r"hooks\.slack\.com/services/T[A-Z0-9]{6,12}/B[A-Z0-9]{6,12}/[A-Za-z0-9]{24}",
        25,
        3.5,
    ),
    form("discord_webhook", r"discord(?:app)?\.com/api/webhooks/\d{17,20}/[A-Za-z0-9_\-]{60,72}", 25, 3.5),
    form("stripe", r"[rs]k_live_[A-Za-z0-9]{20,120}", 8, 3.3),
    form("stripe_webhook", r"whsec_[A-Za-z0-9+/]{32,64}={0,2}", 6, 3.3),
    form("google_api_key", r"AIza[A-Za-z0-9_\-]{35}", 4, 3.5),
    form("google_oauth", r"GOCSPX-[A-Za-z0-9_\-]{28}", 7, 3.3),
    form("google_oauth", r"ya29\.[A-Za-z0-9_\-]{40,300}", 5, 3.5),
    form("huggingface", r"hf_[A-Za-z0-9]{34,40}", 3, 3.3),
    form("npm", r"npm_[A-Za-z0-9]{36}", 4, 3.3),
    form("pypi", r"pypi-AgE[A-Za-z0-9_\-]{50,300}", 8, 3.5),
    form("groq", r"gsk_[A-Za-z0-9]{48,60}", 4, 3.5),
    form("xai", r"xai-[A-Za-z0-9]{64,90}", 4, 3.5),
    form("perplexity", r"pplx-[A-Za-z0-9]{40,60}", 5, 3.5),
    form("replicate", r"r8_[A-Za-z0-9]{37}", 3, 3.5),
    form("sendgrid", r"SG\.[A-Za-z0-9_\-]{16,32}\.[A-Za-z0-9_\-]{32,64}", 3, 3.5),
    form("mailgun", r"key-[a-f0-9]{32}", 4, 2.8),
    form("twilio", r"SK[a-f0-9]{32}", 2, 2.8),
    form("telegram", r"\d{8,10}:AA[A-Za-z0-9_\-]{33}", 0, 3.5),
    form("digitalocean", r"do[opr]_v1_[a-f0-9]{64}", 7, 2.8),
    form("shopify", r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", 6, 2.8),
    form("vault", r"hv[sbr]\.[A-Za-z0-9_\-]{24,200}", 4, 3.3),
    form("databricks", r"dapi[a-f0-9]{32}", 4, 2.8),
    form("azure_storage", r"AccountKey=[A-Za-z0-9+/]{86}==", 11, 3.5),
    form("age_key", r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", 16, 3.5),
    form("jwt", r"eyJ[A-Za-z0-9_\-]{10,400}\.eyJ[A-Za-z0-9_\-]{10,2000}\.[A-Za-z0-9_\-]{20,700}", 3, 3.5),
    form(
        "password_in_url",
        r"[a-z][a-z0-9+]{1,15}://[A-Za-z0-9._%\-]{1,64}:[^\s/@:'\x22<>$\{\}]{6,100}@[A-Za-z0-9.\-]{1,100}",
        0,
        0.0,
    ),
];

/// A random value that is named as a secret. The word, what joins it to the value, and the value.
const NAMED: &str = r"(?i:api[_\-]?key|secret[_\-]?key|access[_\-]?key|client[_\-]?secret|auth[_\-]?token|access[_\-]?token|private[_\-]?token|secret|password|passwd|bearer)(?:['\x22`]?\s{0,2}[:=]{1,2}\s{0,2}['\x22`]?|\s)[A-Za-z0-9+/_\-]{20,128}";
/// The rules, compiled once.
pub(crate) fn rules() -> &'static [Arc<Rule>] {
    &RULES
}

/// Least randomness of such a value.
const NAMED_LEAST: f64 = 3.8;

static RULES: LazyLock<Arc<[Arc<Rule>]>> = LazyLock::new(|| {
    let forms = FORMS.iter().map(|f| {
        Rule::own(f.code, f.pattern, |text, span| {
            let free = f.code == "private_key" || f.fixed > 20 || alone(text, &span);
            (free && random(text.get(span.clone())?.get(f.fixed..)?, f.least)).then_some(span)
        })
    });
    forms.chain([Rule::own("named_secret", NAMED, named)]).map(Arc::new).collect()
});

/// Whether the match is not part of a longer word.
fn alone(text: &str, span: &Range<usize>) -> bool {
    let joins = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !before(text, span.start).is_some_and(joins) && !behind(text, span.end).is_some_and(joins)
}

/// Whether the value is as random as a secret and no example.
fn random(value: &str, least: f64) -> bool {
    let lower = value.to_ascii_lowercase();
    let example =
        ["example", "xxxx", "your", "placeholder", "changeme", "redacted", "1234567890", "abcdefgh"];
    entropy(value) >= least && !example.iter().any(|e| lower.contains(e))
}

/// The value behind the word; it must mix letters and digits, or it is a sentence or a path.
fn named(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let whole = text.get(span.clone())?;
    let is_value = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '_' | '-');
    let value = whole.rsplit(|c: char| !is_value(c)).next()?;
    let start = span.end.saturating_sub(value.len());
    let mixed = value.chars().any(|c| c.is_ascii_digit())
        && value.chars().any(|c| c.is_ascii_alphabetic())
        && value.chars().filter(|c| matches!(c, '/' | '-' | '_')).count() < 5;
    let ends = !behind(text, span.end).is_some_and(is_value);
    let begins = !before(text, span.start).is_some_and(|c| c.is_ascii_alphanumeric());
    (mixed && ends && begins && random(value, NAMED_LEAST)).then_some(start..span.end)
}

/// Shannon's entropy of the characters, in bits per character.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 128];
    let mut total = 0_u32;
    for b in text.bytes() {
        if let Some(n) = counts.get_mut(usize::from(b & 127)) {
            *n = n.saturating_add(1);
        }
        total = total.saturating_add(1);
    }
    let share = |n: &u32| f64::from(*n) / f64::from(total);
    counts.iter().filter(|n| **n > 0).map(|n| -share(n) * share(n).log2()).sum()
}

#[derive(Debug)]
struct Secrets {
    severity: Severity,
    hunt: Hunt,
}

/// No parameters.
pub(crate) fn build(with: &Value, severity: Severity) -> Result<Arc<dyn Check>, Problem> {
    Params::new(with, &[])?;
    let tell = move |rule: &Rule, span: Range<usize>, _: &str| {
        // The secret itself is told to nobody: findings are recorded and sent to models.
        let message = format!("what looks like a secret occurs (`{}`)", rule.code);
        Note::new(NAME, severity, &rule.code, &message)
            .span(span.start, span.end)
            .hint("name the variable or file that holds the secret instead of the secret")
    };
    let hunt = Hunt { rules: RULES.clone(), tell: Arc::new(tell), max: usize::MAX };
    Ok(Arc::new(Secrets { severity, hunt }))
}

impl Check for Secrets {
    fn about(&self) -> About {
        About::semantic(NAME, self.severity)
    }

    fn promise(&self, _: &ChatRequest) -> Promise {
        self.hunt.promise()
    }

    fn open(&self, _: &ChatRequest) -> Option<Box<dyn Growing>> {
        Some(self.hunt.open())
    }

    fn check(&self, input: &Input<'_>) -> Report {
        self.hunt.report(input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::testing::window;
    use crate::testing::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str, want: &[&str]) {
        assert_eq!(codes(NAME, &Value::Null, &request(json!({})), &answer(text)), want, "{text:?}");
    }

    /// As random as a key, and the same each time. Built here so that no key stands in this file.
    fn filler(alphabet: &str, length: usize) -> String {
        let letters: Vec<char> = alphabet.chars().collect();
        let mut seed = 7_u64;
        let mut draw = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            letters[(seed >> 33) as usize % letters.len()]
        };
        (0..length).map(|_| draw()).collect()
    }

    const WORDS: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const HEX: &str = "0123456789abcdef";

    fn samples() -> Vec<(&'static str, String)> {
        let w = |n| filler(WORDS, n);
        let h = |n| filler(HEX, n);
        vec![
            ("private_key", "-----BEGIN RSA PRIVATE KEY-----".to_owned()),
            ("private_key", "-----BEGIN PRIVATE KEY-----".to_owned()),
            ("anthropic", format!("sk-ant-{}", w(90))),
            ("openai", format!("sk-proj-{}", w(120))),
            ("api_key", format!("sk-{}", w(48))),
            ("aws_access_key", format!("AKIA{}", filler("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16))),
            ("github", format!("ghp_{}", w(36))),
            ("github", format!("github_pat_{}_{}", w(22), w(59))),
            ("gitlab", format!("glpat-{}", w(20))),
            ("slack", format!("xoxb-{}", w(50))),
            ("stripe", format!("sk_live_{}", w(24))),
            ("google_api_key", format!("AIza{}", w(35))),
            ("huggingface", format!("hf_{}", w(34))),
            ("npm", format!("npm_{}", w(36))),
            ("groq", format!("gsk_{}", w(52))),
            ("sendgrid", format!("SG.{}.{}", w(22), w(43))),
            ("twilio", format!("SK{}", h(32))),
            ("telegram", format!("123456789:AA{}", w(33))),
            ("digitalocean", format!("dop_v1_{}", h(64))),
            ("azure_storage", format!("AccountKey={}==", w(86))),
            ("jwt", format!("eyJ{}.eyJ{}.{}", w(33), w(80), w(43))),
            ("named_secret", format!("api_key = \"{}\"", w(40))),
            ("named_secret", format!("Authorization: Bearer {}", w(40))),
            ("password_in_url", "postgres://app:hunter2secret@db.internal/x".to_owned()),
        ]
    }

    #[test]
    fn the_rules_compile_and_their_matches_are_bounded() {
        assert_eq!(RULES.len(), FORMS.len() + 1);
        for rule in RULES.iter() {
            assert!(rule.longest < 4096, "{}: {}", rule.code, rule.longest);
        }
    }

    #[test]
    fn secrets_of_known_forms_are_found() {
        for (code, secret) in samples() {
            check(&secret, &[code]);
            check(&format!("Use `{secret}` here."), &[code]);
        }
    }

    #[test]
    fn what_is_no_secret_passes() {
        let hash = filler(HEX, 64);
        for text in [
            "",
            "Set OPENAI_API_KEY=sk-xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "sk-your-key-goes-here-and-nowhere-else-ok",
            "AKIAIOSFODNN7EXAMPLE",
            "export TOKEN=$GITHUB_TOKEN",
            "api_key = os.environ[\"SERVICE_API_KEY_FOR_PRODUCTION\"]",
            "password: correct-horse-battery-staple-and-more",
            "commit 3f2a9c4e5d6b7a8091c2d3e4f5a6b7c8d9e0f1a2",
            "f47ac10b-58cc-4372-a567-0e02b2c3d479",
            "-----BEGIN PUBLIC KEY-----",
            "https://example.com/path?x=1 and postgres://localhost/db",
            "the secret ingredient_is_a_very_long_snake_case_name1",
            &format!("sha256:{hash}"),
        ] {
            check(text, &[]);
        }
    }

    #[test]
    fn findings_never_quote_the_secret() {
        let r = request(json!({}));
        for (_, secret) in samples() {
            let c = answer(&secret);
            let report = crate::build(NAME, &Value::Null, None).unwrap().check(&Input::new(&c, &r));
            let tail = &secret[secret.len() - 12..];
            assert!(!serde_json::to_string(&report).unwrap().contains(tail), "{report:?}");
        }
        assert!(refused(NAME, &json!({"x": 1})).expected.contains("takes none"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        #[test]
        fn no_byte_of_a_secret_is_released(
            parts in proptest::collection::vec((0_usize..40, "[a-zA-Z0-9 é.=_-]{0,12}"), 0..4),
            pieces in proptest::collection::vec(1_usize..60, 1..6),
        ) {
            let samples = samples();
            let text: String = parts
                .iter()
                .map(|(i, between)| format!("{between}{}", samples.get(*i).map_or("", |(_, s)| s)))
                .collect();
            window(&crate::build(NAME, &Value::Null, None).unwrap(), &text, &pieces);
        }
    }
}
