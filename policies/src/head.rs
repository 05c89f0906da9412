//! What rules and policies have in common: name, mode, group, priority, dates.

use crate::time;
use types::directives::RuleId;
use types::doc::{Fields, Reader};

/// How a rule takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Evaluated and applied.
    Enforce,
    /// Evaluated and recorded, never applied.
    Shadow,
    /// Not evaluated.
    Disabled,
}

impl Mode {
    /// As files write it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Mode::Enforce => "enforce",
            Mode::Shadow => "shadow",
            Mode::Disabled => "disabled",
        }
    }
}

/// What rules and policies have in common.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) id: RuleId,
    pub(crate) description: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) group: Option<String>,
    pub(crate) priority: i64,
    /// Whether an evaluation error refuses the request; `None` = as the verbs say.
    pub(crate) closed: Option<bool>,
    pub(crate) starts: Option<i64>,
    pub(crate) expires: Option<i64>,
}

impl Head {
    /// Reads the members that rules and policies share.
    pub(crate) fn read(r: &mut Reader<'_>, f: &mut Fields<'_>) -> Option<Head> {
        let id = f.require(r, "id").and_then(|n| r.ident(n, &f.at("id")));
        let description = f.take("description").and_then(|n| r.string(n, &f.at("description")));
        let owner = f.take("owner").and_then(|n| r.string(n, &f.at("owner")));
        let mode = match f.take("mode") {
            None => Some(Mode::Enforce),
            Some(n) => r.one_of(n, &f.at("mode"), &["enforce", "shadow", "disabled"]).map(|m| match m {
                "shadow" => Mode::Shadow,
                "disabled" => Mode::Disabled,
                _ => Mode::Enforce,
            }),
        };
        let group = f.take("group").map(|n| r.ident(n, &f.at("group")));
        let priority = match f.take("priority") {
            None => Some(0),
            Some(n) => r.integer(n, &f.at("priority"), -100, 100),
        };
        let closed = f.take("on_error").map(|n| r.one_of(n, &f.at("on_error"), &["closed", "open"]));
        let starts = moment(r, f, "starts");
        let expires = moment(r, f, "expires");
        if let (Some(Some(from)), Some(Some(to))) = (starts, expires)
            && to <= from
        {
            let d = r.error("104", f.span, "`expires` is not after `starts`");
            d.field = f.at("expires");
        }
        Some(Head {
            id: id?.into(),
            description,
            owner,
            mode: mode?,
            group: group.map_or(Some(None), |g| g.map(Some))?,
            priority: priority?,
            closed: closed.map_or(Some(None), |c| c.map(|c| Some(c == "closed")))?,
            starts: starts?,
            expires: expires?,
        })
    }

    /// Whether the rule is in force at that moment. `None` when it has dates and the moment is not known.
    pub(crate) fn in_force(&self, unix_ms: Option<i64>) -> Option<bool> {
        if self.starts.is_none() && self.expires.is_none() {
            return Some(true);
        }
        let now = unix_ms?;
        Some(self.starts.is_none_or(|s| s <= now) && self.expires.is_none_or(|e| now < e))
    }
}

/// A date-time; the outer `None` is a noted problem, the inner one an absent key.
#[expect(clippy::option_option, reason = "absent and wrong are two different things here")]
fn moment(r: &mut Reader<'_>, f: &mut Fields<'_>, key: &'static str) -> Option<Option<i64>> {
    let Some(n) = f.take(key) else { return Some(None) };
    let text = r.string(n, &f.at(key))?;
    let parsed = time::parse(&text);
    if parsed.is_none() {
        let d = r.error("104", n.span, format!("`{text}` is no date-time"));
        d.expected = Some("a date-time with its zone, such as 2027-03-31T00:00:00Z, or a date".to_owned());
        d.field = f.at(key);
    }
    parsed.map(Some)
}
