//! Model selectors: names, globs, pools and predicates, resolved against one matrix.

use crate::expression::Rhai;
use crate::inputs::{SUB_LABELS, model_state_type};
use crate::report;
use crate::selection::{Moving, Predicate, Selection, moves};
use crate::values::{list, record, text};
use crate::verb::Redaction;
use crate::{Misfit, Names, expression::Vars};
use rhai::Dynamic;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use types::axis::TaskFamily;
use types::diagnostic::suggestion;
use types::directives::Pools;
use types::doc::{Node, Reader, Value};
use types::expr::{Expression, Scope, Type, Variables};
use types::matrix::{Abilities, Matrix, Model, ModelIx, ModelSet, Tier};

/// Everything selectors and verbs resolve names against; one per snapshot of the configuration.
pub(crate) struct Resolver {
    pub(crate) matrix: Matrix,
    pub(crate) pools: Pools,
    /// Those of the pools whose models go by how they are.
    pub(crate) moving: BTreeMap<String, Selection>,
    pub(crate) workflows: Vec<String>,
    /// Ids of what `experiment: { only: … }` may name.
    pub(crate) experiments: Vec<String>,
    pub(crate) validators: Vec<&'static str>,
    pub(crate) misfit: fn(&str, Option<&Node>) -> Option<Misfit>,
    /// Members of the groups that `require_approval` names.
    pub(crate) approvers: BTreeMap<String, Vec<String>>,
    /// What `custom:<name>` names, each with its pattern.
    pub(crate) patterns: BTreeMap<String, String>,
    /// What `redact: { use: … }` names.
    pub(crate) redactions: BTreeMap<String, Redaction>,
    /// The matrix stands in for another one, of which it has a part only: a name that names nothing in it is no mistake.
    pub(crate) stands_in: bool,
    language: Rhai,
    /// `model` of every model, built when the first predicate needs it.
    models: OnceLock<Vec<Scope>>,
    /// Predicates by their text: policies meet the ones that were resolved at load.
    predicates: Mutex<HashMap<String, Selection>>,
}

impl Resolver {
    pub(crate) fn new(names: &Names<'_>, language: Rhai) -> Self {
        Resolver {
            matrix: names.matrix.clone(),
            pools: Pools::new(),
            moving: BTreeMap::new(),
            workflows: names.workflows.to_vec(),
            experiments: names.experiments.to_vec(),
            validators: names.validators.to_vec(),
            misfit: names.misfit,
            approvers: BTreeMap::new(),
            patterns: BTreeMap::new(),
            redactions: BTreeMap::new(),
            stands_in: false,
            language,
            models: OnceLock::new(),
            predicates: Mutex::new(HashMap::new()),
        }
    }

    /// The same names under a matrix that stands in for this one; its sets of models are still to be read.
    pub(crate) fn under(&self, matrix: &Matrix, language: Rhai) -> Self {
        Resolver {
            matrix: matrix.clone(),
            pools: Pools::new(),
            moving: BTreeMap::new(),
            workflows: self.workflows.clone(),
            experiments: self.experiments.clone(),
            validators: self.validators.clone(),
            misfit: self.misfit,
            approvers: self.approvers.clone(),
            patterns: self.patterns.clone(),
            redactions: self.redactions.clone(),
            stands_in: true,
            language,
            models: OnceLock::new(),
            predicates: Mutex::new(HashMap::new()),
        }
    }

    pub(crate) fn language(&self) -> &Rhai {
        &self.language
    }

    /// The models that a plain selector names: an id, a glob, an alias, `pool:<name>`.
    pub(crate) fn selected(&self, selector: &str) -> ModelSet {
        match selector.strip_prefix("pool:") {
            Some(pool) => self.pools.get(pool).cloned().unwrap_or_default(),
            None => self.matrix.select(selector),
        }
    }

    fn remembered(&self, source: &str) -> Option<Selection> {
        self.predicates.lock().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    fn remember(&self, source: &str, set: &Selection) {
        let mut predicates = self.predicates.lock().unwrap_or_else(PoisonError::into_inner);
        predicates.insert(source.to_owned(), set.clone());
    }

    fn scopes(&self) -> &[Scope] {
        self.models.get_or_init(|| {
            let indices = self.matrix.indices();
            indices.filter_map(|ix| self.matrix.model(ix).map(|m| self.model_scope(ix, m))).collect()
        })
    }

    fn model_scope(&self, ix: ModelIx, m: &Model) -> Scope {
        Scope(Arc::new(Vars::made("model", model_record(&self.matrix, ix, m))))
    }
}

/// Whether verbs are read when files are loaded or when a policy has just run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// New predicates are compiled.
    Load,
    /// Only what was seen at load is known: compiling would not fit the time limit.
    Run,
    /// A request asks by itself: parameters are checked, as at load, and predicates are not compiled, as later.
    Asked,
}

/// Names at one moment.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) resolver: &'a Resolver,
    pub(crate) moment: Moment,
}

/// Type of the variable `model` in predicates.
pub(crate) fn model_variables() -> Variables {
    let mut model = types::matrix::model_type();
    let prior =
        Type::map(TaskFamily::NAMES.iter().chain(SUB_LABELS).chain(&["default"]).map(|n| (*n, Type::Float)));
    let data = Type::map([
        ("retention_days", Type::Int.optional()),
        ("trains", Type::Bool.optional()),
        ("zdr", Type::Bool.optional()),
    ]);
    if let Type::Map(fields) = &mut model {
        fields.extend([("prior".to_owned(), prior), ("data".to_owned(), data)]);
        if let Type::Map(moving) = model_state_type() {
            fields.extend(moving);
        }
    }
    vec![("model".to_owned(), model)]
}

fn model_record(matrix: &Matrix, ix: ModelIx, m: &Model) -> Dynamic {
    use types::axis::AxisValue as _;
    let provider = matrix.provider_of(ix);
    let optional = |v: Option<f64>| v.map_or(Dynamic::UNIT, Into::into);
    let flag = |v: Option<bool>| v.map_or(Dynamic::UNIT, Into::into);
    let supports =
        Abilities::NAMES.iter().map(|n| ((*n).into(), m.abilities.has(n).into())).collect::<Vec<_>>();
    let families = TaskFamily::ALL.iter().map(|f| (f.as_str().into(), m.prior.success(*f, None).into()));
    let named = |name: &str| m.prior.by_family.iter().find(|(k, _)| k == name).map(|(_, v)| v.get());
    let subs = SUB_LABELS.iter().map(|s| ((*s).into(), named(s).unwrap_or(m.prior.default.get()).into()));
    let mut prior: Vec<_> = families.chain(subs).collect();
    prior.push(("default".into(), m.prior.default.get().into()));
    let tier = match provider.map(|p| p.tier) {
        Some(Tier::Free) => "free",
        _ => "paid",
    };
    let data = provider.map(|p| p.data.clone()).unwrap_or_default();
    record(vec![
        ("id".into(), text(&m.id)),
        ("provider".into(), text(provider.map_or("", |p| p.id.as_str()))),
        ("family".into(), text(&m.family)),
        ("region".into(), provider.and_then(|p| p.region.as_deref()).map_or(Dynamic::UNIT, text)),
        ("tier".into(), i64::from(m.quality_tier).into()),
        ("speed_tier".into(), i64::from(m.speed_tier).into()),
        ("price_tier".into(), tier.into()),
        ("context_window".into(), i64::from(m.context_window).into()),
        ("max_output_tokens".into(), i64::from(m.max_output_tokens).into()),
        ("price_in".into(), optional(m.price.map(|p| p.input))),
        ("price_out".into(), optional(m.price.map(|p| p.output))),
        ("supports".into(), record(supports)),
        ("tags".into(), list(m.tags.iter().map(|t| text(t)).collect())),
        ("prior".into(), record(prior)),
        (
            "data".into(),
            record(vec![
                ("retention_days".into(), data.retention_days.map_or(Dynamic::UNIT, |d| i64::from(d).into())),
                ("trains".into(), flag(data.trains)),
                ("zdr".into(), flag(data.zdr)),
            ]),
        ),
    ])
}

/// The models that one selector or a list of them names; notes what names nothing unless `optional`.
pub(crate) fn models(
    r: &mut Reader<'_>,
    node: &Node,
    field: &str,
    cx: &Context<'_>,
    optional: bool,
) -> Option<Selection> {
    match &node.value {
        Value::List(items) => {
            let each = items.iter().enumerate();
            let each: Vec<_> =
                each.map(|(i, item)| one(r, item, &format!("{field}[{i}]"), cx, optional)).collect();
            if items.is_empty() {
                r.wrong_type(node, field, "at least one model selector");
                return None;
            }
            each.into_iter().collect::<Option<Vec<_>>>().map(Selection::any)
        }
        _ => one(r, node, field, cx, optional),
    }
}

/// The models that one selector names, which is no list.
pub(crate) fn one(
    r: &mut Reader<'_>,
    node: &Node,
    field: &str,
    cx: &Context<'_>,
    optional: bool,
) -> Option<Selection> {
    const FORMS: &str = "provider/model, provider/*, */glob, an alias, pool:<name> or {where: \"…\"}";
    match &node.value {
        Value::Str(name) => named(r, node, name, field, cx, optional),
        Value::Map(_) => {
            let mut f = r.fields(node, field)?;
            let source = f.require(r, "where");
            let optional =
                f.take("optional").and_then(|n| r.boolean(n, &f.at("optional"))).unwrap_or(optional);
            let at = f.at("where");
            f.finish(r);
            predicate(r, source?, &at, cx, optional)
        }
        _ => {
            r.wrong_type(node, field, FORMS);
            None
        }
    }
}

fn named(
    r: &mut Reader<'_>,
    node: &Node,
    name: &str,
    field: &str,
    cx: &Context<'_>,
    optional: bool,
) -> Option<Selection> {
    let optional = optional || cx.resolver.stands_in;
    if let Some(pool) = name.strip_prefix("pool:") {
        let Some(set) = cx.resolver.pools.get(pool) else {
            let hint = suggestion(pool, cx.resolver.pools.keys().map(String::as_str));
            let d = r.error("202", node.span, format!("there is no pool `{pool}`"));
            d.hint = Some(hint);
            field.clone_into(&mut d.field);
            return None;
        };
        let moving = cx.resolver.moving.get(pool);
        let selection = moving.cloned().unwrap_or_else(|| Selection::Settled(set.clone()));
        return found(r, node, selection, name, field, optional);
    }
    let set = cx.resolver.matrix.select(name);
    if set.is_empty() && !name.contains('*') && !optional {
        let models = cx.resolver.matrix.models();
        let known: Vec<&str> = models.iter().map(|m| m.id.as_ref()).collect();
        let hint = suggestion(name, known);
        let d = r.error("201", node.span, format!("there is no model `{name}`"));
        d.hint = Some(hint);
        field.clone_into(&mut d.field);
        return None;
    }
    found(r, node, Selection::Settled(set), name, field, optional)
}

/// The selection, unless it can never name a model and should.
fn found(
    r: &mut Reader<'_>,
    node: &Node,
    selection: Selection,
    what: &str,
    field: &str,
    optional: bool,
) -> Option<Selection> {
    if optional || !selection.possible().is_empty() {
        return Some(selection);
    }
    let d = r.error("203", node.span, format!("`{what}` matches no model"));
    d.expected = Some("at least one model of the capability matrix".to_owned());
    d.hint = Some("mend it, or add `optional: true` if it may match nothing".to_owned());
    field.clone_into(&mut d.field);
    None
}

/// The models for which `where` holds.
pub(crate) fn predicate(
    r: &mut Reader<'_>,
    node: &Node,
    field: &str,
    cx: &Context<'_>,
    optional: bool,
) -> Option<Selection> {
    let optional = optional || cx.resolver.stands_in;
    let source = r.string(node, field)?;
    if let Some(set) = cx.resolver.remembered(&source) {
        return found(r, node, set, &source, field, optional);
    }
    if cx.moment != Moment::Load {
        let d = r.error("104", node.span, "a predicate that was made at run time");
        d.expected = Some("a predicate written out in the policy".to_owned());
        return None;
    }
    let compiled = cx.resolver.language.condition(&source, &model_variables(), Some(&Type::Bool));
    let condition = match compiled {
        Ok((condition, warnings)) => {
            report::problems(r, node, field, warnings);
            condition
        }
        Err(problems) => {
            report::problems(r, node, field, problems);
            return None;
        }
    };
    let failed = |r: &mut Reader<'_>, id: &str, e: types::expr::Error| {
        let message = format!("the predicate cannot be evaluated for `{id}`: {e}");
        field.clone_into(&mut r.error("310", node.span, message).field);
    };
    let matrix = &cx.resolver.matrix;
    let name = |ix| matrix.model(ix).map_or("?", |m| m.id.as_ref());
    let models = || matrix.indices().zip(cx.resolver.scopes()).map(|(ix, scope)| (ix, name(ix), scope));
    let selection = if moves(&condition) {
        match Predicate::of(condition, models()) {
            Ok(predicate) => Selection::Moving(Arc::new(Moving::Where(Box::new(predicate)))),
            Err((id, e)) => {
                failed(r, &id, e);
                return None;
            }
        }
    } else {
        let mut set = ModelSet::default();
        for (ix, id, scope) in models() {
            match condition.eval_bool(scope) {
                Ok(true) => set.insert(ix),
                Ok(false) => {}
                Err(e) => {
                    failed(r, id, e);
                    return None;
                }
            }
        }
        Selection::Settled(set)
    };
    cx.resolver.remember(&source, &selection);
    found(r, node, selection, &source, field, optional)
}
