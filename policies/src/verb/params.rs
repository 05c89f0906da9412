//! `set_temperature`, `set_max_tokens`, `set_params`: sampling parameters where nothing else says otherwise;
//! single-valued per parameter, and the caps hold all the same.

use super::{Kind, REQUEST, Single, Verb, count, put};
use crate::merge::{Action, Merge};
use serde_json::Value;
use std::sync::Arc;
use types::doc::{Node, Reader};

pub(super) const TEMPERATURE: Verb = Verb {
    name: "set_temperature",
    kind: Kind::Soft,
    phases: REQUEST,
    single: Single::Value,
    arguments: &["temperature"],
    read: |r, node, field, _| set(vec![("temperature", temperature(r, node, field)?)]),
};

pub(super) const MAX_TOKENS: Verb = Verb {
    name: "set_max_tokens",
    arguments: &["tokens"],
    read: |r, node, field, _| set(vec![("max_tokens", max_tokens(r, node, field)?)]),
    ..TEMPERATURE
};

pub(super) const PARAMS: Verb = Verb {
    name: "set_params",
    single: Single::PerName,
    arguments: &["params"],
    read: |r, node, field, _| {
        let mut f = r.fields(node, field)?;
        let each = [
            f.take("temperature").map(|n| ("temperature", temperature(r, n, &f.at("temperature")))),
            f.take("max_tokens").map(|n| ("max_tokens", max_tokens(r, n, &f.at("max_tokens")))),
            f.take("top_p").map(|n| ("top_p", r.number(n, &f.at("top_p"), 0.0, 1.0).map(Value::from))),
            f.take("seed")
                .map(|n| ("seed", r.integer(n, &f.at("seed"), i64::MIN, i64::MAX).map(Value::from))),
        ];
        f.finish(r);
        let each: Option<Vec<_>> = each.into_iter().flatten().map(|(name, v)| Some((name, v?))).collect();
        let each = each?;
        if each.is_empty() {
            r.wrong_type(node, field, "a map with some of temperature, max_tokens, top_p, seed");
            return None;
        }
        set(each)
    },
    ..TEMPERATURE
};

fn temperature(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Value> {
    r.number(node, field, 0.0, 2.0).map(Value::from)
}

fn max_tokens(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Value> {
    count(r, node, field, 1, u32::MAX).map(Value::from)
}

fn set(params: Vec<(&'static str, Value)>) -> Option<Arc<dyn Action>> {
    put(params, |m: &mut Merge, params, at| {
        for (name, value) in params {
            m.single_of(|m| &mut m.further().params, name.to_owned(), value, at);
        }
    })
}
