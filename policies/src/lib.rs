//! Who may use what, when and how: rules and Rhai policies to Directives
