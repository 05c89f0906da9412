//! The model as bytes: little-endian, with a mark of the features it was trained for.

use super::{CLASSES, LANES, Model};
use crate::dense;
use crate::grams::BUCKETS;

const MAGIC: &[u8; 8] = b"TURNPROF";
const VERSION: u8 = 1;

/// Why bytes are no model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Damage {
    /// Something else, or another version.
    #[error("the bytes do not begin as a profiler model of version {VERSION} does")]
    Kind,
    /// Trained for other features.
    #[error("the model was trained for other features than this build reads; train it again")]
    Features,
    /// Too short or too long.
    #[error("the model's length is not that of its tables")]
    Length,
    /// A weight is not a number.
    #[error("the model holds a weight that is no number")]
    Number,
}

/// Names of features and classes and the number of buckets, as one number.
fn fingerprint() -> u32 {
    let names = dense::names().chain(super::Class::ALL.iter().map(|c| c.as_str()));
    let mut hash = 0x811c_9dc5_u32 ^ u32::try_from(BUCKETS).unwrap_or(0);
    for byte in names.flat_map(|n| n.bytes().chain([0])) {
        hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    }
    hash
}

/// The bytes of a model.
pub(crate) fn write(model: &Model) -> Vec<u8> {
    let mut out = Vec::with_capacity(BUCKETS.saturating_mul(CLASSES).saturating_add(8_192));
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&fingerprint().to_le_bytes());
    let floats = [model.temperature, model.gram_scale].into_iter().chain(model.bias);
    for value in floats.chain(model.dense.iter().flatten().copied()) {
        out.extend_from_slice(&value.to_le_bytes());
    }
    for row in &model.grams {
        out.extend(row.iter().take(CLASSES).map(|step| step.to_le_bytes()[0]));
    }
    out
}

/// The model in `bytes`.
///
/// # Errors
/// What is wrong with them.
pub(super) fn read(bytes: &[u8]) -> Result<Model, Damage> {
    let rest = bytes.strip_prefix(MAGIC).and_then(|b| b.strip_prefix(&[VERSION])).ok_or(Damage::Kind)?;
    let (mark, rest) = rest.split_first_chunk::<4>().ok_or(Damage::Length)?;
    if u32::from_le_bytes(*mark) != fingerprint() {
        return Err(Damage::Features);
    }
    let floats = dense::COUNT.saturating_mul(CLASSES).saturating_add(CLASSES).saturating_add(2);
    let (numbers, steps) = rest.split_at_checked(floats.saturating_mul(4)).ok_or(Damage::Length)?;
    if steps.len() != BUCKETS.saturating_mul(CLASSES) {
        return Err(Damage::Length);
    }
    let (numbers, _) = numbers.as_chunks::<4>();
    let numbers: Vec<f32> = numbers.iter().map(|b| f32::from_le_bytes(*b)).collect();
    if numbers.iter().any(|n| !n.is_finite()) {
        return Err(Damage::Number);
    }
    let (&[temperature, gram_scale], weights) = numbers.split_first_chunk::<2>().ok_or(Damage::Length)?;
    let (rows, _) = weights.as_chunks::<CLASSES>();
    let (bias, dense) = rows.split_first().ok_or(Damage::Length)?;
    Ok(Model {
        temperature,
        bias: *bias,
        dense: dense.to_vec(),
        gram_scale,
        grams: steps.as_chunks().0.iter().map(lanes).collect(),
    })
}

fn lanes(steps: &[u8; CLASSES]) -> [i8; LANES] {
    let mut row = [0; LANES];
    for (slot, step) in row.iter_mut().zip(steps) {
        *slot = i8::from_le_bytes([*step]);
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PerClass;

    fn model() -> Model {
        let dense: Vec<PerClass> = (0..dense::COUNT).map(|i| [i as f32 / 8.0; CLASSES]).collect();
        let grams: Vec<PerClass> = (0..BUCKETS).map(|i| [(i % 7) as f32 - 3.0; CLASSES]).collect();
        Model::quantised(1.25, [0.5; CLASSES], dense, &grams)
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(read(&write(&model())), Ok(model()));
    }

    #[test]
    fn damage_is_named() {
        let good = write(&model());
        let mut other = good.clone();
        other[9] ^= 1;
        let mut wrong = good.clone();
        wrong[13..17].copy_from_slice(&f32::NAN.to_le_bytes());
        for (bytes, expected) in [
            (&good[..4], Damage::Kind),
            (&good[..12], Damage::Length),
            (&good[..good.len() - 1], Damage::Length),
            (&other, Damage::Features),
            (&wrong, Damage::Number),
        ] {
            assert_eq!(read(bytes), Err(expected));
        }
    }
}
