//! `cache: none`, `read_only`, `exact`, `semantic`, or `{mode, ttl, scope}` — what a run may have of what nodes put out before, and
//! what of it is kept: the least counts, the shortest time, the narrowest circle.

use super::{Kind, REQUEST_RESPONSE, Single, Verb, millis, put};
use crate::merge::Join;
use types::directives::{CacheRule, CacheScope, Caching};
use types::doc::{Node, Reader};

pub(super) const VERB: Verb = Verb {
    name: "cache",
    kind: Kind::Hard,
    phases: REQUEST_RESPONSE,
    single: Single::No,
    arguments: &["mode", "ttl", "scope"],
    read: |r, node, field, _| {
        let rule = match node.as_str() {
            Some(_) => {
                let mode = mode(r, node, field)?;
                CacheRule { mode, ttl_ms: None, scope: CacheScope::default() }
            }
            None => {
                let mut f = r.fields(node, field)?;
                let mode = f.take("mode").map_or(Some(Caching::Semantic), |n| mode(r, n, &f.at("mode")));
                let ttl = f.take("ttl").map(|n| millis(r, n, &f.at("ttl")));
                let within = f.take("scope").map(|n| scope(r, n, &f.at("scope")));
                f.finish(r);
                let ttl_ms = ttl.map_or(Some(None), |t| t.map(Some))?;
                CacheRule { mode: mode?, ttl_ms, scope: within.unwrap_or(Some(CacheScope::default()))? }
            }
        };
        put(rule, |m, v, at| m.join(|m| &mut m.further().cache, v, at))
    },
};

/// The least, the shortest, the narrowest.
impl Join for CacheRule {
    fn join(self, b: Self) -> Self {
        CacheRule {
            mode: self.mode.min(b.mode),
            ttl_ms: [self.ttl_ms, b.ttl_ms].into_iter().flatten().min(),
            scope: self.scope.max(b.scope),
        }
    }
}

fn mode(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<Caching> {
    Some(match r.one_of(node, field, &["none", "read_only", "exact", "semantic"])? {
        "none" => Caching::None,
        "read_only" => Caching::ReadOnly,
        "exact" => Caching::Exact,
        _ => Caching::Semantic,
    })
}

fn scope(r: &mut Reader<'_>, node: &Node, field: &str) -> Option<CacheScope> {
    let name = r.one_of(node, field, &["engine", "tenant", "key", "user"])?;
    CacheScope::ALL.into_iter().find(|scope| scope.as_str() == name)
}

#[cfg(test)]
mod tests {
    use crate::testing::{check_verb, load_text};
    use types::directives::{CacheRule, CacheScope, Caching};

    #[test]
    fn the_least_the_shortest_and_the_narrowest_count() {
        let d = check_verb(
            &["cache: { ttl: 10m, scope: tenant }", "cache: read_only", "cache: { mode: exact, ttl: 5m }"],
            &["applied"; 3],
        );
        let want = CacheRule { mode: Caching::ReadOnly, ttl_ms: Some(300_000), scope: CacheScope::Tenant };
        assert_eq!(d.further.unwrap().cache.unwrap().value, want);
        let (second, both) = (["overridden by r1", "applied"], ["applied"; 2]);
        for (rules, want, effects) in [
            (["cache: exact", "cache: none"], Caching::None, second),
            (["cache: semantic", "cache: { ttl: 1h }"], Caching::Semantic, second),
            (["cache: semantic", "cache: exact"], Caching::Exact, second),
            (["cache: { mode: exact, ttl: 1h }", "cache: read_only"], Caching::ReadOnly, both),
        ] {
            let d = check_verb(&rules, &effects);
            assert_eq!(d.further.unwrap().cache.unwrap().value.mode, want, "{rules:?}");
        }
    }

    #[test]
    fn of_scopes_the_narrowest_counts() {
        use CacheScope::{Engine, Key, Tenant, User};
        let (first, second) = (["applied", "overridden by r0"], ["overridden by r1", "applied"]);
        for (rules, want, effects) in [
            (["cache: { scope: tenant }", "cache: { scope: engine }"], Tenant, first),
            (["cache: { scope: tenant }", "cache: { scope: key }"], Key, second),
            (["cache: { scope: user }", "cache: { scope: key }"], User, first),
            (["cache: { ttl: 5m }", "cache: { mode: exact }"], Engine, ["applied"; 2]),
        ] {
            let d = check_verb(&rules, &effects);
            assert_eq!(d.further.unwrap().cache.unwrap().value.scope, want, "{rules:?}");
        }
    }

    #[test]
    fn what_needs_the_cache_of_answers_says_so() {
        let rule = "rules: [{ id: a, phase: response, actions: { cache: none } }]";
        let (_, problems) = load_text(rule, &[]);
        let told = problems.iter().find(|d| d.code == "PL109").map(ToString::to_string).unwrap_or_default();
        assert!(told.contains("cache of answers"), "{problems:?}");
    }
}
