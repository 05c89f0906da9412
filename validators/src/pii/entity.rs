//! The kinds of personal data that are found by their form, and how.

use super::numbers::{address_v6, digits, iban, iban_length, issued, luhn, public_v4, public_v6, ssn};
use crate::scan::{Rule, before, behind};
use core::net::Ipv4Addr;
use std::ops::Range;

/// A kind of personal data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entity {
    /// An e-mail address.
    Email,
    /// A telephone number in an international, North American or common European form.
    Phone,
    /// A bank account number with its checksum.
    Iban,
    /// A payment card number with its checksum, of a known issuer.
    CreditCard,
    /// A social security number of the United States.
    Ssn,
    /// An address on the internet or within a network.
    Ip,
    /// A passport number that is named as one.
    Passport,
}

/// Which values of a kind count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Those that belong to somebody: what is kept for examples, for fiction or for networks of one's own does not
    /// count. For checks, which would stop answers over nothing otherwise.
    Somebody,
    /// All that have the form. For redaction: what is let through has left the house.
    Anybody,
}

impl Entity {
    /// Every kind, by its name in files.
    pub const ALL: &'static [(&'static str, Entity)] = &[
        ("email", Entity::Email),
        ("phone", Entity::Phone),
        ("iban", Entity::Iban),
        ("credit_card", Entity::CreditCard),
        ("ssn", Entity::Ssn),
        ("ip", Entity::Ip),
        ("passport", Entity::Passport),
    ];

    /// The kind of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(n, _)| *n == name).map(|(_, e)| *e)
    }

    /// Its name in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, e)| *e == self).map_or("", |(n, _)| n)
    }

    /// What it is called in a sentence.
    pub(super) fn words(self) -> &'static str {
        match self {
            Entity::Email => "an e-mail address",
            Entity::Phone => "a telephone number",
            Entity::Iban => "a bank account number",
            Entity::CreditCard => "a payment card number",
            Entity::Ssn => "a social security number",
            Entity::Ip => "an internet address",
            Entity::Passport => "a passport number",
        }
    }

    /// The rules that find it.
    pub(super) fn rules(self, whose: Whose) -> Vec<Rule> {
        let name = self.as_str();
        let all = whose == Whose::Anybody;
        match self {
            Entity::Email => {
                vec![Rule::own(name, &EMAIL.replace('~', LETTERS), if all { any_email } else { email })]
            }
            Entity::Phone => vec![
                Rule::own(name, r"(?:\+|00)[1-9]\d{0,2}(?:[ .\-/]?\(?\d{1,5}\)?){1,6}", international),
                Rule::own(name, r"(?:\(\d{3}\) ?|\d{3}[\-. ])\d{3}[\-. ]\d{4}", move |text, span| {
                    american(text, span, all)
                }),
                Rule::own(
                    name,
                    r"0[1-9](?:[ .\-]\d{2}){4}|0\d{2,4}[ /\-]\d{3,8}(?:[ \-]\d{2,6}){0,3}",
                    national,
                ),
            ],
            Entity::Iban => vec![Rule::own(name, r"[A-Z]{2}\d{2}(?:[ \-]?[A-Z0-9]){11,30}", account)],
            Entity::CreditCard => vec![Rule::own(name, r"[2-6]\d{3}(?:[ \-]?\d){9,15}", card)],
            Entity::Ssn => vec![Rule::own(name, r"\d{3}-\d{2}-\d{4}", move |text, span| {
                let alone = !beside(text, &span, |c| c.is_alphanumeric() || c == '-');
                text.get(span.clone()).filter(|t| alone && (all || ssn(t))).map(|_| span)
            })],
            Entity::Ip if all => vec![
                Rule::own(name, r"\d{1,3}(?:\.\d{1,3}){3}", |text, span| {
                    let within = beside(text, &span, char::is_alphanumeric);
                    let alone = !within && before(text, span.start) != Some('.');
                    text.get(span.clone()).filter(|t| alone && t.parse::<Ipv4Addr>().is_ok()).map(|_| span)
                }),
                Rule::own(name, r"(?:[0-9A-Fa-f]{1,4}|:)(?::[0-9A-Fa-f]{0,4}){1,7}", any_v6),
            ],
            Entity::Ip => vec![
                Rule::own(name, r"\d{1,3}(?:\.\d{1,3}){3}", |text, span| {
                    let alone = !beside(text, &span, |c| c.is_alphanumeric() || matches!(c, '_' | '-'))
                        && before(text, span.start) != Some('.');
                    text.get(span.clone()).filter(|t| alone && public_v4(t)).map(|_| span)
                }),
                Rule::own(name, r"[0-9A-Fa-f]{1,4}(?::[0-9A-Fa-f]{0,4}){2,7}", |text, span| {
                    let alone = !beside(text, &span, |c| c.is_alphanumeric() || c == ':');
                    text.get(span.clone()).filter(|t| alone && public_v6(t)).map(|_| span)
                }),
            ],
            Entity::Passport => vec![Rule::own(name, PASSPORT, passport)],
        }
    }
}

/// An address; `~` stands for letters beyond ASCII, which names and domains may hold (RFC 6531).
const EMAIL: &str = r"[A-Za-z0-9~][A-Za-z0-9~._%+'\-]{0,63}@(?:[A-Za-z0-9~\-]{1,63}\.){1,6}[A-Za-z~]{2,24}";
/// Letters beyond ASCII in few ranges, so that the pattern stays small; what stands between words is left out.
const LETTERS: &str = r"\x{C0}-\x{1FFF}\x{2C00}-\x{2DFF}\x{3041}-\x{D7A3}";

/// The word, what may stand between, and the number.
const PASSPORT: &str = r"(?i:passport|reisepass|passeport|pasaporte|passaporto)(?i:nummer|[ \-](?:number|numéro|número|numero|no\.?|nr\.?|num\.?|n[°º]))?(?i:(?: is| ist| est| es)?)[ :#]{1,3}[A-Z0-9]{6,9}";

/// Whether a character on either side is such.
fn beside(text: &str, span: &Range<usize>, such: impl Fn(char) -> bool) -> bool {
    before(text, span.start).is_some_and(&such) || behind(text, span.end).is_some_and(&such)
}

fn email(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    if beside(text, &span, |c| c.is_alphanumeric() || matches!(c, '_' | '@'))
        || before(text, span.start).is_some_and(|c| matches!(c, '.' | '%' | '+' | '-'))
    {
        return None;
    }
    let (_, domain) = text.get(span.clone())?.rsplit_once('@')?;
    let domain = domain.to_ascii_lowercase();
    let (rest, top) = domain.rsplit_once('.')?;
    // Kept for examples (RFC 2606).
    let example = matches!(top, "example" | "invalid" | "test" | "localhost")
        || matches!(rest.rsplit('.').next(), Some("example")) && matches!(top, "com" | "org" | "net");
    (!example && !is_file(top)).then_some(span)
}

/// The same without a look at whose it is or at what stands around it.
fn any_email(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let (_, top) = text.get(span.clone())?.rsplit_once('.')?;
    (!is_file(&top.to_ascii_lowercase())).then_some(span)
}

/// Whether that is the end of a file's name such as `icon@2x.png`: there is no such domain.
fn is_file(top: &str) -> bool {
    matches!(top, "png" | "jpg" | "jpeg" | "gif" | "svg" | "webp" | "css" | "js" | "ts" | "json")
}

/// An address of the longer form; a colon behind it may be that of a sentence.
fn any_v6(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let run = text.get(span.clone())?;
    let address = run.strip_suffix(':').filter(|rest| !rest.ends_with(':')).unwrap_or(run);
    let part = span.start..span.start.saturating_add(address.len());
    let alone = !before(text, part.start).is_some_and(|c| c.is_alphanumeric() || c == ':')
        && !behind(text, part.end).is_some_and(char::is_alphanumeric);
    (alone && address_v6(address)).then_some(part)
}

/// Whether the match goes on a row of groups of digits, such as those of an account number.
fn in_row(text: &str, span: &Range<usize>) -> bool {
    let mut back = text.get(..span.start).unwrap_or("").chars().rev();
    matches!(back.next(), Some(' ' | '-' | '.')) && back.next().is_some_and(|c| c.is_ascii_digit())
}

fn international(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let number = text.get(span.clone())?;
    let double_zero = number.starts_with("00");
    if beside(text, &span, |c| c.is_ascii_digit() || c == '_')
        || before(text, span.start).is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | ',' | '+' | '-'))
        || double_zero && (in_row(text, &span) || !number.contains([' ', '-', '/', '(']))
    {
        return None;
    }
    let count = digits(number).len().saturating_sub(if double_zero { 2 } else { 0 });
    (8..=15).contains(&count).then_some(span)
}

fn american(text: &str, span: Range<usize>, all: bool) -> Option<Range<usize>> {
    if beside(text, &span, |c| c.is_alphanumeric() || matches!(c, '-' | '_')) {
        return None;
    }
    let d = digits(text.get(span.clone())?);
    let at = |i: usize| d.get(i).copied().unwrap_or(0);
    // Area and exchange begin with 2 to 9; 555-0100 to 555-0199 are kept for fiction.
    let fiction = (at(3), at(4), at(5), at(6), at(7)) == (5, 5, 5, 0, 1);
    (at(0) > 1 && at(3) > 1 && (all || !fiction)).then_some(span)
}

fn national(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let aside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/');
    let inside = beside(text, &span, aside)
        || in_row(text, &span)
        || matches!(before(text, span.start), Some('.' | ','));
    let count = digits(text.get(span.clone())?).len();
    (!inside && (9..=13).contains(&count)).then_some(span)
}

/// The part of a run of letters and digits that is an account number.
fn account(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    if before(text, span.start).is_some_and(char::is_alphanumeric) {
        return None;
    }
    let run = text.get(span.clone())?;
    let length = iban_length(run)?;
    let (last, _) = run.char_indices().filter(|(_, c)| c.is_alphanumeric()).nth(length.checked_sub(1)?)?;
    let part = span.start..span.start.saturating_add(last).saturating_add(1);
    if behind(text, part.end).is_some_and(char::is_alphanumeric) {
        return None;
    }
    let compact: String = text.get(part.clone())?.chars().filter(char::is_ascii_alphanumeric).collect();
    iban(&compact).then_some(part)
}

/// The longest part of a run of digits that is a card number.
fn card(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let fraction = before(text, span.start) == Some('.') && in_row(text, &span);
    if fraction || before(text, span.start).is_some_and(char::is_alphanumeric) {
        return None;
    }
    let run = text.get(span.clone())?;
    let ends = run.char_indices().rev().filter(|(_, c)| c.is_ascii_digit());
    ends.map(|(i, _)| span.start..span.start.saturating_add(i).saturating_add(1)).find(|part| {
        let d = digits(text.get(part.clone()).unwrap_or(""));
        !behind(text, part.end).is_some_and(char::is_alphanumeric) && issued(&d) && luhn(&d)
    })
}

/// The number behind the word; the word itself is told to nobody.
fn passport(text: &str, span: Range<usize>) -> Option<Range<usize>> {
    let whole = text.get(span.clone())?;
    let number = whole.rsplit([' ', ':', '#']).next()?;
    let real = number.chars().filter(char::is_ascii_digit).count() >= 5;
    let start = span.end.saturating_sub(number.len());
    (real && !behind(text, span.end).is_some_and(char::is_alphanumeric)).then_some(start..span.end)
}
