//! The linear model of the task family: weights of structure, signals and hashed n-grams per class.
//!
//! What ships stands in `model/family.model`, trained by [`crate::train`]; beside it are where the data came
//! from, the seed and the training report. Log odds are linear in the features, so every one of them can be
//! taken apart into what moved it ([`crate::explain`]).

mod file;

pub(crate) use file::write;

use crate::dense;
use crate::grams::{BUCKETS, Gram, Sink};
use std::sync::LazyLock;
use types::axis::TaskFamily;
use types::profile::SubLabel;

/// What the model tells apart; mathematics and literary writing are refinements of chat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    Chat,
    Math,
    Creative,
    Extraction,
    Coding,
    Planning,
    ToolUse,
    Rag,
    Eval,
    AgentLoop,
}

/// How many classes there are.
pub(crate) const CLASSES: usize = Class::ALL.len();

/// A number per class.
pub(crate) type PerClass = [f32; CLASSES];

impl Class {
    /// Every class, in the order of the model's columns.
    pub(crate) const ALL: [Class; 10] = [
        Class::Chat,
        Class::Math,
        Class::Creative,
        Class::Extraction,
        Class::Coding,
        Class::Planning,
        Class::ToolUse,
        Class::Rag,
        Class::Eval,
        Class::AgentLoop,
    ];

    /// As labels and reports name it.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Class::Math => "math",
            Class::Creative => "creative",
            Class::Chat => "chat",
            Class::Extraction => "extraction",
            Class::Coding => "coding",
            Class::Planning => "planning",
            Class::ToolUse => "tool_use",
            Class::Rag => "rag",
            Class::Eval => "eval",
            Class::AgentLoop => "agent_loop",
        }
    }

    /// The class of that name.
    pub(crate) fn parse(name: &str) -> Option<Class> {
        Class::ALL.into_iter().find(|c| c.as_str() == name)
    }

    /// The family it belongs to.
    pub(crate) const fn family(self) -> TaskFamily {
        match self {
            Class::Chat | Class::Math | Class::Creative => TaskFamily::Chat,
            Class::Extraction => TaskFamily::Extraction,
            Class::Coding => TaskFamily::Coding,
            Class::Planning => TaskFamily::Planning,
            Class::ToolUse => TaskFamily::ToolUse,
            Class::Rag => TaskFamily::Rag,
            Class::Eval => TaskFamily::Eval,
            Class::AgentLoop => TaskFamily::AgentLoop,
        }
    }

    /// The refinement it stands for.
    pub(crate) const fn sub_label(self) -> Option<SubLabel> {
        match self {
            Class::Math => Some(SubLabel::Math),
            Class::Creative => Some(SubLabel::Creative),
            _ => None,
        }
    }
}

/// Columns of the n-gram table: the classes and what fills a vector register.
const LANES: usize = 16;

/// The weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Model {
    /// Log odds are divided by this before they become probabilities, so that the confidence is honest.
    pub(crate) temperature: f32,
    /// Log odds of a request of which nothing is known.
    pub(crate) bias: PerClass,
    /// Per number of [`dense::numbers`].
    pub(crate) dense: Vec<PerClass>,
    /// What one step of an n-gram weight is worth.
    pub(crate) gram_scale: f32,
    /// Per bucket of [`crate::grams`], in steps.
    grams: Vec<[i8; LANES]>,
}

/// What ships.
static SHIPPED: LazyLock<Model> = LazyLock::new(|| {
    // A damaged file cannot ship (a test reads it); should it all the same, the hand-written start still profiles.
    file::read(include_bytes!("../model/family.model")).unwrap_or_else(|_| crate::train::prior::model())
});

impl Model {
    /// The model that is built in.
    pub(crate) fn shipped() -> &'static Model {
        &SHIPPED
    }

    /// A model of these weights; n-gram weights are rounded to the steps of `i8`.
    pub(crate) fn quantised(
        temperature: f32,
        bias: PerClass,
        dense: Vec<PerClass>,
        grams: &[PerClass],
    ) -> Self {
        let greatest = grams.iter().flatten().fold(0.0_f32, |m, w| m.max(w.abs()));
        let gram_scale = if greatest > 0.0 { greatest / 127.0 } else { 1.0 };
        let quantised = |weights: &PerClass| {
            let mut row = [0_i8; LANES];
            for (slot, w) in row.iter_mut().zip(weights) {
                // At most 127 by construction.
                *slot = (w / gram_scale).round() as i8;
            }
            row
        };
        let mut rows: Vec<[i8; LANES]> = grams.iter().map(quantised).collect();
        rows.resize(BUCKETS, [0; LANES]);
        // Three places are plenty, and keep the file the same where a last bit differs.
        let round = |w: f32| (w * 1e3).round() / 1e3;
        Model {
            temperature: round(temperature),
            bias: bias.map(round),
            dense: dense.into_iter().map(|row| row.map(round)).collect(),
            gram_scale,
            grams: rows,
        }
    }

    /// Sums up the n-grams of one request.
    pub(crate) fn sums(&self) -> GramSums<'_> {
        GramSums { model: self, sums: [0.0; LANES], squares: 0.0 }
    }

    /// Weights of an n-gram's bucket.
    pub(crate) fn gram(&self, bucket: usize) -> PerClass {
        let mut out = [0.0; CLASSES];
        for (slot, step) in out.iter_mut().zip(self.grams.get(bucket).into_iter().flatten()) {
            *slot = f32::from(*step) * self.gram_scale;
        }
        out
    }

    /// Log odds per class, before the temperature.
    pub(crate) fn log_odds(&self, numbers: &[f32; dense::COUNT], grams: &GramSums<'_>) -> PerClass {
        let mut out = self.bias;
        for (number, weights) in numbers.iter().zip(&self.dense) {
            if *number != 0.0 {
                for (sum, w) in out.iter_mut().zip(weights) {
                    *sum += number * w;
                }
            }
        }
        for (sum, gram) in out.iter_mut().zip(grams.per_class()) {
            *sum += gram;
        }
        out
    }

    /// Probability per class.
    pub(crate) fn probabilities(&self, log_odds: &PerClass) -> PerClass {
        softmax(log_odds, self.temperature)
    }
}

/// exp(x_i / t) / Σ exp(x_j / t).
pub(crate) fn softmax(log_odds: &PerClass, temperature: f32) -> PerClass {
    let top = log_odds.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let raised = log_odds.map(|x| ((x - top) / temperature).exp());
    let sum: f32 = raised.iter().sum();
    raised.map(|x| x / sum)
}

/// Sums of n-gram weights, scaled by the length of the request's n-gram vector.
pub(crate) struct GramSums<'a> {
    model: &'a Model,
    sums: [f32; LANES],
    squares: f32,
}

impl GramSums<'_> {
    fn per_class(&self) -> PerClass {
        let length = if self.squares > 0.0 { self.squares.sqrt() } else { 1.0 };
        let scale = self.model.gram_scale / length;
        let mut out = [0.0; CLASSES];
        for (slot, sum) in out.iter_mut().zip(self.sums) {
            *slot = sum * scale;
        }
        out
    }
}

impl Sink for GramSums<'_> {
    fn gram(&mut self, bucket: usize, weight: f32, _: Gram) {
        self.squares += weight * weight;
        let Some(row) = self.model.grams.get(bucket) else { return };
        for (sum, step) in self.sums.iter_mut().zip(row) {
            *sum += f32::from(*step) * weight;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_is_whole_and_fits_the_features() {
        let shipped = include_bytes!("../model/family.model");
        let model =
            file::read(shipped).expect("model/family.model fits: train it again after a change of features");
        assert_eq!(&model, Model::shipped());
        assert!(shipped.len() < 300 * 1024, "{} bytes", shipped.len());
    }

    #[test]
    fn classes_and_names_agree() {
        for (i, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!((class as usize, Class::parse(class.as_str())), (i, Some(class)));
        }
    }

    #[test]
    fn probabilities_sum_to_one_even_for_great_odds() {
        let p = softmax(&[900.0, -900.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 899.0], 1.0);
        assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6 && p[0] > p[9]);
    }
}
