//! One line per key, shown by editors. A key that has none is still known.

/// What a key of a definition is for; a definition without a line of its own shares the common one.
pub(super) fn of(def: &str, key: &str) -> Option<&'static str> {
    let line =
        |wanted: &str| LINES.iter().find(|(d, k, _)| *d == wanted && *k == key).map(|(.., text)| *text);
    line(def).or_else(|| line("*"))
}

/// The definition of one entry of a list or map of that name.
pub(super) fn one_of(name: &str) -> &str {
    ENTRIES.iter().find(|(many, _)| *many == name).map_or(name, |(_, one)| one)
}

const ENTRIES: &[(&str, &str)] = &[
    ("edges", "edge"),
    ("needs", "need"),
    ("rules", "rule"),
    ("criteria", "criterion"),
    ("inputs", "input"),
    ("pools", "route"),
    ("escalate", "route"),
    ("validators", "validators_item"),
    ("messages", "message"),
    ("prompts", "message"),
];

/// Definition (`*`: any), key, line.
const LINES: &[(&str, &str, &str)] = &[
    ("workflow", "version", "Version of the format: 1"),
    ("workflow", "name", "The name; it is also the name of the file"),
    ("workflow", "revision", "A label of the author's own"),
    ("workflow", "description", "What it is for, in a sentence"),
    ("workflow", "owner", "Who to ask about it"),
    ("workflow", "labels", "Copied to the records of its runs"),
    ("workflow", "inputs", "What a run may be given beside its request"),
    ("workflow", "vars", "Constants, read as vars.<name>"),
    ("workflow", "pools", "Pools of models of its own"),
    ("workflow", "validators", "Validators of its own, used by name"),
    ("workflow", "prompts", "Prompts used by name"),
    ("workflow", "defaults", "Keys that stand under those of every node, or of every node of a type"),
    (
        "workflow",
        "serves",
        "When this holds for a request, the router may choose this workflow; without it, it runs by name",
    ),
    ("workflow", "limits", "Ceilings of one run: money, time, tokens, calls"),
    ("workflow", "nodes", "The nodes of the graph"),
    ("workflow", "edges", "The edges of the graph; an edge may ask for an outcome"),
    ("workflow", "output", "The completion to deliver; short for a stream node"),
    ("workflow", "on_failure", "What to do when the run fails: another workflow, or the best answer so far"),
    ("workflow", "durability", "When the journal of a run is written"),
    ("workflow", "tests", "Where its tests stand"),
    ("node", "type", "What the node does"),
    ("edge", "from", "Where it starts; a list stands for several edges"),
    ("edge", "to", "Where it leads; a list stands for several edges"),
    ("edge", "outcome", "Which outcomes of the node it accepts; without it every one but errors"),
    ("edge", "else", "Live only if no other edge of the node that accepts the outcome is"),
    ("limits", "usd", "Money for all calls together, in US dollars"),
    ("limits", "wall", "Time for the whole run"),
    ("limits", "tokens", "Input and output tokens of all calls together"),
    ("limits", "calls", "Model calls of one run"),
    ("limits", "node_runs", "Runs of nodes, those within loops counted each time"),
    ("limits", "parallel", "Nodes that may wait at the same time"),
    ("limits", "finish_reserve", "Kept free at the end to deliver what there is"),
    ("limits", "on_exhausted", "Deliver the best answer so far, or fail"),
    ("route", "pool", "Only models of this pool"),
    ("route", "model", "Only this model: provider/model"),
    ("route", "strategy", "How to order the models that fit"),
    ("route", "not_first", "Not the model that this strategy would ask first"),
    ("route", "prefer", "Selectors of models that come first"),
    ("route", "require", "Only models that these select"),
    ("route", "exclude", "No model that these select"),
    ("route", "min_tier", "Lowest quality tier, 1 to 3"),
    ("route", "capabilities", "Abilities that the models must have"),
    ("route", "where", "A predicate over `model`"),
    ("route", "distinct_from", "No model that gave these completions"),
    ("route", "family_not", "No family of models that gave these completions"),
    ("node_validate", "validators", "Checks to run, by name or with parameters"),
    ("node_repair", "from", "The validate node whose failed answer is repaired"),
    ("node_repair", "strategies", "What to try, in this order; `fix` costs no call"),
    ("node_repair", "max_attempts", "Most model calls"),
    ("node_select", "from", "Completions to choose from; sources that did not run give none"),
    ("node_stream", "from", "The completion that the client gets"),
    ("node_stream", "mode", "When text may leave: once all is checked, or as it comes"),
    ("node_judge", "input", "The completions to judge"),
    ("node_judge", "threshold", "From this score on the outcome is `passed`"),
    ("node_tool", "tool", "The tool of the registry"),
    ("node_tool", "args", "Its arguments; texts may hold ${ expressions }"),
    ("node_loop", "body", "The graph that is repeated"),
    ("node_loop", "until", "Ends the loop, after an iteration"),
    ("node_loop", "while", "Goes on, before an iteration"),
    ("node_loop", "max_iterations", "Most iterations, the first included"),
    ("node_map", "over", "The list, one run of the body for each of its items"),
    ("node_map", "body", "The graph that is run for each item"),
    ("node_call", "workflow", "The workflow to run"),
    ("node_gate", "prompt", "What the person who decides is shown"),
    ("node_set", "values", "Names and the expressions of their values"),
    ("node_fail", "code", "The code of the error"),
    ("node_fail", "message", "Its text; it may hold ${ expressions }"),
    ("*", "id", "The node's name: others refer to it as nodes.<id>"),
    ("*", "needs", "Edges into this node, written at the node"),
    ("*", "join", "When it starts: all sources that can still come, strict, any, or at_least n"),
    ("*", "when", "An expression that must hold"),
    ("*", "enabled", "`false`: it stays in the graph and is always skipped"),
    ("*", "timeout", "Most time it may take, with its unit"),
    ("*", "budget", "A part of the run's budget that it may not exceed"),
    ("*", "retry", "How failed calls are tried again"),
    ("*", "on_error", "What a failure comes to when no edge takes it up"),
    ("*", "cache", "Whether a stored result may be used, and this one stored"),
    ("*", "async", "It runs after the response"),
    ("*", "lint", "Warnings that are meant to be so"),
    ("*", "labels", "Labels for traces"),
    ("*", "title", "A title for people"),
    ("*", "route", "Which models may serve it"),
    ("*", "model", "Exactly this model: provider/model"),
    ("*", "samples", "How many answers to ask for"),
    ("*", "params", "Sampling parameters"),
    ("*", "response", "The form of the answer"),
    ("*", "input", "What it works on"),
    ("*", "outcome", "Which outcomes it accepts"),
    ("*", "label", "Shown in drawings"),
];

#[cfg(test)]
pub(super) fn lines() -> impl Iterator<Item = (&'static str, &'static str)> {
    LINES.iter().map(|(def, key, _)| (*def, *key))
}
