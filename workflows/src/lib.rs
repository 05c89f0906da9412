//! Declarative graphs: YAML to a checked graph to a run
