//! Signatures: the keys of those that are made by hand, what signatures are made over, and how both are written.

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde_json::Value;
use std::fmt;
use types::encoding::hex;
use zeroize::Zeroizing;

/// Bytes of a key, public or private.
const KEY: usize = 32;

/// A public key of Ed25519, written as 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey([u8; KEY]);

impl PublicKey {
    /// Reads a key as it is written; `None` = it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<PublicKey> {
        unhex(&text.trim().to_ascii_lowercase())?.try_into().ok().map(PublicKey)
    }

    /// Whether the signature, in hexadecimal digits, was made over the message with the private half.
    pub(crate) fn has_signed(self, message: &[u8], signature: &str) -> bool {
        let signature = unhex(signature);
        signature.is_some_and(|s| UnparsedPublicKey::new(&ED25519, self.0).verify(message, &s).is_ok())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A private key of Ed25519. It does not print.
pub(crate) struct PrivateKey(Ed25519KeyPair);

impl PrivateKey {
    /// Reads a key as [`PrivateKey::text_of`] writes it; `None` = it is none.
    pub(crate) fn parse(text: &str) -> Option<PrivateKey> {
        let seed = Zeroizing::new(unhex(text.trim())?);
        Ed25519KeyPair::from_seed_unchecked(&seed).ok().map(PrivateKey)
    }

    /// A seed as a file holds it: the 32 bytes that RFC 8032 calls the private key, in hexadecimal digits.
    pub(crate) fn text_of(seed: &[u8; KEY]) -> Zeroizing<String> {
        Zeroizing::new(hex(seed))
    }

    /// The half that may be told to everybody.
    pub(crate) fn public(&self) -> PublicKey {
        let mut bytes = [0; KEY];
        bytes.iter_mut().zip(self.0.public_key().as_ref()).for_each(|(b, own)| *b = *own);
        PublicKey(bytes)
    }

    /// A signature in hexadecimal digits.
    pub(crate) fn sign(&self, message: &[u8]) -> String {
        hex(self.0.sign(message).as_ref())
    }
}

/// RFC 8785 for what is signed here: strings, integers, booleans, null, and objects and lists of them.
pub(crate) fn canonical(value: &Value) -> String {
    let mut text = String::new();
    write(value, &mut text);
    text
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            text.push('{');
            for (i, (name, v)) in sorted.into_iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push(':');
                write(v, text);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (i, v) in items.iter().enumerate() {
                if i > 0 {
                    text.push(',');
                }
                write(v, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// The bytes of hexadecimal text in lower case; `None` = it is none.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(text.get(i..i.checked_add(2)?)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first test of RFC 8032 §7.1.
    #[test]
    fn a_key_signs_as_the_standard_says() {
        let key =
            PrivateKey::parse("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60\n").unwrap();
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        assert_eq!(PublicKey::parse(&public.to_ascii_uppercase()), Some(key.public()));
        let signature = key.sign(b"");
        assert!(signature.starts_with("e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"));
        assert!(key.public().has_signed(b"", &signature) && !key.public().has_signed(b"x", &signature));
        assert!(!key.public().has_signed(b"", "no digits") && !key.public().has_signed(b"", ""));
        for text in ["", "d75a", "zz", &format!("{public}00")] {
            assert!(PublicKey::parse(text).is_none() && PrivateKey::parse(text).is_none(), "{text}");
        }
    }
}
