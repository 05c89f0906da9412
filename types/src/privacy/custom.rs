//! The names of kinds of values that an operator describes by patterns.

use std::fmt;

/// What such a name begins with in files.
pub const PREFIX: &str = "custom:";
/// Longest name, in bytes, without [`PREFIX`].
pub const MAX_NAME: usize = 24;

/// The name of such a kind: a small letter, then small letters, digits and `_`, at most [`MAX_NAME`] of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Custom {
    /// With [`PREFIX`], filled up with zeros: so equal names are equal, and no kind needs an allocation.
    text: [u8; PREFIX.len() + MAX_NAME],
}

impl Custom {
    /// The kind of that name, given without [`PREFIX`]; `None` where it cannot be one.
    #[must_use]
    pub fn new(name: &str) -> Option<Custom> {
        let letter = |b: u8| b.is_ascii_lowercase();
        let plain = |b: u8| letter(b) || b.is_ascii_digit() || b == b'_';
        if name.len() > MAX_NAME || !name.bytes().next().is_some_and(letter) || !name.bytes().all(plain) {
            return None;
        }
        let mut text = [0; PREFIX.len() + MAX_NAME];
        text.iter_mut().zip(PREFIX.bytes().chain(name.bytes())).for_each(|(to, from)| *to = from);
        Some(Custom { text })
    }

    /// With [`PREFIX`], as files name it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let end = self.text.iter().position(|b| *b == 0).unwrap_or(self.text.len());
        self.text.get(..end).and_then(|t| std::str::from_utf8(t).ok()).unwrap_or(PREFIX)
    }

    /// Without [`PREFIX`].
    #[must_use]
    pub fn name(&self) -> &str {
        self.as_str().strip_prefix(PREFIX).unwrap_or("")
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_short() {
        let longest = "a".repeat(MAX_NAME);
        for name in ["badge", "staff_no2", &longest] {
            let custom = Custom::new(name).unwrap();
            assert_eq!((custom.name(), custom.as_str()), (name, &*format!("custom:{name}")));
        }
        for wrong in ["", "Badge", "2nd", "_a", "a-b", "ä", &format!("{longest}a")] {
            assert_eq!(Custom::new(wrong), None, "{wrong}");
        }
    }
}
