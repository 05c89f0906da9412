//! Counts how many bytes of a text belong to each of eight sets, at one addition a byte.

/// Eight sets of bytes: per byte, one in the lane (of eight bits) of each set that it belongs to.
pub(crate) struct Lanes([u64; 256]);

/// Sets that a table has.
const SETS: usize = 8;

impl Lanes {
    pub(crate) const fn new(sets: [&[u8]; SETS]) -> Self {
        let mut table = [0; 256];
        let mut set = 0;
        while set < SETS {
            let mut i = 0;
            #[expect(clippy::indexing_slicing, reason = "a constant table filled at compile time")]
            while i < sets[set].len() {
                table[sets[set][i] as usize] |= 1 << (8 * set);
                i += 1;
            }
            set += 1;
        }
        Lanes(table)
    }

    /// How many bytes are in each set.
    pub(crate) fn count(&self, bytes: &[u8]) -> [u32; SETS] {
        let mut counts = [0_u32; SETS];
        // A lane of eight bits holds no more than 255.
        for chunk in bytes.chunks(255) {
            let of = |b: &u8| self.0.get(usize::from(*b)).copied().unwrap_or(0);
            let lanes = chunk.iter().fold(0_u64, |sum, b| sum.wrapping_add(of(b)));
            for (count, lane) in counts.iter_mut().zip(lanes.to_le_bytes()) {
                *count = count.saturating_add(u32::from(lane));
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: Lanes = Lanes::new([b"a", b"ab", b"", b"0123456789", b"\n", b"\xff", b",.;", b"z"]);

    #[test]
    fn every_set_is_counted_beyond_what_a_lane_holds() {
        let text = "ab,7\nz.".repeat(600);
        assert_eq!(TABLE.count(text.as_bytes()), [600, 1200, 0, 600, 600, 0, 1200, 600]);
        assert_eq!(TABLE.count(b""), [0; 8]);
        assert_eq!(TABLE.count(&[0xff; 1000])[5], 1000);
    }
}
