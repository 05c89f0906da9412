//! What predicates over models (`where:`) may read of one.

use super::{Abilities, Matrix, ModelIx, Tier};
use crate::expr::Type;
use serde_json::{Value, json};

/// `free` or `paid`.
const PRICE_TIERS: &[&str] = &["free", "paid"];

/// The type of the variable `model`.
#[must_use]
pub fn model_type() -> Type {
    Type::map([
        ("id", Type::Str),
        ("provider", Type::Str),
        ("family", Type::Str),
        ("region", Type::Str.optional()),
        ("tier", Type::Int),
        ("speed_tier", Type::Int),
        ("price_tier", Type::Enum(PRICE_TIERS)),
        ("context_window", Type::Int),
        ("max_output_tokens", Type::Int),
        ("price_in", Type::Float.optional()),
        ("price_out", Type::Float.optional()),
        ("supports", Type::map(Abilities::NAMES.iter().map(|n| (*n, Type::Bool)))),
        ("tags", Type::Str.list()),
    ])
}

impl Matrix {
    /// What can be said of a model: the value of the variable `model`.
    #[must_use]
    pub fn describe(&self, ix: ModelIx) -> Option<Value> {
        let (m, p) = (self.model(ix)?, self.provider_of(ix));
        let supports: serde_json::Map<String, Value> =
            Abilities::NAMES.iter().map(|n| ((*n).to_owned(), Value::Bool(m.abilities.has(n)))).collect();
        let free = p.is_some_and(|p| p.tier == Tier::Free);
        Some(json!({
            "id": &*m.id,
            "provider": p.map_or("", |p| p.id.as_str()),
            "family": m.family,
            "region": p.and_then(|p| p.region.as_deref()),
            "tier": m.quality_tier,
            "speed_tier": m.speed_tier,
            "price_tier": if free { "free" } else { "paid" },
            "context_window": m.context_window,
            "max_output_tokens": m.max_output_tokens,
            "price_in": m.price.map(|p| p.input),
            "price_out": m.price.map(|p| p.output),
            "supports": supports,
            "tags": m.tags,
        }))
    }
}
