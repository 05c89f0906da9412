//! Reads pieces of text: cues into signals, n-grams into their sink, small words into the language.

use super::{Hit, zone};
use crate::cues::{self, Cue, Signal};
use crate::grams::{self, Seen, Sink};
use crate::language::Detector;
use crate::scan::Scanner;

/// What is added up while the pieces of a request are read.
pub(super) struct Reader<'a, S: Sink> {
    pub(super) scanner: Scanner,
    pub(super) signals: [f32; Signal::COUNT],
    pub(super) language: Detector,
    /// How often each cue was seen: it counts fully once, half the second time, and no more.
    seen: Vec<u8>,
    grams: Seen,
    sink: &'a mut S,
    hits: Option<&'a mut Vec<Hit>>,
}

impl<'a, S: Sink> Reader<'a, S> {
    pub(super) fn new(sink: &'a mut S, hits: Option<&'a mut Vec<Hit>>) -> Self {
        Reader {
            scanner: Scanner::default(),
            signals: [0.0; Signal::COUNT],
            language: Detector::default(),
            seen: vec![0; cues::count()],
            grams: Seen::default(),
            sink,
            hits,
        }
    }

    pub(super) fn signal(&self, signal: Signal) -> f32 {
        self.signals.get(signal as usize).copied().unwrap_or(0.0)
    }

    /// An edge of a text, where instructions stand: n-grams and (of the text that asks) the language count.
    pub(super) fn edge(&mut self, text: &str, weight: f32, first: bool) {
        if text.is_empty() {
            return;
        }
        self.body(text, weight);
        self.sink.piece(text, &self.scanner.tokens);
        grams::visit(&self.scanner.tokens, weight, first, &mut self.grams, self.sink);
        if weight >= zone::ASK {
            self.language.add(&self.scanner.tokens, &self.scanner.letters);
        }
    }

    /// Material: only its cues count.
    pub(super) fn body(&mut self, text: &str, weight: f32) {
        if text.is_empty() {
            return;
        }
        self.scanner.read(text);
        let (signals, seen, hits) = (&mut self.signals, &mut self.seen, &mut self.hits);
        cues::find(text, &self.scanner.tokens, |number, cue| add(number, cue, weight, signals, seen, hits));
    }

    /// Reads only the marks of actions; whether there was one.
    pub(super) fn actions(&mut self, text: &str) -> bool {
        let mut any = false;
        self.scanner.read(text);
        let (signals, seen, hits) = (&mut self.signals, &mut self.seen, &mut self.hits);
        cues::find(text, &self.scanner.tokens, |number, cue| {
            if cue.signal == Signal::Action {
                any = true;
                add(number, cue, zone::TRANSCRIPT, signals, seen, hits);
            }
        });
        any
    }
}

fn add(
    number: usize,
    cue: &Cue,
    weight: f32,
    signals: &mut [f32; Signal::COUNT],
    seen: &mut [u8],
    hits: &mut Option<&mut Vec<Hit>>,
) {
    let (Some(seen), Some(sum)) = (seen.get_mut(number), signals.get_mut(cue.signal as usize)) else {
        return;
    };
    let value = match *seen {
        0 => cue.weight * weight,
        1 => cue.weight * weight * 0.5,
        _ => return,
    };
    *seen = seen.saturating_add(1);
    *sum += value;
    if let Some(hits) = hits {
        hits.push((u32::try_from(number).unwrap_or(u32::MAX), value));
    }
}
