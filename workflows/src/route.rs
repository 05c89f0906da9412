//! Which models may serve a call, as a file says it.

use crate::load::{Cx, later};
use serde_json::{Value, json};
use types::doc::Node;
use types::matrix::Abilities;

/// How to order the models that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// By the router's expected utility.
    #[default]
    Utility,
    /// By price, lowest first.
    Cheapest,
    /// By quality tier, highest first.
    Strongest,
    /// By expected time, shortest first.
    Fastest,
    /// As they are listed.
    Fixed,
    /// By a seeded draw.
    Random,
}

impl Strategy {
    const NAMES: &'static [&'static str] =
        &["utility", "cheapest", "strongest", "fastest", "fixed", "random"];

    const fn as_str(self) -> &'static str {
        match self {
            Strategy::Utility => "utility",
            Strategy::Cheapest => "cheapest",
            Strategy::Strongest => "strongest",
            Strategy::Fastest => "fastest",
            Strategy::Fixed => "fixed",
            Strategy::Random => "random",
        }
    }

    fn parse(name: &str) -> Self {
        match name {
            "cheapest" => Strategy::Cheapest,
            "strongest" => Strategy::Strongest,
            "fastest" => Strategy::Fastest,
            "fixed" => Strategy::Fixed,
            "random" => Strategy::Random,
            _ => Strategy::Utility,
        }
    }
}

/// Which models may serve a call. Policies constrain it further. Empty: every candidate of the request, by
/// utility.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Only models of this pool.
    pub pool: Option<String>,
    /// Only this model, `provider/model`.
    pub model: Option<String>,
    /// Selectors of models that come first.
    pub prefer: Vec<String>,
    /// Selectors outside which nothing fits; empty = no restriction.
    pub require: Vec<String>,
    /// Selectors of models that do not fit.
    pub exclude: Vec<String>,
    /// Order of those that fit.
    pub strategy: Strategy,
    /// Lowest quality tier, 1..=3.
    pub min_tier: Option<u8>,
    /// Abilities they must have, by the names of the capability matrix.
    pub capabilities: Vec<String>,
}

impl Route {
    /// Exactly one model.
    pub(crate) fn only(model: &str) -> Self {
        Route { model: Some(model.to_owned()), strategy: Strategy::Fixed, ..Route::default() }
    }

    /// For the hash of the plan.
    pub(crate) fn canonical(&self) -> Value {
        json!({
            "pool": self.pool, "model": self.model, "prefer": self.prefer, "require": self.require,
            "exclude": self.exclude, "strategy": self.strategy.as_str(), "min_tier": self.min_tier,
            "capabilities": self.capabilities,
        })
    }

    /// Reads a route; names are checked against the matrix and the pools.
    pub(crate) fn lower(cx: &mut Cx<'_>, node: &Node, path: &str) -> Route {
        let mut route = Route::default();
        let Some(mut f) = cx.r.fields(node, path) else { return route };
        if let Some(n) = f.take("pool") {
            route.pool = cx.pool(n, &f.at("pool"));
        }
        if let Some(n) = f.take("model") {
            route.model = cx.model(n, &f.at("model"));
            route.strategy = Strategy::Fixed;
        }
        if let Some(n) = f.take("strategy")
            && let Some(s) = cx.r.one_of(n, &f.at("strategy"), Strategy::NAMES)
        {
            route.strategy = Strategy::parse(s);
        }
        for (key, list) in
            [("prefer", &mut route.prefer), ("require", &mut route.require), ("exclude", &mut route.exclude)]
        {
            if let Some(n) = f.take(key) {
                *list = cx.selectors(n, &f.at(key));
            }
        }
        if let Some(n) = f.take("min_tier") {
            route.min_tier = cx.r.integer(n, &f.at("min_tier"), 1, 3).and_then(|t| u8::try_from(t).ok());
        }
        if let Some(n) = f.take("capabilities") {
            let at = f.at("capabilities");
            let list = cx.r.list(n, &at).unwrap_or(&[]);
            route.capabilities = list
                .iter()
                .filter_map(|n| cx.r.one_of(n, &at, Abilities::NAMES))
                .map(str::to_owned)
                .collect();
        }
        later(cx, &mut f, &["distinct_from", "family_not", "where"]);
        f.finish(&mut cx.r);
        route
    }
}
