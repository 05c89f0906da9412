//! What an evaluation costs; run by hand: `cargo test -p policies speed -- --ignored --nocapture`.

use crate::testing::{around, full_body, plain_body, profile, sound};
use crate::{Inputs, Phase, SHIPPED, scope};
use std::io::Write as _;
use std::sync::Arc;
use types::ChatRequest;

const RULES: &str = include_str!("../../../routing_rules.yaml");

#[test]
#[ignore = "prints figures of this machine and asserts nothing"]
fn of_the_shipped_rules() {
    let set = sound(RULES, SHIPPED);
    let rules_only = sound(RULES, &[]);
    let (profile, around) = (profile(), around());
    for (name, body) in [("plain", plain_body()), ("full", full_body())] {
        let request = Arc::new(ChatRequest::from_value(&body).unwrap());
        let inputs = Inputs { request: &request, profile: &profile, around: &around, unix_ms: 0 };
        let mut line = format!("{name:>6}");
        let mut measure = |what: &str, f: &mut dyn FnMut()| {
            for _ in 0..200 {
                f();
            }
            let start = tokio::time::Instant::now();
            for _ in 0..2_000 {
                f();
            }
            line += &format!("   {what} {:.2} us", start.elapsed().as_secs_f64() * 1e6 / 2_000.0);
        };
        measure("scope", &mut || drop(scope(&inputs)));
        measure("scope+rules", &mut || drop(rules_only.evaluate_now(Phase::Request, &scope(&inputs))));
        measure("scope+rules+script", &mut || drop(set.evaluate_now(Phase::Request, &scope(&inputs))));
        let _ = writeln!(std::io::stdout(), "{line}");
    }
}
