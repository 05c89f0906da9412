//! Kinds of values that must not go everywhere, and the seam to whoever finds them in a text.

pub mod escapes;

use serde::{Deserialize, Serialize};
use std::ops::Range;

/// A kind of value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entity {
    /// An e-mail address.
    Email,
    /// A telephone number.
    Phone,
    /// An international bank account number, its checksum right.
    Iban,
    /// A payment card number, its checksum right.
    Card,
    /// A social security number.
    NationalId,
    /// A passport number that is named as one.
    Passport,
    /// A public internet address.
    Ip,
    /// A credential: a key, a token, a password.
    Secret,
    /// The name of somebody who is called by a title, or says what they are called.
    Person,
    /// A date that is said to be one of birth.
    DateOfBirth,
    /// The address of a page.
    Url,
}

impl Entity {
    /// Every kind.
    pub const ALL: [Entity; 11] = [
        Entity::Email,
        Entity::Phone,
        Entity::Iban,
        Entity::Card,
        Entity::NationalId,
        Entity::Passport,
        Entity::Ip,
        Entity::Secret,
        Entity::Person,
        Entity::DateOfBirth,
        Entity::Url,
    ];

    /// The strings of files, variables and metrics, in the order of [`Entity::ALL`].
    pub const NAMES: &'static [&'static str] = &[
        "email",
        "phone",
        "iban",
        "card",
        "national_id",
        "passport",
        "ip",
        "secret",
        "person",
        "date_of_birth",
        "url",
    ];

    /// The string of files, variables and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Entity::Email => "email",
            Entity::Phone => "phone",
            Entity::Iban => "iban",
            Entity::Card => "card",
            Entity::NationalId => "national_id",
            Entity::Passport => "passport",
            Entity::Ip => "ip",
            Entity::Secret => "secret",
            Entity::Person => "person",
            Entity::DateOfBirth => "date_of_birth",
            Entity::Url => "url",
        }
    }

    /// Whether such a value says something of somebody: a credential and the address of a page do not.
    #[must_use]
    pub const fn is_personal(self) -> bool {
        !matches!(self, Entity::Secret | Entity::Url)
    }

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Entity> {
        Entity::ALL.into_iter().find(|e| e.as_str() == name)
    }
}

/// A value found in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What kind.
    pub entity: Entity,
    /// Where, in bytes.
    pub span: Range<usize>,
}

/// Finds values in texts. Pure, and linear in the length of the text.
pub trait Detector: Send + Sync {
    /// The values of the asked-for kinds, in order of their places, none overlapping another. In a text that
    /// grows, one that ends before the end of the text so far, and begins [`Detector::reach`] bytes before it,
    /// does not change any more.
    fn find(&self, text: &str, kinds: &[Entity]) -> Vec<Found>;

    /// How much a text looks like an attempt to take over the model that reads it, 0..=1.
    fn injection(&self, text: &str) -> f64;

    /// Most bytes, from the beginning of a value of these kinds, that decide whether it is one.
    fn reach(&self, kinds: &[Entity]) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_list() {
        assert_eq!(Entity::ALL.map(Entity::as_str).as_slice(), Entity::NAMES);
        for e in Entity::ALL {
            assert_eq!(Entity::parse(e.as_str()), Some(e));
            assert_eq!(serde_json::to_value(e).unwrap(), e.as_str());
        }
    }
}
