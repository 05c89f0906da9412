//! Identifiers of requests: the client's own where it is well-formed, else a new one ordered by time.

use crate::clock;
use http::{HeaderMap, HeaderName};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use std::cell::RefCell;
use uuid::Uuid;

/// `x-request-id`.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest identifier taken from a client.
const MAX: usize = 128;

thread_local! {
    /// Asking the system for each identifier's chance costs more than everything else about it.
    static CHANCE: RefCell<StdRng> = RefCell::new(StdRng::from_seed(seed()));
}

/// Chance from the system: the last eight bytes of such a UUID hold 62 bits of it.
fn seed() -> [u8; 32] {
    let mut seed = [0; 32];
    for part in seed.chunks_exact_mut(8) {
        let (_, chance) = Uuid::now_v7().as_u64_pair();
        part.copy_from_slice(&chance.to_le_bytes());
    }
    seed
}

/// A new identifier: `req_` and a UUID of version 7 without dashes.
pub(crate) fn fresh() -> String {
    fresh_of("req_")
}

/// A new identifier of another kind of thing: its prefix and such a UUID.
pub(crate) fn fresh_of(prefix: &str) -> String {
    let chance: [u8; 10] = CHANCE.with_borrow_mut(|rng| rng.random());
    let ms = u64::try_from(clock::unix_ms()).unwrap_or(0);
    let id = uuid::Builder::from_unix_timestamp_millis(ms, &chance).into_uuid();
    let mut digits = Uuid::encode_buffer();
    let mut text = String::with_capacity(36);
    text.push_str(prefix);
    text.push_str(id.simple().encode_lower(&mut digits));
    text
}

/// The client's identifier if it gave exactly one of `[A-Za-z0-9._:-]{1,128}`, else a new one.
pub(crate) fn of(headers: &HeaderMap) -> String {
    let mut given = headers.get_all(HEADER).iter();
    match (given.next().and_then(|v| v.to_str().ok()), given.next()) {
        (Some(id), None) if well_formed(id) => id.to_owned(),
        _ => fresh(),
    }
}

fn well_formed(id: &str) -> bool {
    (1..=MAX).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._:-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[&str], kept: bool) {
        let mut headers = HeaderMap::new();
        for g in given {
            headers.append(HEADER, g.parse().unwrap());
        }
        let id = of(&headers);
        assert_eq!(given.contains(&id.as_str()), kept, "{given:?}");
        assert!(well_formed(&id));
    }

    #[test]
    fn only_well_formed_identifiers_are_taken() {
        check(&["abc-1.2_3:4"], true);
        check(&["a/b"], false);
        check(&[], false);
        check(&["a b"], false);
        check(&["a", "a2"], false);
        check(&[""], false);
        check(&["x".repeat(129).as_str()], false);
        assert!(fresh() != fresh() && fresh().len() == 36);
    }
}
