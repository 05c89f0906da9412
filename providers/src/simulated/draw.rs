//! Random numbers that are the same on every machine and in every version.

use std::f64::consts::TAU;

/// An endless stream of draws, determined by what it was made from.
pub(super) struct Draw(blake3::OutputReader);

impl Draw {
    /// From parts; where one ends and the next starts matters.
    pub(super) fn new(parts: &[&[u8]]) -> Self {
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Draw(hasher.finalize_xof())
    }

    /// 64 random bits.
    pub(super) fn bits(&mut self) -> u64 {
        let mut bytes = [0_u8; 8];
        self.0.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Uniform in 0..1.
    pub(super) fn unit(&mut self) -> f64 {
        // 53 bits are what an f64 holds exactly.
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in 0..n; 0 if n is 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        let n = n.max(1) as u64;
        // The bias of the remainder is under 2⁻⁴⁰ for every n used here.
        usize::try_from(self.bits() % n).unwrap_or(0)
    }

    /// Uniform in lo..=hi.
    pub(super) fn between(&mut self, lo: usize, hi: usize) -> usize {
        lo.saturating_add(self.below(hi.saturating_sub(lo).saturating_add(1)))
    }

    /// One of the items; `None` if there are none.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// Standard normal (Box and Muller 1958).
    pub(super) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (TAU * self.unit()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart_and_draws_repeat() {
        let first = |parts: &[&[u8]]| Draw::new(parts).bits();
        assert_eq!(first(&[b"ab", b"c"]), first(&[b"ab", b"c"]));
        assert_ne!(first(&[b"ab", b"c"]), first(&[b"a", b"bc"]));
    }

    #[test]
    fn draws_have_their_distribution() {
        let mut d = Draw::new(&[b"x"]);
        let n = 20_000;
        let mean = (0..n).map(|_| d.unit()).sum::<f64>() / f64::from(n);
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let normal: Vec<f64> = (0..n).map(|_| d.normal()).collect();
        let mean = normal.iter().sum::<f64>() / f64::from(n);
        let variance = normal.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
        assert!((0..1000).all(|_| (3..=5).contains(&d.between(3, 5))));
    }
}
