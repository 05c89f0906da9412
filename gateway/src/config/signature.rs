//! Who vouches for a bundle: `signature.json`, a list of its files with their hashes, signed with Ed25519.
//!
//! It is a file of the bundle like any other: it is read, sent and kept with those it vouches for, and is part of what
//! names the bundle.

use super::sources::{SIGNATURE, Sources, Texts};
use crate::signing::{PrivateKey, PublicKey, canonical};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use types::Diagnostic;
use types::doc::{SourceFile, Span};

/// Version of the format.
const VERSION: u64 = 1;
/// Begins what is signed, so that no signature of another kind can stand for one of a bundle.
const DOMAIN: &[u8] = b"turnout-bundle-manifest-v1\0";

/// How a bundle comes to be signed, for people.
const HOW: &str = "sign the finished files with `turnout bundle sign DIR --key FILE`";

/// What `signature.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signature {
    version: u64,
    /// Who signs, in their words.
    pub(crate) author: String,
    /// Why, in their words.
    pub(crate) message: String,
    /// BLAKE3 of every text by its path, in hexadecimal digits.
    pub(crate) files: BTreeMap<String, String>,
    /// The public key, in hexadecimal digits.
    pub(crate) key: String,
    /// Over all the others.
    signature: String,
}

impl Signature {
    /// Signs the texts of a bundle; a signature among them is left out.
    pub(crate) fn over(texts: &Texts, author: &str, message: &str, key: &PrivateKey) -> Signature {
        let mut made = Signature {
            version: VERSION,
            author: author.to_owned(),
            message: message.to_owned(),
            files: hashes(texts),
            key: key.public().to_string(),
            signature: String::new(),
        };
        made.signature = key.sign(&made.signed());
        made
    }

    /// As it stands in the file.
    pub(crate) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        format!("{text}\n")
    }

    /// Reads the text of the file.
    ///
    /// # Errors
    /// What it is not, in words for the operator.
    pub(crate) fn parse(text: &str) -> Result<Signature, String> {
        let read: Signature = serde_json::from_str(text).map_err(|e| format!("it is no signature: {e}"))?;
        match read.version {
            VERSION => Ok(read),
            other => Err(format!("its `version` is {other}; this program reads {VERSION}")),
        }
    }

    /// What is signed.
    fn signed(&self) -> Vec<u8> {
        let Signature { version, author, message, files, key, signature: _ } = self;
        let said =
            json!({ "version": version, "author": author, "message": message, "files": files, "key": key });
        [DOMAIN, canonical(&said).as_bytes()].concat()
    }

    /// Whose it is, of these keys.
    fn by(&self, keys: &[PublicKey]) -> Result<PublicKey, Diagnostic> {
        let named = PublicKey::parse(&self.key);
        let Some(key) = keys.iter().copied().find(|k| named == Some(*k)) else {
            let known: Vec<String> = keys.iter().map(PublicKey::to_string).collect();
            let text = format!("the bundle is signed with the key {}, which does not count here", self.key);
            return Err(problem("TS011", SIGNATURE, text)
                .expected(format!("a key of `bundles.require_signature`: {}", known.join(", "))));
        };
        if key.has_signed(&self.signed(), &self.signature) {
            return Ok(key);
        }
        let text = format!("the signature was not made with the key {key}, or the file was changed since");
        Err(problem("TS011", SIGNATURE, text).hint(HOW))
    }

    /// What is not as it was signed.
    fn differences(&self, texts: &Texts) -> Vec<Diagnostic> {
        let found = hashes(texts);
        let paths: BTreeSet<&String> = self.files.keys().chain(found.keys()).collect();
        let differs = |path: &String| {
            let what = match (self.files.get(path), found.get(path)) {
                (Some(signed), Some(found)) if signed == found => return None,
                (Some(_), Some(_)) => "was changed since the bundle was signed",
                (Some(_), None) => "was signed and is missing",
                (None, _) => "is not among the files that were signed",
            };
            Some(problem("TS012", path, format!("`{path}` {what}")).hint(HOW))
        };
        paths.into_iter().filter_map(differs).collect()
    }
}

fn hashes(texts: &Texts) -> BTreeMap<String, String> {
    let signed = texts.iter().filter(|(path, _)| *path != SIGNATURE);
    signed.map(|(path, text)| (path.clone(), blake3::hash(text.as_bytes()).to_hex().to_string())).collect()
}

fn problem(code: &str, path: &str, message: String) -> Diagnostic {
    let at = Span { line: 1, column: 1, ..Span::default() };
    Diagnostic::error(code, &SourceFile::new(path, ""), at, message)
}

/// Who vouches for a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Their key.
    pub key: PublicKey,
    /// In their words.
    pub author: String,
}

/// Whether one of these keys vouches for every file that was written, and for no other; without keys nobody has to.
///
/// # Errors
/// All that does not hold: a file that was changed, or a signature that is missing, forged or of another key.
pub(crate) fn check(sources: &Sources, keys: &[PublicKey]) -> Result<Option<Signer>, Vec<Diagnostic>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let Some(file) = &sources.signature else {
        let text = "the bundle is not signed, and this server takes up signed ones alone".to_owned();
        return Err(vec![problem("TS010", SIGNATURE, text).hint(HOW)]);
    };
    let read =
        Signature::parse(&file.text).map_err(|why| vec![problem("TS011", SIGNATURE, why).hint(HOW)])?;
    let differences = read.differences(&sources.written());
    match read.by(keys) {
        Ok(key) if differences.is_empty() => Ok(Some(Signer { key, author: read.author })),
        Ok(_) => Err(differences),
        Err(forged) => Err(std::iter::once(forged).chain(differences).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;

    fn key(digit: &str) -> PrivateKey {
        PrivateKey::parse(&digit.repeat(64)).unwrap()
    }

    fn texts(list: &[(&str, &str)]) -> Texts {
        list.iter().map(|(p, t)| ((*p).to_owned(), (*t).into())).collect()
    }

    fn signed(list: &[(&str, &str)], by: &PrivateKey) -> Texts {
        let mut texts = texts(list);
        let signature = Signature::over(&texts, "dana", "why", by).text();
        texts.insert(SIGNATURE.to_owned(), signature.into());
        texts
    }

    /// Codes and files of what does not hold where the keys `a` and `b` count; nothing = it does.
    fn check_found(texts: &Texts, want: &[(&str, &str)]) {
        let source = Source::Given(texts.iter().map(|(p, t)| (p.clone(), t.to_string())).collect());
        let keys = [key("a").public(), key("b").public()];
        let found = check(&source.read().0, &keys);
        let of = |d: &Diagnostic| (d.code.clone(), d.file.clone());
        let got: Vec<_> = found.as_ref().err().into_iter().flatten().map(of).collect();
        let want: Vec<_> = want.iter().map(|(c, f)| ((*c).to_owned(), (*f).to_owned())).collect();
        assert_eq!(got, want, "{found:?}");
    }

    const RULES: (&str, &str) = ("routing_rules.yaml", "version: 1\n");
    const SCRIPT: (&str, &str) = ("policies/a.rhai", "// nothing\n");

    #[test]
    fn a_bundle_holds_as_it_was_signed_and_in_no_other_way() {
        check_found(&texts(&[RULES]), &[("TS010", SIGNATURE)]);
        check_found(&signed(&[RULES, SCRIPT], &key("a")), &[]);
        check_found(&signed(&[RULES, SCRIPT], &key("b")), &[]);
        check_found(&signed(&[RULES], &key("c")), &[("TS011", SIGNATURE)]);
        let mut more = signed(&[RULES], &key("a"));
        more.insert(SCRIPT.0.to_owned(), SCRIPT.1.into());
        check_found(&more, &[("TS012", SCRIPT.0)]);
        let mut fewer = signed(&[RULES, SCRIPT], &key("a"));
        fewer.remove(SCRIPT.0);
        check_found(&fewer, &[("TS012", SCRIPT.0)]);
        // Moved to another path it is another file.
        let mut moved = signed(&[RULES, SCRIPT], &key("a"));
        let text = moved.remove(SCRIPT.0).unwrap();
        moved.insert("policies/b.rhai".to_owned(), text);
        check_found(&moved, &[("TS012", SCRIPT.0), ("TS012", "policies/b.rhai")]);
        assert_eq!(check(&Source::default().read().0, &[]), Ok(None), "nobody has to sign");
    }

    #[test]
    fn one_byte_of_any_file_breaks_it() {
        let whole = signed(&[RULES, SCRIPT], &key("a"));
        for (path, text) in whole.iter().filter(|(path, _)| *path != SIGNATURE) {
            for at in 0..text.len() {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] ^= 1;
                let mut altered = whole.clone();
                altered.insert(path.clone(), String::from_utf8(bytes).unwrap().into());
                check_found(&altered, &[("TS012", path)]);
            }
        }
        let text = whole[SIGNATURE].to_string();
        let own = Signature::parse(&text).unwrap();
        for (what, forged) in [
            ("another author", text.replace("dana", "dane")),
            ("another reason", text.replace("why", "way")),
            ("another key", text.replace(&own.key, &key("b").public().to_string())),
            ("another signature", text.replace(&own.signature, &key("a").sign(b"other"))),
            ("no signature", text.replace(&own.signature, "")),
            ("a member more", text.replacen('{', "{\"x\": 1,", 1)),
            ("another version", text.replace("\"version\": 1", "\"version\": 2")),
            ("no JSON", "signed".to_owned()),
        ] {
            assert_ne!(forged, text, "{what}");
            let mut altered = whole.clone();
            altered.insert(SIGNATURE.to_owned(), forged.into());
            check_found(&altered, &[("TS011", SIGNATURE)]);
        }
        // A hash that is put right for an altered file breaks the signature over the hashes.
        let mut altered = whole.clone();
        altered.insert(RULES.0.to_owned(), "version: 2\n".into());
        let hash = |t: &str| blake3::hash(t.as_bytes()).to_hex().to_string();
        let forged = text.replace(&hash(RULES.1), &hash("version: 2\n"));
        altered.insert(SIGNATURE.to_owned(), forged.into());
        check_found(&altered, &[("TS011", SIGNATURE)]);
    }
}
