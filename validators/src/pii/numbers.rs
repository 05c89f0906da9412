//! Numbers that tell by a checksum or by their blocks whether they are real.

use core::net::{Ipv4Addr, Ipv6Addr};

/// Digits of a text.
pub(super) fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

/// The checksum of payment cards (Luhn, ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u32]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(i, d)| match (i % 2, d.saturating_mul(2)) {
            (0, _) => *d,
            (_, twice) if twice > 9 => twice.saturating_sub(9),
            (_, twice) => twice,
        })
        .fold(0, u32::saturating_add);
    sum.is_multiple_of(10)
}

/// Whether an issuer of cards uses that beginning with that many digits.
pub(super) fn issued(digits: &[u32]) -> bool {
    let start = |n: usize| digits.iter().take(n).fold(0_u32, |v, d| v.saturating_mul(10).saturating_add(*d));
    let length = digits.len();
    match (start(1), start(2), start(4)) {
        (4, ..) => matches!(length, 13 | 16 | 19),
        (_, 51..=55, _) | (_, _, 2221..=2720) => length == 16,
        (_, 34 | 37, _) => length == 15,
        (_, 30 | 36 | 38 | 39, _) => length == 14,
        (_, 35 | 62 | 64 | 65, _) | (_, _, 6011) => (16..=19).contains(&length),
        _ => false,
    }
}

/// Lengths of account numbers per country (ISO 13616, registry of 2024).
const IBAN: &[(&str, usize)] = &[
    ("AD", 24),
    ("AE", 23),
    ("AL", 28),
    ("AT", 20),
    ("AZ", 28),
    ("BA", 20),
    ("BE", 16),
    ("BG", 22),
    ("BH", 22),
    ("BI", 27),
    ("BR", 29),
    ("BY", 28),
    ("CH", 21),
    ("CR", 22),
    ("CY", 28),
    ("CZ", 24),
    ("DE", 22),
    ("DJ", 27),
    ("DK", 18),
    ("DO", 28),
    ("EE", 20),
    ("EG", 29),
    ("ES", 24),
    ("FI", 18),
    ("FK", 18),
    ("FO", 18),
    ("FR", 27),
    ("GB", 22),
    ("GE", 22),
    ("GI", 23),
    ("GL", 18),
    ("GR", 27),
    ("GT", 28),
    ("HR", 21),
    ("HU", 28),
    ("IE", 22),
    ("IL", 23),
    ("IQ", 23),
    ("IS", 26),
    ("IT", 27),
    ("JO", 30),
    ("KW", 30),
    ("KZ", 20),
    ("LB", 28),
    ("LC", 32),
    ("LI", 21),
    ("LT", 20),
    ("LU", 20),
    ("LV", 21),
    ("LY", 25),
    ("MC", 27),
    ("MD", 24),
    ("ME", 22),
    ("MK", 19),
    ("MN", 20),
    ("MR", 27),
    ("MT", 31),
    ("MU", 30),
    ("NI", 28),
    ("NL", 18),
    ("NO", 15),
    ("OM", 23),
    ("PK", 24),
    ("PL", 28),
    ("PS", 29),
    ("PT", 25),
    ("QA", 29),
    ("RO", 24),
    ("RS", 22),
    ("RU", 33),
    ("SA", 24),
    ("SC", 31),
    ("SD", 18),
    ("SE", 24),
    ("SI", 19),
    ("SK", 24),
    ("SM", 27),
    ("SO", 23),
    ("ST", 25),
    ("SV", 28),
    ("TL", 23),
    ("TN", 24),
    ("TR", 26),
    ("UA", 29),
    ("VA", 22),
    ("VG", 24),
    ("XK", 20),
    ("YE", 30),
];

/// Characters that an account number beginning so has.
pub(super) fn iban_length(text: &str) -> Option<usize> {
    let country = text.get(..2)?;
    IBAN.iter().find(|(c, _)| *c == country).map(|(_, n)| *n)
}

/// The checksum of account numbers (ISO 7064, mod 97-10), without spaces.
pub(super) fn iban(compact: &str) -> bool {
    let (head, rest) = compact.split_at_checked(4).unwrap_or(("", ""));
    let value = |c: char| c.to_digit(36);
    let remainder = rest.chars().chain(head.chars()).try_fold(0_u32, |r, c| {
        let v = value(c)?;
        let step = if v > 9 { 100 } else { 10 };
        Some(r.saturating_mul(step).saturating_add(v) % 97)
    });
    remainder == Some(1)
}

/// Whether the social security number can have been issued in the United States.
pub(super) fn ssn(text: &str) -> bool {
    let mut parts = text.split('-').map(|p| p.parse::<u32>().unwrap_or(0));
    let (area, group, serial) = (parts.next(), parts.next(), parts.next());
    // These two stood on sample cards and in advertisements.
    let sample = matches!(text, "078-05-1120" | "219-09-9999");
    !matches!(area, Some(0 | 666 | 900..)) && group != Some(0) && serial != Some(0) && !sample
}

/// Whether the address leads to somebody: public, and none that is kept for examples.
pub(super) fn public_v4(text: &str) -> bool {
    let Ok(ip) = text.parse::<Ipv4Addr>() else { return false };
    let [a, b, ..] = ip.octets();
    let shared = a == 100 && (64..128).contains(&b);
    let reserved = a == 0 || a >= 224 || ip.octets() == [8, 8, 8, 8] || ip.octets() == [1, 1, 1, 1];
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_documentation()
        || shared
        || reserved)
}

/// The same for the longer addresses: global unicast, outside the block for examples.
pub(super) fn public_v6(text: &str) -> bool {
    let Ok(ip) = text.parse::<Ipv6Addr>() else { return false };
    let [a, b, ..] = ip.segments();
    a & 0xe000 == 0x2000 && (a, b) != (0x2001, 0xdb8)
}

/// Whether it is an address of the longer form, of whatever network; `::` alone stands in too many other texts.
pub(super) fn address_v6(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_ok_and(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_tell_real_numbers() {
        for good in
            ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904"]
        {
            let d = digits(good);
            assert!(luhn(&d) && issued(&d), "{good}");
        }
        for bad in ["4111111111111112", "1234567812345678", "9999999999999995"] {
            let d = digits(bad);
            assert!(!(luhn(&d) && issued(&d)), "{bad}");
        }
        for good in [
            "DE89370400440532013000",
            "GB29NWBK60161331926819",
            "FR1420041010050500013M02606",
            "NO9386011117947",
        ] {
            assert!(iban(good) && iban_length(good) == Some(good.len()), "{good}");
        }
        assert!(!iban("DE89370400440532013001") && !iban("") && !iban("DE"));
    }

    #[test]
    fn blocks_tell_numbers_that_belong_to_somebody() {
        for (text, want) in [
            ("123-45-6789", true),
            ("000-12-3456", false),
            ("666-12-3456", false),
            ("912-34-5678", false),
            ("123-00-4567", false),
            ("078-05-1120", false),
        ] {
            assert_eq!(ssn(text), want, "{text}");
        }
        for (text, want) in [
            ("93.184.216.34", true),
            ("192.168.1.1", false),
            ("127.0.0.1", false),
            ("203.0.113.7", false),
            ("256.1.1.1", false),
            ("100.64.0.1", false),
            ("255.255.255.0", false),
        ] {
            assert_eq!(public_v4(text), want, "{text}");
        }
        for (text, want) in [
            ("2a00:1450:4001:81b::200e", true),
            ("2001:db8::1", false),
            ("::1", false),
            ("fe80::1", false),
            ("12:30:45", false),
        ] {
            assert_eq!(public_v6(text), want, "{text}");
        }
    }
}
