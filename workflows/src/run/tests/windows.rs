//! Scenario 16: whatever the split of a text into pieces, nothing of what is forbidden goes out.

use super::prose;
use super::streaming::{AT_ONCE, FORBIDDEN, body, flow};
use crate::testing::*;
use crate::{Ending, Workflow};
use proptest::prelude::*;
use std::sync::Arc;

/// Plays a text in these pieces: what goes out is its beginning, at most up to where what is forbidden starts. Gives how
/// much that is.
async fn play(w: &Arc<Workflow>, text: &'static str, starts: usize, cuts: &[usize]) -> usize {
    let ends: Vec<usize> = [&[0][..], cuts, &[text.len()]].concat();
    let parts = ends.windows(2).map(|w| Some(&text[w[0]..w[1]])).collect();
    let fixed = vec![Says::Text(1, "fine")];
    let script = Script::new(vec![("ask", vec![Says::Stream(parts)]), ("fix", fixed)]);
    let (got, ending, _) = flow(w, prose(), &script).await;
    assert!(text.starts_with(&got) && got.len() <= starts, "{cuts:?}: {got:?} of {text:?}");
    assert!(!matches!(ending, Ending::Streamed { .. }), "{cuts:?}: {ending:?}");
    // What had gone out cannot be taken back: it ends as a failure, or nobody has seen anything.
    assert_eq!(matches!(ending, Ending::Failed(_)), !got.is_empty(), "{cuts:?}: {ending:?}");
    got.len()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// A check, a text that it forbids, and what of it is forbidden.
const SMALL: &[(&str, &str, &str)] = &[
    ("{ use: keywords, with: { none: [bad] } }", "a bad b", "bad"),
    ("{ use: keywords, with: { none: [bad] } }", "bada bad", " bad"),
    ("{ use: keywords, with: { none: [\"so so\"] } }", "so, so so", "so so"),
    ("{ use: keywords, with: { none: [öl] } }", "ö öl ö.", "öl"),
    ("{ use: regex, with: { must_not: [\"b+d\"], max_len: 8 } }", "ab bbd b", "bbd"),
    ("{ use: pii, with: { entities: [email] } }", "x a@b.de y", "a@b.de"),
];

/// Every way to cut small texts into pieces.
#[test]
fn scenario_16_no_way_to_cut_a_small_text_lets_what_is_forbidden_out() {
    for (check, text, forbidden) in SMALL {
        let w = workflow(&body(check, AT_ONCE, "reprompt"));
        let starts = text.find(forbidden).unwrap() + forbidden.len() - forbidden.trim_start().len();
        let places: Vec<usize> = (1..text.len()).filter(|i| text.is_char_boundary(*i)).collect();
        let most = runtime().block_on(async {
            let mut most = 0;
            for which in 0..1_u32 << places.len() {
                let chosen = places.iter().enumerate().filter(|(i, _)| which & (1 << i) != 0);
                most = play(&w, text, starts, &chosen.map(|(_, at)| *at).collect::<Vec<_>>()).await.max(most);
            }
            most
        });
        assert!(most > 0, "{text}: what holds everything back shows nothing");
    }
}

const LONG: &[(&str, &str, &str)] = &[
    (
        FORBIDDEN,
        "Words that are harmless come first, then for a moment it looks bad, and then forbidden things follow. And more.",
        "forbidden",
    ),
    ("secrets", "The key of it is AKIAQ3EGUV5WZ2T7YRMB, and nobody should see that.", "AKIA"),
    ("pii", "Write to the office, or to ada.lovelace@analytic.uk if it is urgent, and wait.", "ada."),
    (
        "{ use: regex, with: { must_not: [\"[0-9]{3}-[0-9]{4}\"], max_len: 16 } }",
        "Call 55 or 555- or five, but not 555-0199, whatever they say.",
        "555-0199",
    ),
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The same of longer texts, for some of the ways to cut them.
    #[test]
    fn scenario_16_a_window_never_releases_a_forbidden_pattern(cuts in prop::collection::vec(1..200_usize, 0..24)) {
        for (check, text, forbidden) in LONG {
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c % text.len()).filter(|c| *c > 0).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let w = workflow(&body(check, AT_ONCE, "reprompt"));
            runtime().block_on(play(&w, text, text.find(forbidden).unwrap(), &cuts));
        }
    }
}
