//! The text of a virtual key: `sk-to-` + public id + `_` + 256 random bits + checksum.
//!
//! The checksum tells a mistyped key from an unknown one without asking anybody, and lets scanners of leaked
//! secrets recognise one of ours.

use super::secret::{Secret, random};
use std::io;

const PREFIX: &str = "sk-to-";
const ID: usize = 12;
const RANDOM: usize = 43;
const CHECK: usize = 6;
/// Letters and digits: safe in headers, shells and file names.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A key just made. The text is shown once and kept nowhere.
pub(crate) struct Minted {
    pub(crate) id: String,
    pub(crate) text: String,
    pub(crate) hash: [u8; 32],
}

impl Minted {
    /// # Errors
    /// The system has no entropy.
    pub(crate) fn new(pepper: &Secret) -> io::Result<Minted> {
        let id = letters::<ID>()?.to_ascii_lowercase();
        let body = format!("{PREFIX}{id}_{}", letters::<RANDOM>()?);
        let text = format!("{body}{}", checksum(&body));
        let hash = *pepper.hash(&text).as_bytes();
        Ok(Minted { id, text, hash })
    }
}

/// The public id of a key's text, if the text is whole.
pub(crate) fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let shape = id.len() == ID && secret.len() == RANDOM + CHECK;
    let plain = id.bytes().chain(secret.bytes()).all(|b| b.is_ascii_alphanumeric());
    let (body, check) = text.split_at_checked(text.len().checked_sub(CHECK)?)?;
    (shape && plain && checksum(body) == check).then_some(id)
}

fn checksum(body: &str) -> String {
    let hash = blake3::derive_key("turnout 2026 key checksum", body.as_bytes());
    hash.iter().take(CHECK).filter_map(|b| letter(*b)).collect()
}

fn letter(byte: u8) -> Option<char> {
    ALPHABET.get(usize::from(byte) % ALPHABET.len()).map(|b| char::from(*b))
}

/// Random letters without a bias: bytes above the last whole multiple of the alphabet are drawn again.
fn letters<const N: usize>() -> io::Result<String> {
    let mut text = String::with_capacity(N);
    while text.len() < N {
        for byte in random::<64>()?.into_iter().filter(|b| *b < 248) {
            if text.len() < N {
                text.extend(letter(byte));
            }
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_are_whole_or_refused() {
        let pepper = Secret::of_text(&"p".repeat(32)).unwrap();
        let key = Minted::new(&pepper).unwrap();
        assert_eq!(key.text.len(), PREFIX.len() + ID + 1 + RANDOM + CHECK);
        assert_eq!(id_of(&key.text), Some(key.id.as_str()));
        assert_eq!(*pepper.hash(&key.text).as_bytes(), key.hash);
        assert_ne!(Minted::new(&pepper).unwrap().text, key.text);
        for at in 0..key.text.len() {
            let mut wrong = key.text.clone().into_bytes();
            wrong[at] = if wrong[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(id_of(&String::from_utf8(wrong).unwrap()), None, "byte {at}");
        }
        for wrong in ["", "sk-to-", "sk-to-_", "sk-abc", &key.text[1..], &format!("{}x", key.text)] {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
        for wrong in include_str!("../../corpus/keys.txt").lines() {
            assert_eq!(id_of(wrong), None, "{wrong}");
        }
    }

    proptest! {
        /// A key that was cut, put together with another one or written over is none, unless nothing came of it.
        #[test]
        fn what_is_made_of_keys_is_none(
            from in 0_usize..80, to in 0_usize..80, at in 0_usize..80, with in "[ -~é😀\u{0}]{0,12}", other in any::<bool>(),
        ) {
            let pepper = Secret::of_text(&"p".repeat(32)).unwrap();
            let (key, second) = (Minted::new(&pepper).unwrap().text, Minted::new(&pepper).unwrap().text);
            let (from, to) = (from.min(to).min(key.len()), from.max(to).min(key.len()));
            let piece = if other { second.get(from..to).unwrap_or_default() } else { with.as_str() };
            let mut text = key.clone();
            text.replace_range(from..to, piece);
            text.insert_str(at.min(text.len()).min(from), if other { with.as_str() } else { "" });
            prop_assert_eq!(id_of(&text).is_some(), text == key || text == second, "{}", text);
        }

        #[test]
        fn no_text_makes_the_reading_of_keys_fall(text in "(sk-to-)?.{0,80}") {
            prop_assert_eq!(id_of(&text), None);
        }
    }
}
