//! Lines and seals of the audit trail, and what makes them a chain.

use crate::signing::{canonical, unhex};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use types::encoding::hex;

/// Version of the format.
const VERSION: u64 = 1;

/// A link of the chain.
pub(crate) type Hash = [u8; 32];

/// Where the chain of an instance begins.
pub(crate) fn genesis(instance: &str) -> Hash {
    digest(b"turnout-audit-genesis-v1", &[instance.as_bytes()])
}

fn digest(domain: &[u8], parts: &[&[u8]]) -> Hash {
    let mut h = Sha256::new();
    h.update(domain);
    h.update([0]);
    parts.iter().for_each(|p| h.update(p));
    h.finalize().into()
}

/// Completes a line: its place in the chain and its hash. Gives the text and the hash.
pub(crate) fn chained(mut members: Map<String, Value>, chain: &str, seq: u64, prev: &Hash) -> (String, Hash) {
    members.insert("v".to_owned(), VERSION.into());
    members.insert("chain".to_owned(), chain.into());
    members.insert("seq".to_owned(), seq.into());
    members.insert("prev".to_owned(), hex(prev).into());
    let mut line = Value::Object(members);
    let hash = hash(&line, prev);
    if let Some(members) = line.as_object_mut() {
        members.insert("hash".to_owned(), hex(&hash).into());
    }
    (canonical(&line), hash)
}

fn hash(line_without_hash: &Value, prev: &Hash) -> Hash {
    digest(b"turnout-audit-line-v1", &[prev, canonical(line_without_hash).as_bytes()])
}

/// Checks a line that was read: gives its hash.
///
/// # Errors
/// What does not hold.
pub(crate) fn check(line: &Value, chain: &str, seq: u64, prev: &Hash) -> Result<Hash, String> {
    let mut bare = line.clone();
    let Some(said) = bare.as_object_mut().and_then(|m| m.remove("hash")) else {
        return Err("it has no `hash`".to_owned());
    };
    if line.get("v") != Some(&VERSION.into()) || line.get("chain").and_then(Value::as_str) != Some(chain) {
        return Err(format!("it is no line of version {VERSION} of the chain `{chain}`"));
    }
    if line.get("seq") != Some(&seq.into()) {
        return Err(format!("its number is {}, expected {seq}", line.get("seq").unwrap_or(&Value::Null)));
    }
    if line.get("prev").and_then(Value::as_str) != Some(&hex(prev)) {
        return Err("it does not follow the line before it".to_owned());
    }
    let found = hash(&bare, prev);
    if said.as_str() == Some(&hex(&found)) {
        Ok(found)
    } else {
        Err("its hash is not that of what it says".to_owned())
    }
}

/// What a seal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// The last line it covers.
    pub(crate) seq: u64,
    pub(crate) hash: Hash,
    /// Lines since the seal before.
    pub(crate) count: u64,
    /// Hash of the seal before; of nothing for the first.
    pub(crate) prev: Hash,
}

impl Sealed {
    /// What a seal says that it stands for; `None` = it says nothing of the kind. Whether that holds is for
    /// [`Sealed::verify`] to say.
    pub(crate) fn of(seal: &Value) -> Option<Sealed> {
        let number = |name: &str| seal.get(name)?.as_u64();
        let hash = |name: &str| Hash::try_from(unhex(seal.get(name)?.as_str()?)?).ok();
        Some(Sealed {
            seq: number("seq")?,
            hash: hash("hash")?,
            count: number("count")?,
            prev: hash("prev_seal")?,
        })
    }

    fn message(&self, chain: &str) -> Vec<u8> {
        let mut m = b"turnout-audit-seal-v1\0".to_vec();
        m.extend(chain.as_bytes());
        m.extend(self.seq.to_be_bytes());
        m.extend(self.hash);
        m.extend(self.prev);
        m
    }

    /// The text of the seal, and its hash for the next one.
    pub(crate) fn sign(&self, chain: &str, key: &Ed25519KeyPair) -> (String, Hash) {
        let sig = key.sign(&self.message(chain));
        let text = self.text(chain, &key_id(key.public_key().as_ref()), &hex(sig.as_ref()));
        let hash = seal_hash(&text);
        (text, hash)
    }

    fn text(&self, chain: &str, key: &str, sig: &str) -> String {
        canonical(&json!({
            "v": VERSION, "type": "seal", "chain": chain, "seq": self.seq, "hash": hex(&self.hash),
            "count": self.count, "prev_seal": hex(&self.prev), "key": key, "sig": sig,
        }))
    }

    /// Checks a seal that was read against what it should cover: gives its hash.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn verify(&self, chain: &str, seal: &Value, public: &[u8]) -> Result<Hash, String> {
        let sig = seal.get("sig").and_then(Value::as_str).unwrap_or("");
        let expected = self.text(chain, &key_id(public), sig);
        if canonical(seal) != expected {
            return Err("the seal does not cover the lines before it, or names another key".to_owned());
        }
        let sig = unhex(sig).ok_or("the signature is no hexadecimal text")?;
        UnparsedPublicKey::new(&ED25519, public)
            .verify(&self.message(chain), &sig)
            .map_err(|_| "the signature is not of this key".to_owned())?;
        Ok(seal_hash(&expected))
    }
}

pub(crate) fn seal_hash(text: &str) -> Hash {
    digest(b"turnout-audit-seal-v1", &[text.as_bytes()])
}

/// Names a public key in seals.
pub(crate) fn key_id(public: &[u8]) -> String {
    hex(&Sha256::digest(public)).chars().take(16).collect()
}
