//! Who may put a bundle in force that sends a key, or a value of the environment, elsewhere than before.

use crate::control::actor::{Actor, Need};
use crate::error::Failure;
use engine::Bundle;
use http::StatusCode;
use types::matrix::Provider;

/// Whether who asks may put `next` in the place of `now`: an admin may always. Everybody else only where each
/// provider that is asked over the network is there now, at the same address, with headers and names of keys that it
/// has now: its address and headers may hold values of the environment, and stored keys go by its name. Likewise each
/// tool that takes a variable of the environment along.
///
/// # Errors
/// 403, with the providers and tools that differ.
pub(super) fn may_put(actor: &Actor, now: &Bundle, next: &Bundle) -> Result<(), Failure> {
    if actor.may(Need::Admin).is_ok() {
        return Ok(());
    }
    let known = now.matrix().providers();
    let differs = |p: &&Provider| p.dialect.is_remote() && !known.iter().any(|k| reaches_no_further(p, k));
    let providers = next.matrix().providers().iter().map(AsRef::as_ref).filter(differs).map(|p| &*p.id);
    let names: Vec<String> =
        providers.chain(next.credentials_beyond(now)).map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the bundle has other addresses, headers or keys for {} than the one in force; to put it in force needs the role \
         admin",
        names.join(", ")
    );
    Err(Failure::new(StatusCode::FORBIDDEN, "role_missing", text))
}

fn reaches_no_further(next: &Provider, now: &Provider) -> bool {
    next.id == now.id
        && next.dialect == now.dialect
        && next.base_url == now.base_url
        && next.headers == now.headers
        && next.api_key_env.iter().all(|name| now.api_key_env.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use types::matrix::Dialect;

    fn provider(change: impl FnOnce(&mut Provider)) -> Provider {
        let mut p = Provider::new("p", Dialect::OpenaiChat);
        p.base_url = "https://p.example/v1".to_owned();
        p.api_key_env = vec!["A".to_owned(), "B".to_owned()];
        p.headers = vec![("x-a".to_owned(), "${ENV:A}".to_owned())];
        change(&mut p);
        p
    }

    #[test]
    fn what_may_send_a_secret_elsewhere_is_something_else() {
        let now = provider(|_| {});
        let check = |want: bool, change: fn(&mut Provider)| {
            let next = provider(change);
            assert_eq!(reaches_no_further(&next, &now), want, "{next:?}");
        };
        check(true, |_| {});
        check(true, |p| p.enabled = false);
        check(true, |p| p.api_key_env = vec!["B".to_owned()]);
        check(false, |p| p.api_key_env.push("C".to_owned()));
        check(false, |p| p.base_url = "https://q.example/v1".to_owned());
        check(false, |p| p.headers = vec![("x-a".to_owned(), "${ENV:B}".to_owned())]);
        check(false, |p| p.dialect = Dialect::Gemini);
        check(false, |p| p.id = "q".to_owned());
    }
}
