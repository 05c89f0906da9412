//! Values that policies, experiments and forks give the constants of a workflow.

use crate::load::{Gives, misgiven, unfit};
use crate::plan::Workflow;
use serde_json::{Map, Value};
use types::diagnostic::{kind, suggestion};
use types::doc::Span;

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

    /// Its inputs by name, each as its file declares it; a schema stands in the place of the file that holds it.
    #[must_use]
    pub fn inputs(&self) -> Map<String, Value> {
        self.inputs.iter().map(|given| (given.name().to_owned(), given.canonical().clone())).collect()
    }

    /// What is wrong with inputs as a file writes them, each a name, its place and its value: where (`None` = one is
    /// missing), what, and how it is mended.
    #[must_use]
    pub fn misgiven(&self, given: &[(&str, Span, Value)]) -> Vec<(Option<Span>, String, String)> {
        let names: Vec<(&str, Span)> = given.iter().map(|(name, span, _)| (*name, *span)).collect();
        let named = misgiven(&self.inputs, &names).into_iter().map(|(span, what, hint)| {
            let none = || format!("`{}` takes no inputs", self.name);
            (span, what, if hint.is_empty() { none() } else { hint })
        });
        let wrong = given.iter().filter_map(|(name, span, value)| {
            let (what, takes) = unfit(&self.inputs, name, &Gives::Value(value.clone()))?;
            Some((Some(*span), what, takes.map(|t| format!("give it {t}")).unwrap_or_default()))
        });
        named.chain(wrong).collect()
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
