//! People who have to agree before a tool is called.

use crate::ending::{Suspension, Waiting};
use crate::node::Fault;
use crate::run::At;
use crate::world::{Consent, EffectId, EffectKind, GateAsk, GateReply};
use serde_json::Value as Json;
use std::sync::Arc;
use std::time::Duration;

/// Most bytes of the arguments that are shown.
const SHOWN: usize = 4_096;

/// Asks each group in turn; gives why the call is not made, `None` where all have agreed.
///
/// # Errors
/// Somebody has not decided yet: the run waits.
pub(super) async fn ask(
    at: &At<'_>,
    tool: &str,
    args: &Json,
    groups: &[Consent],
) -> Result<Option<String>, Fault> {
    for consent in groups {
        // A decision belongs to a frame: each group has one of its own.
        let frame: Arc<str> = format!("{}/{}", at.path, consent.group).into();
        let ask = GateAsk {
            id: EffectId::new(&frame, EffectKind::Gate, 0, 1),
            prompt: prompt(tool, args, &consent.reason),
            approvers: vec![consent.group.clone()],
            self_approval: false,
            expires: Duration::from_millis(consent.expires_ms),
        };
        match at.gate(ask.clone()).await {
            None => {
                let waiting = Waiting::Decision(ask);
                return Err(Fault::Suspended(vec![Suspension { frame, waiting }]));
            }
            Some(GateReply::Approved(_)) => {}
            Some(GateReply::Rejected(_)) => {
                return Ok(Some(format!("`{}` did not agree to the call", consent.group)));
            }
            Some(GateReply::Expired) => {
                return Ok(Some(format!("`{}` did not agree to the call in time", consent.group)));
            }
        }
    }
    Ok(None)
}

/// What people are shown: the very call that is made once they agree. Arguments too long to show are named by
/// their hash, so that a decision about them holds for no others.
fn prompt(tool: &str, args: &Json, reason: &str) -> String {
    let mut shown = args.to_string();
    if shown.len() > SHOWN {
        let hash = blake3::hash(shown.as_bytes()).to_hex();
        let end = (0..=SHOWN).rev().find(|i| shown.is_char_boundary(*i)).unwrap_or(0);
        shown.truncate(end);
        shown.push_str(&format!("\n[cut; all of it: blake3 {hash}]"));
    }
    let reason = if reason.is_empty() { String::new() } else { format!("{reason}\n") };
    format!("{reason}Call of the tool `{tool}` with\n{shown}")
}
