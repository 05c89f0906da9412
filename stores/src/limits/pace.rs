//! How fast a limit is used up: an exponentially weighted mean of what is used per time.
//!
//! ```text
//! r(t) = Σ xᵢ·exp(−(t−tᵢ)/τ)/τ  /  (1 − exp(−a/τ))
//! ```
//!
//! `xᵢ` was used at `tᵢ`; τ is a quarter of the window, so that the forecast follows a change of pace within the
//! window, and one large request does not look like a new pace (Roberts, 1959, in continuous time). `a` is how long
//! there has been counting: what was used before that is not known to have been nothing (the correction of a mean that
//! begins at zero, as Kingma and Ba, 2015). It counts as τ/24 at least. Where counting goes on after a restart, r is the
//! mean since the window began, and a its age.

use types::limits::Window;

const HOUR_MS: f64 = 3_600_000.0;
/// Share of τ that the counting is taken to last at least: a quarter of an hour of a day, seven hours of a month.
const LEAST: f64 = 1.0 / 24.0;

/// The pace of one limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Without the correction for its age.
    per_ms: f64,
    at_ms: u64,
    /// Since the counting began, at `at_ms`.
    age_ms: f64,
    tau_ms: f64,
}

impl Pace {
    /// Nothing yet; `None` for windows that slide, which are over before a forecast helps.
    pub(super) fn new(window: Window, at_ms: u64) -> Option<Pace> {
        let hours = match window {
            Window::Request | Window::Sliding(_) => return None,
            Window::Day => 6.0,
            Window::Month => 7.0 * 24.0,
        };
        Some(Pace { per_ms: 0.0, at_ms, age_ms: 0.0, tau_ms: hours * HOUR_MS })
    }

    /// Goes on from a time before this process, in which so much was used within so many milliseconds.
    pub(super) fn resume(&mut self, used: u64, within_ms: i64) {
        self.age_ms = within_ms.max(0) as f64;
        self.per_ms = used as f64 / self.age_ms.max(self.tau_ms * LEAST) * self.known();
    }

    /// Share of the whole mean that stems from the time since the counting began, 0..=1.
    fn known(&self) -> f64 {
        -(-(self.age_ms / self.tau_ms).max(LEAST)).exp_m1()
    }

    fn advance(&mut self, at_ms: u64) {
        let passed = at_ms.saturating_sub(self.at_ms) as f64;
        self.per_ms *= (-passed / self.tau_ms).exp();
        self.age_ms += passed;
        self.at_ms = self.at_ms.max(at_ms);
    }

    /// So much was used now.
    pub(super) fn add(&mut self, used: u64, at_ms: u64) {
        self.advance(at_ms);
        self.per_ms += used as f64 / self.tau_ms;
    }

    /// Units an hour.
    pub(super) fn per_hour(&mut self, at_ms: u64) -> f64 {
        self.advance(at_ms);
        self.per_ms / self.known() * HOUR_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: u64 = 60_000;

    #[test]
    fn a_steady_pace_is_found_and_a_new_one_followed() {
        let mut p = Pace::new(Window::Day, 0).unwrap();
        let spend = |p: &mut Pace, from: u64, hours: u64, each: u64| {
            for i in 0..hours * 60 {
                p.add(each, from + i * MINUTE);
            }
        };
        spend(&mut p, 0, 24, 1_000);
        let steady = p.per_hour(24 * 60 * MINUTE);
        assert!((steady - 60_000.0).abs() < 0.03 * 60_000.0, "{steady}");
        spend(&mut p, 24 * 60 * MINUTE, 12, 5_000);
        let faster = p.per_hour(36 * 60 * MINUTE);
        assert!(faster > 250_000.0 && faster < 300_000.0, "{faster}");
        assert!(p.per_hour(60 * 60 * MINUTE) < 0.05 * faster, "what stops is forgotten");
        assert!(Pace::new(Window::Sliding(1_000), 0).is_none());
    }

    #[test]
    fn it_goes_on_where_the_last_process_stopped() {
        let mut p = Pace::new(Window::Day, 0).unwrap();
        p.resume(1_200, 12 * 3_600_000);
        assert!((p.per_hour(0) - 100.0).abs() < 1e-6);
        // Seconds after midnight are no pace to speak of: a quarter of an hour is the least.
        p.resume(100, 1_000);
        assert!((p.per_hour(0) - 400.0).abs() < 1e-6);
    }

    #[test]
    fn a_new_budget_is_told_its_pace_from_the_first_hour_on() {
        let mut day = Pace::new(Window::Day, 0).unwrap();
        let mut month = Pace::new(Window::Month, 0).unwrap();
        for minute in 0..48 * 60 {
            let now = minute * MINUTE;
            day.add(1_000, now);
            month.add(1_000, now);
            for (pace, from) in [(&mut day, 60), (&mut month, 7 * 60)] {
                let told = pace.per_hour(now);
                assert!(
                    minute < from || (told - 60_000.0).abs() < 0.1 * 60_000.0,
                    "{told} in minute {minute}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn never_negative_and_never_more_than_all_at_once(uses in proptest::collection::vec((0_u64..600_000, 0_u64..1_000_000), 1..50)) {
            let mut p = Pace::new(Window::Month, 0).unwrap();
            let (mut now, mut sum) = (0, 0);
            for (gap, n) in uses {
                now += gap;
                sum += n;
                p.add(n, now);
                let pace = p.per_hour(now);
                prop_assert!(pace >= 0.0 && pace <= sum as f64 / 7.0 * 1.03 + 1e-6);
            }
        }
    }
}
