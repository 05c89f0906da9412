//! What a program writes: counted whole, kept at both ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::Notify;

/// Bytes kept of the beginning and of the end of one output.
const KEPT: usize = 32 << 10;

/// Bytes that all outputs of a program have written together, and the most they may.
#[derive(Debug)]
pub(super) struct Meter {
    written: AtomicU64,
    most: u64,
    pub(super) exceeded: Notify,
}

impl Meter {
    pub(super) fn new(most: u64) -> Arc<Self> {
        Arc::new(Meter { written: AtomicU64::new(0), most, exceeded: Notify::new() })
    }

    fn add(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.written.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.most {
            self.exceeded.notify_one();
        }
    }
}

/// Both ends of a text.
#[derive(Debug, Default)]
struct Ends {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    cut: u64,
}

impl Ends {
    fn push(&mut self, bytes: &[u8]) {
        let room = KEPT.saturating_sub(self.head.len()).min(bytes.len());
        let (head, tail) = bytes.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let excess = self.tail.len().saturating_sub(KEPT);
        self.tail.drain(..excess);
        self.cut = self.cut.saturating_add(u64::try_from(excess).unwrap_or(0));
    }

    fn text(mut self) -> String {
        let mut text = String::from_utf8_lossy(&self.head).into_owned();
        if self.cut > 0 {
            text.push_str(&format!("\n[… {} bytes cut …]\n", self.cut));
        }
        text.push_str(&String::from_utf8_lossy(self.tail.make_contiguous()));
        text
    }
}

/// Reads one output to its end.
pub(super) async fn read(mut from: impl AsyncRead + Unpin, meter: Arc<Meter>) -> String {
    let mut ends = Ends::default();
    let mut buffer = [0_u8; 8 << 10];
    // A pipe that breaks ends like one that is closed: what came until then counts.
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        meter.add(n);
        ends.push(buffer.get(..n).unwrap_or_default());
    }
    ends.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ends_are_kept_and_all_is_counted() {
        let meter = Meter::new(100_000);
        let long: Vec<u8> = (0..100_000_u32).map(|i| b'a' + (i % 26) as u8).collect();
        let text = read(&long[..], meter.clone()).await;
        assert!(text.starts_with("abcdef") && text.ends_with(&String::from_utf8_lossy(&long[99_000..])[..]));
        assert!(text.contains(&format!("[… {} bytes cut …]", 100_000 - 2 * KEPT)), "{}", text.len());
        assert_eq!(meter.written.load(Ordering::Relaxed), 100_000);
        assert_eq!(read(&b"short \xff"[..], meter.clone()).await, "short \u{fffd}");
        tokio::time::timeout(std::time::Duration::from_secs(5), meter.exceeded.notified()).await.unwrap();
    }
}
