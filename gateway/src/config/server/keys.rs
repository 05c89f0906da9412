//! Every key of the settings, its place, and the range that it may have.

use super::{KIB, MIB, Net, Origin, PublicKey, Server, secs};
use crate::control::tripwire::TripwireAction;
use std::ops::RangeInclusive;
use std::time::Duration;
use types::options::Mode;

/// The place of a key's value, with what it may be.
pub(super) enum Slot<'a> {
    Time(&'a mut Duration, RangeInclusive<Duration>),
    Bytes(&'a mut usize, RangeInclusive<usize>),
    Count(&'a mut usize, RangeInclusive<usize>),
    Whole(&'a mut u32, RangeInclusive<u32>),
    Share(&'a mut f64),
    Dollars(&'a mut f64, RangeInclusive<f64>),
    Flag(&'a mut bool),
    Seed(&'a mut Option<u64>),
    Mode(&'a mut Mode),
    Tripwire(&'a mut TripwireAction),
    /// Where to listen.
    Address(&'a mut Option<String>),
    /// Likewise, on this machine alone, or nowhere.
    Loopback(&'a mut Option<String>),
    Text(&'a mut Option<String>),
    Texts(&'a mut Vec<String>),
    Headers(&'a mut Vec<String>),
    Nets(&'a mut Vec<Net>),
    PublicKeys(&'a mut Vec<PublicKey>),
    Origins(&'a mut Vec<Origin>),
}

/// Every key, as in the file; in the environment `edge.max_headers` is `TURNOUT_EDGE__MAX_HEADERS`.
pub const KEYS: &[&str] = &[
    "listen",
    "admin.listen",
    "data",
    "mode",
    "edge.max_connections",
    "edge.max_connections_per_ip",
    "edge.trusted_proxies",
    "edge.first_byte_timeout",
    "edge.header_timeout",
    "edge.idle_timeout",
    "edge.body_timeout",
    "edge.body_rate",
    "edge.body_rate_after",
    "edge.head_bytes",
    "edge.max_headers",
    "edge.uri_bytes",
    "edge.body_bytes",
    "edge.body_bytes_inflight",
    "edge.max_inflight",
    "edge.queue",
    "edge.queue_wait",
    "edge.json_depth",
    "edge.json_values",
    "edge.http2_streams",
    "edge.messages",
    "edge.tools",
    "edge.parts",
    "edge.stop",
    "edge.metadata",
    "stream.write_stall",
    "stream.keep_alive",
    "stream.sum_comment",
    "stream.buffer_bytes",
    "upstream.answer_bytes",
    "upstream.event_bytes",
    "upstream.allow_private",
    "upstream.allow_http",
    "shutdown.grace",
    "request.default_deadline",
    "request.client_deadline",
    "request.stream_deadline",
    "request.seed",
    "retry.max_attempts",
    "retry.max_candidates",
    "retry.backoff",
    "retry.backoff_max",
    "retry.budget",
    "retry.budget_per_second",
    "retry.time_share",
    "retry.share_max",
    "hedge.budget",
    "breaker.window",
    "breaker.min_calls",
    "breaker.failure_share",
    "breaker.consecutive",
    "breaker.open",
    "breaker.open_max",
    "runner.enabled",
    "runner.cpu",
    "runner.wall",
    "runner.memory",
    "runner.processes",
    "runner.disk",
    "runner.output",
    "runner.parallel",
    "runner.folders",
    "tools.allow_hosts",
    "tools.allow_http",
    "tools.allow_private",
    "runs.parallel",
    "runs.queued",
    "runs.wall",
    "runs.lifetime",
    "runs.keep",
    "webhooks.allow_hosts",
    "webhooks.allow_http",
    "webhooks.allow_private",
    "webhooks.notify_url",
    "audit.anchor",
    "audit.anchor_url",
    "disk.low",
    "disk.critical",
    "spool.max",
    "spool.keep",
    "reload.watch",
    "reload.debounce",
    "reload.rollback",
    "bundles.require_signature",
    "bundles.two_person",
    "bundles.max_changed",
    "bundles.max_new_denials",
    "policies.headers",
    "keys.default_budget",
    "keys.tripwire_action",
    "limits.patience",
    "metrics.require_key",
    "cors.origins",
    "shadow.usd_per_day",
];

/// The place of a key; `None` = there is no such key.
pub(super) fn slot<'a>(s: &'a mut Server, key: &str) -> Option<Slot<'a>> {
    let least = Duration::from_millis(10);
    let (e, n) = (&mut s.edge, &mut s.engine);
    Some(match key {
        "listen" => Slot::Address(&mut s.listen),
        "admin.listen" => Slot::Loopback(&mut s.admin),
        "data" => Slot::Text(&mut s.data),
        "mode" => Slot::Mode(&mut n.mode),
        "edge.max_connections" => Slot::Count(&mut e.max_connections, 1..=65_536),
        "edge.max_connections_per_ip" => Slot::Count(&mut e.max_connections_per_ip, 1..=65_536),
        "edge.trusted_proxies" => Slot::Nets(&mut e.trusted_proxies),
        "edge.first_byte_timeout" => Slot::Time(&mut e.first_byte_timeout, least..=secs(60)),
        "edge.header_timeout" => Slot::Time(&mut e.header_timeout, least..=secs(60)),
        "edge.idle_timeout" => Slot::Time(&mut e.idle_timeout, least..=secs(600)),
        "edge.body_timeout" => Slot::Time(&mut e.body_timeout, least..=secs(300)),
        "edge.body_rate" => Slot::Bytes(&mut e.body_rate, 0..=16 * MIB),
        "edge.body_rate_after" => Slot::Time(&mut e.body_rate_after, least..=secs(300)),
        "edge.head_bytes" => Slot::Bytes(&mut e.head_bytes, KIB..=64 * KIB),
        "edge.max_headers" => Slot::Count(&mut e.max_headers, 8..=100),
        "edge.uri_bytes" => Slot::Bytes(&mut e.uri_bytes, 128..=32 * KIB),
        "edge.body_bytes" => Slot::Bytes(&mut e.body_bytes, KIB..=128 * MIB),
        "edge.body_bytes_inflight" => Slot::Bytes(&mut e.body_bytes_inflight, MIB..=65_536 * MIB),
        "edge.max_inflight" => Slot::Count(&mut n.max_inflight, 1..=65_536),
        "edge.queue" => Slot::Count(&mut n.queue, 0..=65_536),
        "edge.queue_wait" => Slot::Time(&mut n.queue_wait, Duration::ZERO..=secs(60)),
        "edge.json_depth" => Slot::Count(&mut e.json_depth, 8..=128),
        "edge.json_values" => Slot::Count(&mut e.json_values, 100..=1_000_000),
        "edge.http2_streams" => Slot::Count(&mut e.http2_streams, 1..=1_000),
        "edge.messages" => Slot::Count(&mut e.messages, 1..=10_000),
        "edge.tools" => Slot::Count(&mut e.tools, 1..=1_024),
        "edge.parts" => Slot::Count(&mut e.parts, 1..=1_024),
        "edge.stop" => Slot::Count(&mut e.stop, 1..=64),
        "edge.metadata" => Slot::Count(&mut e.metadata, 1..=256),
        "stream.write_stall" => Slot::Time(&mut s.stream.write_stall, least..=secs(300)),
        "stream.keep_alive" => Slot::Time(&mut s.stream.keep_alive, Duration::ZERO..=secs(300)),
        "stream.sum_comment" => Slot::Flag(&mut s.stream.sum_comment),
        "stream.buffer_bytes" => Slot::Bytes(&mut s.stream.buffer_bytes, 8 * KIB..=MIB),
        "upstream.answer_bytes" => Slot::Bytes(&mut s.upstream.max_answer_bytes, 64 * KIB..=256 * MIB),
        "upstream.event_bytes" => Slot::Bytes(&mut s.upstream.max_event_bytes, 4 * KIB..=16 * MIB),
        "upstream.allow_private" => Slot::Flag(&mut s.upstream.allow_private),
        "upstream.allow_http" => Slot::Flag(&mut s.upstream.allow_http),
        "shutdown.grace" => Slot::Time(&mut s.grace, Duration::ZERO..=secs(600)),
        "request.default_deadline" => Slot::Time(&mut n.default_deadline, least..=secs(3_600)),
        "request.client_deadline" => Slot::Time(&mut n.client_deadline, least..=secs(3_600)),
        "request.stream_deadline" => Slot::Time(&mut n.stream_deadline, least..=secs(3_600)),
        "request.seed" => Slot::Seed(&mut n.seed),
        "retry.max_attempts" => Slot::Whole(&mut n.retry.max_attempts, 1..=5),
        "retry.max_candidates" => Slot::Count(&mut n.retry.max_candidates, 1..=32),
        "retry.backoff" => Slot::Time(&mut n.retry.backoff, Duration::ZERO..=secs(30)),
        "retry.backoff_max" => Slot::Time(&mut n.retry.backoff_max, Duration::ZERO..=secs(60)),
        "breaker.window" => Slot::Time(&mut n.breaker.window, least..=secs(600)),
        "breaker.min_calls" => Slot::Whole(&mut n.breaker.min_calls, 1..=10_000),
        "retry.budget" => Slot::Share(&mut n.retry.budget),
        "hedge.budget" => Slot::Share(&mut n.retry.hedges),
        "retry.time_share" => Slot::Share(&mut n.retry.time_share),
        "retry.share_max" => Slot::Time(&mut n.retry.share_max, least..=secs(3_600)),
        "retry.budget_per_second" => Slot::Whole(&mut n.retry.budget_per_second, 0..=10_000),
        "breaker.failure_share" => Slot::Share(&mut n.breaker.failure_share),
        "breaker.consecutive" => Slot::Whole(&mut n.breaker.consecutive, 1..=1_000),
        "breaker.open" => Slot::Time(&mut n.breaker.open, least..=secs(600)),
        "breaker.open_max" => Slot::Time(&mut n.breaker.open_max, least..=secs(3_600)),
        "runner.enabled" => Slot::Flag(&mut s.runner.enabled),
        "runner.cpu" => Slot::Time(&mut s.runner.cpu, secs(1)..=secs(300)),
        "runner.wall" => Slot::Time(&mut s.runner.wall, secs(1)..=secs(600)),
        "runner.memory" => Slot::Bytes(&mut s.runner.memory, 16 * MIB..=8_192 * MIB),
        "runner.processes" => Slot::Whole(&mut s.runner.processes, 1..=1_024),
        "runner.disk" => Slot::Bytes(&mut s.runner.disk, MIB..=4_096 * MIB),
        "runner.output" => Slot::Bytes(&mut s.runner.output, KIB..=64 * MIB),
        "runner.parallel" => Slot::Count(&mut s.runner.parallel, 1..=64),
        "runner.folders" => Slot::Texts(&mut s.runner.folders),
        "tools.allow_hosts" => Slot::Texts(&mut s.tools.allow_hosts),
        "tools.allow_http" => Slot::Flag(&mut s.tools.allow_http),
        "tools.allow_private" => Slot::Flag(&mut s.tools.allow_private),
        "runs.parallel" => Slot::Count(&mut s.runs.parallel, 1..=1_024),
        "runs.queued" => Slot::Count(&mut s.runs.queued, 1..=1_000_000),
        "runs.wall" => Slot::Time(&mut s.runs.wall, secs(1)..=secs(7 * 86_400)),
        "runs.lifetime" => Slot::Time(&mut s.runs.lifetime, secs(1)..=secs(90 * 86_400)),
        "runs.keep" => Slot::Time(&mut s.runs.keep, secs(60)..=secs(3_650 * 86_400)),
        "webhooks.allow_hosts" => Slot::Texts(&mut s.webhooks.allow_hosts),
        "webhooks.allow_http" => Slot::Flag(&mut s.webhooks.allow_http),
        "webhooks.allow_private" => Slot::Flag(&mut s.webhooks.allow_private),
        "webhooks.notify_url" => Slot::Text(&mut s.notify_url),
        "audit.anchor" => Slot::Text(&mut s.audit_anchor),
        "audit.anchor_url" => Slot::Text(&mut s.anchor_url),
        "disk.low" => Slot::Bytes(&mut s.disk.low, 0..=1_073_741_824 * MIB),
        "disk.critical" => Slot::Bytes(&mut s.disk.critical, 0..=1_073_741_824 * MIB),
        "spool.max" => Slot::Bytes(&mut s.spool.max, 16 * MIB..=1_073_741_824 * MIB),
        "spool.keep" => Slot::Bytes(&mut s.spool.keep, 16 * MIB..=1_073_741_824 * MIB),
        "reload.watch" => Slot::Flag(&mut s.reload.watch),
        "reload.rollback" => Slot::Flag(&mut s.reload.rollback),
        "bundles.require_signature" => Slot::PublicKeys(&mut s.bundles.require_signature),
        "bundles.two_person" => Slot::Flag(&mut s.bundles.two_person),
        "bundles.max_changed" => Slot::Share(&mut s.bundles.max_changed),
        "bundles.max_new_denials" => Slot::Share(&mut s.bundles.max_new_denials),
        "policies.headers" => Slot::Headers(&mut s.policy_headers),
        "limits.patience" => Slot::Time(&mut n.patience, Duration::ZERO..=secs(60)),
        "shadow.usd_per_day" => Slot::Dollars(&mut n.shadow_usd, 0.0..=1_000_000.0),
        "metrics.require_key" => Slot::Flag(&mut s.metrics_key),
        "cors.origins" => Slot::Origins(&mut s.origins),
        "keys.default_budget" => Slot::Dollars(&mut s.default_budget, 0.01..=1_000_000.0),
        "keys.tripwire_action" => Slot::Tripwire(&mut s.tripwire),
        "reload.debounce" => Slot::Time(&mut s.reload.debounce, least..=secs(60)),
        _ => return None,
    })
}

/// What could have been meant in a key's place: the keys of its group, or what stands at the top.
pub(super) fn siblings(key: &str) -> Vec<&'static str> {
    let group = key.split_once('.').map(|(g, _)| g);
    let beside = |k: &&str| k.split_once('.').map(|(g, _)| g) == group;
    let keys = KEYS.iter().copied().filter(beside);
    if group.is_some() { keys.collect() } else { keys.chain(groups()).collect() }
}

/// The groups of keys: what stands before the dot.
pub(super) fn groups() -> Vec<&'static str> {
    let mut groups: Vec<&str> = KEYS.iter().filter_map(|k| k.split_once('.')).map(|(g, _)| g).collect();
    groups.dedup();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_place() {
        for key in KEYS {
            assert!(slot(&mut Server::default(), key).is_some(), "{key}");
        }
    }

    use super::super::read::{show_bytes, show_time};

    /// The value of a slot and what may stand in it, as the chapter on configuration writes them.
    fn told(slot: &Slot<'_>) -> (String, String) {
        let span = |low: String, high: String| format!("{low} to {high}");
        let list = |is_empty: bool, what: &str| {
            assert!(is_empty, "a list that is not empty by default has no form yet");
            ("`[]`".to_owned(), what.to_owned())
        };
        match slot {
            Slot::Time(t, range) => {
                (show_time(**t), span(show_time(*range.start()), show_time(*range.end())))
            }
            Slot::Bytes(n, range) => {
                (show_bytes(**n), span(show_bytes(*range.start()), show_bytes(*range.end())))
            }
            Slot::Count(n, range) => {
                (n.to_string(), span(range.start().to_string(), range.end().to_string()))
            }
            Slot::Whole(n, range) => {
                (n.to_string(), span(range.start().to_string(), range.end().to_string()))
            }
            Slot::Share(x) => (x.to_string(), "0.01 to 1".to_owned()),
            Slot::Dollars(x, range) => {
                (x.to_string(), span(range.start().to_string(), range.end().to_string()))
            }
            Slot::Flag(b) => (b.to_string(), "true, false".to_owned()),
            Slot::Seed(seed) => {
                (seed.map_or("none".to_owned(), |n| n.to_string()), "a whole number".to_owned())
            }
            Slot::Mode(mode) => {
                let name = super::super::MODES.iter().find(|n| super::super::mode(n) == Some(**mode));
                ((*name.unwrap()).to_owned(), super::super::MODES.join(", "))
            }
            Slot::Tripwire(action) => {
                let names = TripwireAction::NAMES;
                let name = names.iter().find(|n| TripwireAction::parse(n) == Some(**action));
                ((*name.unwrap()).to_owned(), names.join(", "))
            }
            Slot::Text(text) | Slot::Address(text) | Slot::Loopback(text) => {
                ((**text).clone().unwrap_or("none".to_owned()), "text".to_owned())
            }
            Slot::Texts(texts) => list(texts.is_empty(), "texts"),
            Slot::Headers(names) => list(names.is_empty(), "names of headers"),
            Slot::Nets(nets) => list(nets.is_empty(), "addresses and nets"),
            Slot::PublicKeys(keys) => list(keys.is_empty(), "public keys"),
            Slot::Origins(origins) => list(origins.is_empty(), "origins"),
        }
    }

    #[test]
    fn the_chapter_on_configuration_tells_every_key_with_its_default_and_its_range() {
        let page = include_str!("../../../../docs/configuration.md");
        let mut server = Server::default();
        for key in KEYS {
            let (default, range) = told(&slot(&mut server, key).unwrap());
            let row = format!("\n| `{key}` | {default} | {range} | ");
            assert!(page.contains(&row), "docs/configuration.md has no row that begins with{row}");
        }
    }
}
