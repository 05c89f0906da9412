//! `key_limits` of a provider: what single keys may use, by the names of their variables.

use types::control::Quota;
use types::diagnostic::suggestion;
use types::doc::{Key, Node, Reader};
use types::limits::{Metric, Window};

/// Largest amount of a limit: beyond it nothing is limited.
const MOST: f64 = 1e15;
/// Most limits of one key.
const MOST_LIMITS: usize = 32;
/// Windows of the limits of a key; one request is a matter of whoever asks.
const WINDOWS: [&str; 5] = ["second", "minute", "hour", "day", "month"];

/// Reads them; `keys` are the variables that hold keys of the provider.
pub(super) fn lower(
    node: &Node,
    field: &str,
    keys: &[String],
    r: &mut Reader<'_>,
) -> Vec<(String, Vec<Quota>)> {
    let mut all = Vec::new();
    for (key, node) in r.map(node, field).unwrap_or_default() {
        if !keys.contains(&key.name) {
            unknown(key, field, keys, r);
            continue;
        }
        let field = format!("{field}.{}", key.name);
        let items = r.list(node, &field).unwrap_or_default();
        if items.len() > MOST_LIMITS {
            let d = r.error("104", node.span, format!("`{field}` has {} limits", items.len()));
            d.expected = Some(format!("{MOST_LIMITS} at most"));
            d.field.clone_from(&field);
        }
        let each = items.iter().enumerate().take(MOST_LIMITS);
        let limits: Vec<Quota> =
            each.filter_map(|(i, node)| limit(node, &format!("{field}[{i}]"), r)).collect();
        all.push((key.name.clone(), limits));
    }
    all
}

/// What stands there may be a key: it is not repeated.
fn unknown(key: &Key, field: &str, keys: &[String], r: &mut Reader<'_>) {
    let hint = suggestion(&key.name, keys.iter().map(String::as_str));
    let d = r.error("104", key.span, "`key_limits` names a key that the provider does not have".to_owned());
    d.expected = Some("a variable of its `api_key_env`".to_owned());
    d.hint = Some(hint);
    field.clone_into(&mut d.field);
}

fn limit(node: &Node, field: &str, r: &mut Reader<'_>) -> Option<Quota> {
    let mut f = r.fields(node, field)?;
    let metric = f.require(r, "metric");
    let metric = metric.and_then(|n| r.one_of(n, &f.at("metric"), Metric::NAMES)).and_then(Metric::parse);
    let amount = f.require(r, "amount").and_then(|n| r.number(n, &f.at("amount"), 0.0, MOST));
    let per = f.take("per").and_then(|n| r.one_of(n, &f.at("per"), &WINDOWS)).map(str::to_owned);
    let is_read = !r.problems.iter().any(|d| d.field.starts_with(field));
    f.finish(r);
    let (model, label, reserved_premium) = (None, None, None);
    let quota = Quota { metric: metric?, amount: amount?, per, model, label, reserved_premium };
    match quota.of_provider_key("", "") {
        Err(why) if is_read => {
            let d = r.error("104", node.span, format!("`{field}` is no limit: {why}"));
            d.expected = Some(format!(
                "such as {{ metric: requests, amount: 60, per: minute }}; `per` is one of {}",
                WINDOWS.join(", ")
            ));
            field.clone_into(&mut d.field);
            None
        }
        Err(_) => None,
        Ok(_) => Some(quota),
    }
}

/// Whether a window that files can name is one of limits.
const _: () = assert!(WINDOWS.len() + 1 == Window::NAMES.len(), "all windows but that of one request");
