//! What clients do with answers: who asks the same again teaches that they are not kept.

use super::house::{House, RULES, house, model, prose, schema, whole};
use engine::Answer;
use serde_json::{Value, json};

/// Asks, and says which model answered.
async fn served(h: &House, body: &Value) -> (String, String) {
    let (id, answer) = h.ask(body.clone()).await;
    let Ok(Answer::Whole(w)) = answer else { panic!("{answer:?}") };
    (id, w.head.model.to_string())
}

/// 300 conversations whose clients ask again for what `p/a` answered, and go on from what `p/b` did. Of the last 100, how
/// many began with `p/b`.
async fn learned(h: &House, begin: &Value) -> u32 {
    let mut last_100 = 0;
    for i in 0..300 {
        let mut body = begin.clone();
        body["routing"] = json!({"session": format!("s{i}")});
        let (id, by) = served(h, &body).await;
        last_100 += u32::from(i >= 200 && by == "p/b");
        if by == "p/b" {
            let messages = body["messages"].as_array_mut().unwrap();
            messages.push(json!({"role": "assistant", "content": "an answer"}));
            messages.push(json!({"role": "user", "content": "And how do they build them today?"}));
        }
        served(h, &body).await;
        let noted = h.stored(&id).await;
        let checked = noted.record.outcome.parts.contract.is_some();
        let want = if by == "p/a" { Some(0.0) } else { Some(1.0).filter(|_| !checked) };
        assert_eq!(noted.record.outcome.parts.no_retry, want, "{by}");
        assert_eq!(noted.feedback.len(), usize::from(want.is_some()));
    }
    last_100
}

#[tokio::test(start_paused = true)]
async fn the_choice_leaves_a_model_whose_answers_clients_ask_for_again() {
    // The model that is left is the cheaper one, which is what would be chosen if nothing were learned.
    let models = || vec![model("a", 1.0), model("b", 1.1)];
    let h = house(models(), RULES, |c| Ok(whole(c, "an answer")));
    let share = learned(&h, &prose()).await;
    assert!(share >= 85, "{share} of the last 100 conversations in prose");
    let h = house(models(), RULES, |c| Ok(whole(c, r#"{"name": "Ada"}"#)));
    let share = learned(&h, &schema()).await;
    assert!(share >= 85, "{share} of the last 100 with a contract that holds");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_the_same_all_the_time_teaches_nothing_by_it() {
    let h = house(vec![model("a", 1.0)], RULES, |c| Ok(whole(c, "an answer")));
    let mut noted = 0;
    for _ in 0..50 {
        let (id, _) = served(&h, &prose()).await;
        served(&h, &prose()).await;
        noted += h.stored(&id).await.feedback.len();
    }
    assert_eq!(noted, 1);
}
