//! Rules and policies as they are listed: where each stands, when it takes part, what it can do.

use crate::expression::Condition;
use crate::head::Mode;
use crate::set::{Body, Entry, PolicySet};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use types::expr::Expression as _;

/// How something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A member of `rules` in the rules file.
    Rule,
    /// A file in Rhai.
    Script,
}

/// A rule or policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its name, unique among both.
    pub id: String,
    /// How it is written.
    pub kind: Kind,
    /// Whose requests alone it is about; `None` = everybody's.
    pub tenant: Option<String>,
    /// The file it stands in, as it was named when it was read.
    pub file: String,
    /// Its first line there, from 1.
    pub line: usize,
    /// When it is asked: `request`, `tool`, `response`.
    pub phases: Vec<&'static str>,
    /// For people.
    pub description: Option<String>,
    /// Who answers for it.
    pub owner: Option<String>,
    /// Of the rules of a group only the first that matches applies.
    pub group: Option<String>,
    /// -100..=100: whose value wins where one wins.
    pub priority: i64,
    /// `enforce`, `shadow` or `disabled`.
    pub mode: &'static str,
    /// Whether its dates let it take part at the moment that was named; one that is `disabled` never does.
    pub in_force: bool,
    /// Unix milliseconds from which on it takes part; `None` = always did.
    pub starts_ms: Option<i64>,
    /// Unix milliseconds from which on it does not any more; `None` = never.
    pub expires_ms: Option<i64>,
    /// `closed`: a request for which it cannot be evaluated is refused; `open`: it is left out.
    pub on_error: &'static str,
    /// Its condition; `None` = always, or it is a script.
    pub when: Option<String>,
    /// What keeps it from applying.
    pub unless: Option<String>,
    /// What it asks for, or, if it is a script, may ask for.
    pub verbs: Vec<String>,
    /// Requests, tool calls and answers that it matched since it was loaded.
    pub matched: u64,
}

impl PolicySet {
    /// All of them in the order in which they are evaluated, as they stand at a moment (Unix milliseconds).
    #[must_use]
    pub fn listing(&self, unix_ms: i64) -> Vec<Listed> {
        let mut all: Vec<Listed> = Vec::new();
        for entry in self.entries.iter() {
            // A script has an entry for each of its phases.
            match all.iter_mut().find(|l| *l.id == *entry.head.id) {
                Some(known) => {
                    known.phases.push(entry.phase.as_str());
                    known.matched = known.matched.saturating_add(entry.matched.load(Ordering::Relaxed));
                }
                None => all.push(listed(entry, unix_ms)),
            }
        }
        all
    }
}

fn listed(entry: &Entry, unix_ms: i64) -> Listed {
    let head = &entry.head;
    let text = |c: &Option<Condition>| c.as_ref().map(|c| c.source().to_owned());
    let (kind, file, line, when, unless, verbs) = match &entry.body {
        Body::Rule(rule) => {
            let verbs: BTreeSet<String> = rule.actions.iter().map(|a| a.verb.to_string()).collect();
            let (file, line) = (rule.file.path.clone(), rule.line);
            (Kind::Rule, file, line, text(&rule.when), text(&rule.unless), verbs)
        }
        Body::Script(s) => (Kind::Script, s.path().to_owned(), 1, None, None, s.verbs.clone()),
    };
    Listed {
        id: head.id.to_string(),
        tenant: entry.tenant.as_deref().map(str::to_owned),
        kind,
        file,
        line,
        phases: vec![entry.phase.as_str()],
        description: head.description.clone(),
        owner: head.owner.clone(),
        group: head.group.clone(),
        priority: head.priority,
        mode: head.mode.as_str(),
        in_force: head.mode != Mode::Disabled && head.in_force(Some(unix_ms)) == Some(true),
        starts_ms: head.starts,
        expires_ms: head.expires,
        on_error: if entry.closed { "closed" } else { "open" },
        when,
        unless,
        verbs: verbs.into_iter().collect(),
        matched: entry.matched.load(Ordering::Relaxed),
    }
}
