//! Values that policies, experiments and forks give the constants of a workflow.

use crate::plan::Workflow;
use serde_json::{Map, Value};
use types::diagnostic::{kind, suggestion};

impl Workflow {
    /// Whether its constants can be set so.
    ///
    /// # Errors
    /// The first name that it does not declare, or whose value is of another type, and what is wrong with it.
    pub fn takes_vars(&self, given: &Map<String, Value>) -> Result<(), (String, String)> {
        for (name, value) in given {
            let fits = match self.vars.get(name) {
                Some(own) => fits(name, own, value),
                None => {
                    let hint = suggestion(name, self.vars().collect::<Vec<_>>());
                    Err(format!("the workflow `{}` declares no variable `{name}`; {hint}", self.name))
                }
            };
            fits.map_err(|why| (name.clone(), why))?;
        }
        Ok(())
    }
}

/// Whether a constant can have another value in the place of its own.
///
/// # Errors
/// It is of another type.
pub(crate) fn fits(name: &str, own: &Value, value: &Value) -> Result<(), String> {
    if std::mem::discriminant(own) == std::mem::discriminant(value) {
        return Ok(());
    }
    Err(format!("the variable `{name}` cannot be {}; expected {}", kind(value), kind(own)))
}

#[cfg(test)]
mod tests {
    use crate::testing::workflow;
    use serde_json::json;

    #[test]
    fn constants_are_set_by_their_names_and_types() {
        let w = workflow(
            "vars: { drafts: 3, tone: plain }\nnodes: [{ id: ask, type: generate }]\noutput: nodes.ask.completion\n",
        );
        let check = |given: serde_json::Value, want: Option<(&str, &str)>| {
            let got = w.takes_vars(given.as_object().unwrap());
            match (&got, want) {
                (Ok(()), None) => {}
                (Err((name, why)), Some((of, part))) => assert!(name == of && why.contains(part), "{why}"),
                _ => panic!("{given}: {got:?}"),
            }
        };
        check(json!({}), None);
        check(json!({"drafts": 4, "tone": "warm"}), None);
        check(json!({"draft": 4}), Some(("draft", "did you mean `drafts`?")));
        check(json!({"tone": 4}), Some(("tone", "`tone` cannot be a number; expected a text")));
    }
}
