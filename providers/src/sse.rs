//! Bytes of a server-sent event stream to events: a state machine without I/O.
//!
//! Follows the HTML standard's "event stream interpretation" (line ends CRLF, LF and CR; comments; a byte
//! order mark; several `data` lines joined by a line feed) with two differences. `id` and `retry` are
//! ignored, because a reconnect would be a second, billed generation. An event that the stream ends in
//! without its blank line is given too: several vendors end that way, and a half event does not parse anyway.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event` field, empty if there is none.
    pub(crate) name: Bytes,
    /// The `data` field. Shares the memory of what was pushed where the event came in one piece.
    pub(crate) data: Bytes,
}

impl Event {
    /// The `[DONE]` that ends a stream of chat completions.
    pub(crate) fn is_done(&self) -> bool {
        self.data.trim_ascii().starts_with(b"[DONE]")
    }
}

/// One event is larger than allowed; nothing more can be read from this stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// The state machine: [`Framer::push`] bytes, then take events by [`Framer::next`] until there is none.
#[derive(Debug)]
pub(crate) struct Framer {
    /// Pushed and not yet looked at.
    input: Bytes,
    /// The start of a line whose end has not come.
    line: BytesMut,
    /// The line before ended in CR: a LF that follows belongs to it.
    after_cr: bool,
    at_start: bool,
    name: Bytes,
    data: Data,
    max_event: usize,
}

#[derive(Debug, Default)]
enum Data {
    #[default]
    None,
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn len(&self) -> usize {
        match self {
            Data::None => 0,
            Data::One(b) => b.len(),
            Data::Many(b) => b.len(),
        }
    }

    fn add(self, more: Bytes) -> Data {
        let mut all = match self {
            Data::None => return Data::One(more),
            Data::One(first) => BytesMut::from(first),
            Data::Many(all) => all,
        };
        all.extend_from_slice(b"\n");
        all.extend_from_slice(&more);
        Data::Many(all)
    }

    fn into_bytes(self) -> Option<Bytes> {
        match self {
            Data::None => None,
            Data::One(b) => Some(b),
            Data::Many(b) => Some(b.freeze()),
        }
    }
}

impl Framer {
    /// For events of at most `max_event` bytes of data; one line may not be longer either.
    pub(crate) fn new(max_event: usize) -> Self {
        Framer {
            input: Bytes::new(),
            line: BytesMut::new(),
            after_cr: false,
            at_start: true,
            name: Bytes::new(),
            data: Data::None,
            max_event,
        }
    }

    /// Takes bytes in. Call it only when [`Framer::next`] has given `None`.
    pub(crate) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.input.is_empty(), "events of the last piece were not taken");
        self.input = bytes;
    }

    /// The next whole event, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Result<Option<Event>, TooLarge> {
        while let Some(line) = self.next_line()? {
            if let Some(event) = self.take_line(line)? {
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// The event that the end of the stream cut before its blank line, if any.
    pub(crate) fn finish(&mut self) -> Result<Option<Event>, TooLarge> {
        let rest = self.line.split().freeze();
        if !rest.is_empty() {
            self.take_line(rest)?;
        }
        Ok(self.dispatch())
    }

    fn next_line(&mut self) -> Result<Option<Bytes>, TooLarge> {
        if self.after_cr && !self.input.is_empty() {
            self.after_cr = false;
            if self.input.first() == Some(&b'\n') {
                self.input = self.input.slice(1..);
            }
        }
        let Some(end) = memchr2(b'\n', b'\r', &self.input) else {
            self.check(self.line.len().saturating_add(self.input.len()))?;
            self.line.extend_from_slice(&self.input);
            self.input = Bytes::new();
            return Ok(None);
        };
        self.check(self.line.len().saturating_add(end))?;
        self.after_cr = self.input.get(end) == Some(&b'\r');
        let head = self.input.split_to(end);
        self.input = self.input.slice(1..);
        if self.line.is_empty() {
            return Ok(Some(head));
        }
        self.line.extend_from_slice(&head);
        Ok(Some(self.line.split().freeze()))
    }

    fn take_line(&mut self, mut line: Bytes) -> Result<Option<Event>, TooLarge> {
        if std::mem::take(&mut self.at_start) && line.starts_with(b"\xef\xbb\xbf") {
            line = line.slice(3..);
        }
        if line.is_empty() {
            return Ok(self.dispatch());
        }
        let colon = memchr::memchr(b':', &line).unwrap_or(line.len());
        let field = line.split_to(colon);
        let skip = usize::from(!line.is_empty()).saturating_add(usize::from(line.get(1) == Some(&b' ')));
        let value = line.slice(skip..);
        match field.as_ref() {
            b"data" => {
                self.check(self.data.len().saturating_add(value.len()))?;
                self.data = std::mem::take(&mut self.data).add(value);
            }
            b"event" => self.name = value,
            // Comments have an empty field name; the rest is not ours.
            _ => {}
        }
        Ok(None)
    }

    fn dispatch(&mut self) -> Option<Event> {
        let name = std::mem::take(&mut self.name);
        let data = std::mem::take(&mut self.data).into_bytes()?;
        Some(Event { name, data })
    }

    fn check(&self, size: usize) -> Result<(), TooLarge> {
        // Room for the field name and its colon.
        if size > self.max_event.saturating_add(8) { Err(TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]], max: usize) -> Result<Vec<(String, String)>, TooLarge> {
        let mut framer = Framer::new(max);
        let mut all = Vec::new();
        for piece in pieces {
            framer.push(Bytes::copy_from_slice(piece));
            while let Some(e) = framer.next()? {
                all.push(e);
            }
        }
        all.extend(framer.finish()?);
        let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
        Ok(all.iter().map(|e| (text(&e.name), text(&e.data))).collect())
    }

    fn check(input: &str, want: &[(&str, &str)]) {
        let want: Vec<_> = want.iter().map(|(n, d)| ((*n).to_owned(), (*d).to_owned())).collect();
        assert_eq!(events(&[input.as_bytes()], 1000).unwrap(), want, "{input:?}");
        let bytes: Vec<&[u8]> = input.as_bytes().chunks(1).collect();
        assert_eq!(events(&bytes, 1000).unwrap(), want, "byte by byte: {input:?}");
    }

    #[test]
    fn events_of_every_form() {
        check("data: a\n\ndata: b\n\n", &[("", "a"), ("", "b")]);
        check("data:a\r\n\r\ndata:  b\r\n\r\n", &[("", "a"), ("", " b")]);
        check("data: a\r\rdata: b\r\r", &[("", "a"), ("", "b")]);
        check(": ping\n\nevent: x\ndata: 1\ndata: 2\n\n", &[("x", "1\n2")]);
        check("data\n\n", &[("", "")]);
        check("event: lonely\n\ndata: a\n\n", &[("", "a")]);
        check("id: 1\nretry: 5\nother: x\ndata: a\n\n", &[("", "a")]);
        check("\u{feff}data: é€😀\n\n", &[("", "é€😀")]);
        check("data: a\n\ndata: cut", &[("", "a"), ("", "cut")]);
        check("data: a\n\n\n\n\ndata: b\n", &[("", "a"), ("", "b")]);
        check("", &[]);
    }

    #[test]
    fn done_is_known_in_every_spelling() {
        for (data, want) in [("[DONE]", true), (" [DONE] ", true), ("{\"a\":\"[DONE]\"}", false)] {
            let e = Event { data: Bytes::copy_from_slice(data.as_bytes()), ..Event::default() };
            assert_eq!(e.is_done(), want, "{data}");
        }
    }

    #[test]
    fn an_oversize_event_is_refused_however_it_comes() {
        let line = format!("data: {}\n\n", "x".repeat(2000));
        assert_eq!(events(&[line.as_bytes()], 1000), Err(TooLarge));
        let pieces: Vec<&[u8]> = line.as_bytes().chunks(7).collect();
        assert_eq!(events(&pieces, 1000), Err(TooLarge));
        let many = "data: 0123456789\n".repeat(200);
        assert_eq!(events(&[many.as_bytes()], 1000), Err(TooLarge));
        let comment = format!(":{}", "x".repeat(2000));
        assert_eq!(events(&[comment.as_bytes()], 1000), Err(TooLarge));
        let fits = format!("data: {}\n\n", "x".repeat(1000));
        assert!(events(&[fits.as_bytes()], 1000).is_ok());
    }

    #[test]
    fn an_event_in_one_piece_is_not_copied() {
        let input = Bytes::from_static(b"data: hello\n\n");
        let mut framer = Framer::new(100);
        framer.push(input.clone());
        let event = framer.next().unwrap().unwrap();
        assert_eq!(event.data.as_ptr(), input[6..].as_ptr());
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_events(
            lines in proptest::collection::vec(
                prop_oneof!["data: ?[a-zé€😀:]{0,9}", "event: [a-z]{0,4}", ": [a-z]{0,5}", Just(String::new()), "[a-z\u{feff}]{0,3}"],
                0..24,
            ),
            ends in proptest::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 24),
            cuts in proptest::collection::vec(0_usize..400, 0..12),
        ) {
            let text: String = lines.iter().zip(&ends).map(|(l, e)| format!("{l}{e}")).collect();
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            prop_assert_eq!(events(&pieces, 1000), events(&[bytes], 1000));
        }
    }
}
