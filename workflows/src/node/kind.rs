//! The closed set of types of nodes: their names, and what a checked node of each holds.

use super::call::Call;
use super::classify::Classify;
use super::fail::Fail;
use super::gate::Gate;
use super::generate::Generate;
use super::judge::Judge;
use super::r#loop::Loop;
use super::map::Map;
use super::merge::Merge;
use super::repair::Repair;
use super::select::Select;
use super::set::Set;
use super::stream::Stream;
use super::tool::Tool;
use super::validate::Validate;
use super::{NodeType, Spec};
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A type of node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// Sorts the request into labels.
    Classify,
    /// Has models answer.
    Generate,
    /// Checks answers.
    Validate,
    /// Puts right what checks reject.
    Repair,
    /// Chooses among answers.
    Select,
    /// Has a model grade answers.
    Judge,
    /// Calls a tool.
    Tool,
    /// Makes one answer of several.
    Merge,
    /// Delivers an answer to the client.
    Stream,
    /// Runs a body again and again.
    Loop,
    /// Runs a body once for each item of a list.
    Map,
    /// Runs another workflow.
    Call,
    /// Waits for a person's decision.
    Gate,
    /// Computes values.
    Set,
    /// Ends the run with an error.
    Fail,
}

impl NodeKind {
    /// Every type, in the order in which they are told of.
    pub const ALL: &'static [NodeKind] = &[
        NodeKind::Classify,
        NodeKind::Generate,
        NodeKind::Validate,
        NodeKind::Repair,
        NodeKind::Select,
        NodeKind::Judge,
        NodeKind::Tool,
        NodeKind::Merge,
        NodeKind::Stream,
        NodeKind::Loop,
        NodeKind::Map,
        NodeKind::Call,
        NodeKind::Gate,
        NodeKind::Set,
        NodeKind::Fail,
    ];

    /// As files and records write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            NodeKind::Classify => "classify",
            NodeKind::Generate => "generate",
            NodeKind::Validate => "validate",
            NodeKind::Repair => "repair",
            NodeKind::Select => "select",
            NodeKind::Judge => "judge",
            NodeKind::Tool => "tool",
            NodeKind::Merge => "merge",
            NodeKind::Stream => "stream",
            NodeKind::Loop => "loop",
            NodeKind::Map => "map",
            NodeKind::Call => "call",
            NodeKind::Gate => "gate",
            NodeKind::Set => "set",
            NodeKind::Fail => "fail",
        }
    }

    /// The type of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether the outcome of its nodes is what checks of answers say.
    #[must_use]
    pub fn tells_of_checks(self) -> bool {
        self.node_type().tells_of_checks
    }

    /// What can be known of its nodes from the file alone.
    pub(crate) fn node_type(self) -> &'static NodeType {
        match self {
            NodeKind::Classify => &super::classify::TYPE,
            NodeKind::Generate => &super::generate::TYPE,
            NodeKind::Validate => &super::validate::TYPE,
            NodeKind::Repair => &super::repair::TYPE,
            NodeKind::Select => &super::select::TYPE,
            NodeKind::Judge => &super::judge::TYPE,
            NodeKind::Tool => &super::tool::TYPE,
            NodeKind::Merge => &super::merge::TYPE,
            NodeKind::Stream => &super::stream::TYPE,
            NodeKind::Loop => &super::r#loop::TYPE,
            NodeKind::Map => &super::map::TYPE,
            NodeKind::Call => &super::call::TYPE,
            NodeKind::Gate => &super::gate::TYPE,
            NodeKind::Set => &super::set::TYPE,
            NodeKind::Fail => &super::fail::TYPE,
        }
    }
}

impl fmt::Display for NodeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a checked node of each type holds. It can do what every [`Spec`] can.
#[derive(Debug)]
pub(crate) enum NodeSpec {
    Classify(Box<Classify>),
    Generate(Box<Generate>),
    Validate(Box<Validate>),
    Repair(Box<Repair>),
    Select(Box<Select>),
    Judge(Box<Judge>),
    Tool(Box<Tool>),
    Merge(Box<Merge>),
    Stream(Box<Stream>),
    Loop(Box<Loop>),
    Map(Box<Map>),
    Call(Box<Call>),
    Gate(Box<Gate>),
    Set(Box<Set>),
    Fail(Box<Fail>),
}

impl NodeSpec {
    pub(crate) const fn kind(&self) -> NodeKind {
        match self {
            NodeSpec::Classify(_) => NodeKind::Classify,
            NodeSpec::Generate(_) => NodeKind::Generate,
            NodeSpec::Validate(_) => NodeKind::Validate,
            NodeSpec::Repair(_) => NodeKind::Repair,
            NodeSpec::Select(_) => NodeKind::Select,
            NodeSpec::Judge(_) => NodeKind::Judge,
            NodeSpec::Tool(_) => NodeKind::Tool,
            NodeSpec::Merge(_) => NodeKind::Merge,
            NodeSpec::Stream(_) => NodeKind::Stream,
            NodeSpec::Loop(_) => NodeKind::Loop,
            NodeSpec::Map(_) => NodeKind::Map,
            NodeSpec::Call(_) => NodeKind::Call,
            NodeSpec::Gate(_) => NodeKind::Gate,
            NodeSpec::Set(_) => NodeKind::Set,
            NodeSpec::Fail(_) => NodeKind::Fail,
        }
    }

    /// What it holds, if it is a node of that type: `spec.get::<Generate>()`.
    pub(crate) fn get<T: Spec>(&self) -> Option<&T> {
        (&**self as &dyn Any).downcast_ref()
    }

    /// The same to be changed.
    pub(crate) fn get_mut<T: Spec>(&mut self) -> Option<&mut T> {
        (&mut **self as &mut dyn Any).downcast_mut()
    }
}

impl Deref for NodeSpec {
    type Target = dyn Spec;

    fn deref(&self) -> &Self::Target {
        match self {
            NodeSpec::Classify(spec) => &**spec,
            NodeSpec::Generate(spec) => &**spec,
            NodeSpec::Validate(spec) => &**spec,
            NodeSpec::Repair(spec) => &**spec,
            NodeSpec::Select(spec) => &**spec,
            NodeSpec::Judge(spec) => &**spec,
            NodeSpec::Tool(spec) => &**spec,
            NodeSpec::Merge(spec) => &**spec,
            NodeSpec::Stream(spec) => &**spec,
            NodeSpec::Loop(spec) => &**spec,
            NodeSpec::Map(spec) => &**spec,
            NodeSpec::Call(spec) => &**spec,
            NodeSpec::Gate(spec) => &**spec,
            NodeSpec::Set(spec) => &**spec,
            NodeSpec::Fail(spec) => &**spec,
        }
    }
}

impl DerefMut for NodeSpec {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            NodeSpec::Classify(spec) => &mut **spec,
            NodeSpec::Generate(spec) => &mut **spec,
            NodeSpec::Validate(spec) => &mut **spec,
            NodeSpec::Repair(spec) => &mut **spec,
            NodeSpec::Select(spec) => &mut **spec,
            NodeSpec::Judge(spec) => &mut **spec,
            NodeSpec::Tool(spec) => &mut **spec,
            NodeSpec::Merge(spec) => &mut **spec,
            NodeSpec::Stream(spec) => &mut **spec,
            NodeSpec::Loop(spec) => &mut **spec,
            NodeSpec::Map(spec) => &mut **spec,
            NodeSpec::Call(spec) => &mut **spec,
            NodeSpec::Gate(spec) => &mut **spec,
            NodeSpec::Set(spec) => &mut **spec,
            NodeSpec::Fail(spec) => &mut **spec,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_records_and_of_the_schema_for_editors() {
        let schema = crate::editor::schema();
        let defined: Vec<&str> = schema["$defs"]
            .as_object()
            .unwrap()
            .keys()
            .filter_map(|name| name.strip_prefix("node_"))
            .collect();
        let mut named: Vec<&str> = NodeKind::ALL.iter().map(|k| k.as_str()).collect();
        for kind in NodeKind::ALL.iter().copied() {
            assert_eq!(NodeKind::parse(kind.as_str()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
            assert!(defined.contains(&kind.as_str()), "{kind}");
        }
        named.sort_unstable();
        named.dedup();
        assert_eq!(named.len(), NodeKind::ALL.len());
    }
}
