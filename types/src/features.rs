//! A request as a row of numbers: what the learner tells requests apart by, beside the axes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Numbers that describe one request: size, layout, signs, words, tools. Which is which, the profiler says;
/// the learner only compares them.
///
/// Each is standardised (mean 0, deviation 1 over a broad mix of requests), clipped to −3..=3 and kept in
/// steps of 3/127, so that a record holds them in 32 bytes and what is learned from a record equals what was
/// learned from the request.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Features([i8; Features::COUNT]);

impl Features {
    /// How many there are.
    pub const COUNT: usize = 32;
    /// Where values are clipped, in deviations.
    pub const LIMIT: f32 = 3.0;
    /// Deviations per step.
    pub const STEP: f32 = Self::LIMIT / 127.0;

    /// From standardised values; what is not finite counts as 0.
    #[must_use]
    pub fn from_values(values: &[f32; Self::COUNT]) -> Self {
        // `as` saturates and turns NaN into 0; the clamp keeps −128 out, so that the scale is symmetric.
        Features(values.map(|v| (v.clamp(-Self::LIMIT, Self::LIMIT) / Self::STEP).round() as i8))
    }

    /// In steps, each −127..=127.
    #[must_use]
    pub const fn steps(&self) -> &[i8; Self::COUNT] {
        &self.0
    }

    /// In deviations.
    #[must_use]
    pub fn values(&self) -> [f32; Self::COUNT] {
        self.0.map(|s| f32::from(s) * Self::STEP)
    }
}

impl Default for Features {
    /// An average request.
    fn default() -> Self {
        Features([0; Self::COUNT])
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0).finish()
    }
}

/// Hexadecimal where people may read it, bytes elsewhere.
impl Serialize for Features {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let bytes = self.0.map(i8::cast_unsigned);
        if !s.is_human_readable() {
            return s.serialize_bytes(&bytes);
        }
        let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
        let text: String = bytes.into_iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect();
        s.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Features {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        if d.is_human_readable() { d.deserialize_str(Read) } else { d.deserialize_bytes(Read) }
    }
}

struct Read;

impl<'de> serde::de::Visitor<'de> for Read {
    type Value = Features;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, or as many pairs of hexadecimal digits", Features::COUNT)
    }

    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        let all: [u8; Features::COUNT] =
            bytes.try_into().map_err(|_| E::invalid_length(bytes.len(), &self))?;
        Ok(Features(all.map(u8::cast_signed)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        let digits: Option<Vec<u8>> =
            text.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
        let digits = digits.ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))?;
        let bytes: Vec<u8> =
            digits.chunks(2).map(|pair| pair.iter().fold(0, |byte: u8, d| (byte << 4) | d)).collect();
        self.visit_bytes(&bytes)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut bytes = Vec::with_capacity(Features::COUNT);
        while let Some(b) = seq.next_element::<u8>()? {
            bytes.push(b);
        }
        self.visit_bytes(&bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_kept_to_half_a_step_and_survive_json() {
        let mut v = [0.0; Features::COUNT];
        (v[0], v[1], v[2], v[3]) = (1.234, -7.0, f32::NAN, 2.999);
        let f = Features::from_values(&v);
        let got = f.values();
        assert!((got[0] - 1.234).abs() <= Features::STEP / 2.0);
        assert_eq!((got[1], got[2]), (-Features::LIMIT, 0.0));
        let text = serde_json::to_string(&f).unwrap();
        assert_eq!(text.len(), 2 * Features::COUNT + 2);
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), f);
        assert!(serde_json::from_str::<Features>("\"00\"").is_err());
        assert!(serde_json::from_str::<Features>(&text.replace('0', "x")).is_err());
    }
}
