//! Reads JSON piece by piece, wherever the pieces are cut, and tells a [`Sink`] what it read.

/// Deepest nesting, the parser's own: deeper text is refused by the check of the whole.
pub(super) const MAX_DEPTH: usize = 127;
/// Digits kept of one number; longer ones are not compared with limits.
const MAX_NUMBER: usize = 512;

/// What kind of value opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Null,
    True,
    False,
    Number,
    String,
    Array,
    Object,
}

/// The sink has heard enough: the text is wrong by what it knows.
pub(super) struct Refused;

/// Why the text cannot become one JSON value.
pub(super) enum Stop {
    /// By its syntax, at this byte.
    Syntax { at: usize, what: &'static str },
    /// By what the sink knows.
    Refused,
}

impl From<Refused> for Stop {
    fn from(_: Refused) -> Self {
        Stop::Refused
    }
}

/// What listens to the values.
pub(super) trait Sink {
    /// A value opens.
    fn open(&mut self, kind: Kind) -> Result<(), Refused>;
    /// A property's name is complete; its value follows.
    fn name(&mut self, name: &str) -> Result<(), Refused>;
    /// More of the string that is open, decoded.
    fn text(&mut self, piece: &str) -> Result<(), Refused>;
    /// The value that opened last is complete: a scalar, or a container with all that it holds. `number` is
    /// the text of a number, unless it was too long to keep.
    fn close(&mut self, number: Option<&str>) -> Result<(), Refused>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before anything.
    Start,
    /// In the ticks or the first line of a code fence.
    Ticks(u8),
    Info,
    /// A value, or its container's end where that is empty so far.
    Value,
    FirstItem,
    FirstName,
    Name,
    Colon,
    /// Behind a value.
    After,
    /// In a string.
    Text,
    Escape,
    Hex(u8),
    Number(Digits),
    Word(&'static [u8]),
    /// Behind the whole value, in the ticks of the closing fence.
    EndTicks(u8),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Digits {
    Minus,
    Zero,
    Int,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
}

/// The state of the reading.
pub(super) struct Syntax {
    state: State,
    /// Open containers; true for objects.
    stack: Vec<bool>,
    /// Bytes read.
    at: usize,
    allow_fence: bool,
    fenced: bool,
    /// The string that is open is a property's name.
    naming: bool,
    name: String,
    number: String,
    hex: u32,
    /// The first half of a pair of surrogates.
    high: Option<u32>,
}

impl Syntax {
    /// `allow_fence`: one Markdown code fence may surround the value.
    pub(super) fn new(allow_fence: bool) -> Self {
        Syntax {
            state: State::Start,
            stack: Vec::new(),
            at: 0,
            allow_fence,
            fenced: false,
            naming: false,
            name: String::new(),
            number: String::new(),
            hex: 0,
            high: None,
        }
    }

    /// Reads the next piece.
    pub(super) fn push<S: Sink>(&mut self, delta: &str, sink: &mut S) -> Result<(), Stop> {
        let mut rest = delta;
        while !rest.is_empty() {
            let read = if self.state == State::Text && self.high.is_none() {
                self.plain(rest, sink)?
            } else {
                self.step(rest, sink)?
            };
            self.at = self.at.saturating_add(read);
            rest = rest.get(read..).unwrap_or("");
        }
        Ok(())
    }

    fn wrong<T>(&self, what: &'static str) -> Result<T, Stop> {
        Err(Stop::Syntax { at: self.at, what })
    }

    /// Reads a string up to its end, its next escape or the end of the piece.
    fn plain<S: Sink>(&mut self, rest: &str, sink: &mut S) -> Result<usize, Stop> {
        let bytes = rest.as_bytes();
        let stop = bytes.iter().position(|b| matches!(b, b'"' | b'\\' | 0..=0x1f)).unwrap_or(bytes.len());
        if stop > 0 {
            self.characters(rest.get(..stop).unwrap_or(""), sink)?;
        }
        match bytes.get(stop) {
            None => return Ok(stop),
            Some(b'"') => self.close_text(sink)?,
            Some(b'\\') => self.state = State::Escape,
            Some(_) => {
                self.at = self.at.saturating_add(stop);
                return self.wrong("a control character inside a string");
            }
        }
        Ok(stop.saturating_add(1))
    }

    fn characters<S: Sink>(&mut self, piece: &str, sink: &mut S) -> Result<(), Stop> {
        if !self.naming {
            return Ok(sink.text(piece)?);
        }
        self.name.push_str(piece);
        Ok(())
    }

    fn close_text<S: Sink>(&mut self, sink: &mut S) -> Result<(), Stop> {
        if self.naming {
            self.state = State::Colon;
            sink.name(&self.name)?;
        } else {
            self.state = State::After;
            sink.close(None)?;
        }
        Ok(())
    }

    /// Reads one character; gives its bytes, or 0 where the state changed and it is to be read again.
    fn step<S: Sink>(&mut self, rest: &str, sink: &mut S) -> Result<usize, Stop> {
        let Some(c) = rest.chars().next() else { return Ok(rest.len()) };
        match self.state {
            State::Start
            | State::Value
            | State::FirstItem
            | State::FirstName
            | State::Name
            | State::Colon
            | State::After
            | State::End => {
                if !self.white(c) {
                    self.token(c, sink)?;
                }
            }
            State::Ticks(n) => match c {
                '`' if n < 2 => self.state = State::Ticks(n.saturating_add(1)),
                '`' => (self.state, self.fenced) = (State::Info, true),
                _ => return self.wrong("a tick before the value"),
            },
            State::Info => match c {
                '\n' => self.state = State::Value,
                '`' => return self.wrong("a tick in the first line of the code fence"),
                _ => {}
            },
            State::EndTicks(n) => match c {
                '`' if n < 2 => self.state = State::EndTicks(n.saturating_add(1)),
                '`' => self.state = State::End,
                _ => return self.wrong("text behind the value"),
            },
            // Behind the first half of a pair only the other half may follow.
            State::Text if c == '\\' => self.state = State::Escape,
            State::Text => return self.wrong("half a surrogate pair in a string"),
            State::Escape => self.escape(c, sink)?,
            State::Hex(left) => self.hex(c, left, sink)?,
            State::Number(d) => {
                if !self.digit(c, d) {
                    self.close_number(d, sink)?;
                    return Ok(0);
                }
            }
            State::Word(left) => {
                let Some((_, left)) = left.split_first().filter(|(f, _)| char::from(**f) == c) else {
                    return self.wrong("a word that is not true, false or null");
                };
                self.state = State::Word(left);
                if left.is_empty() {
                    self.state = State::After;
                    sink.close(None)?;
                }
            }
        }
        Ok(c.len_utf8())
    }

    /// White space between tokens. Around a fence, anything that trimming takes away.
    fn white(&self, c: char) -> bool {
        let outside = matches!(self.state, State::Start | State::End)
            || self.stack.is_empty() && (self.fenced || self.state == State::After);
        matches!(c, ' ' | '\t' | '\n' | '\r') || self.allow_fence && outside && c.is_whitespace()
    }

    fn token<S: Sink>(&mut self, c: char, sink: &mut S) -> Result<(), Stop> {
        match (self.state, c) {
            (State::Start, '`') if self.allow_fence => self.state = State::Ticks(1),
            (State::FirstItem, ']') | (State::FirstName, '}') => self.pop(sink)?,
            (State::Start | State::Value | State::FirstItem, _) => self.value(c, sink)?,
            (State::FirstName | State::Name, '"') => {
                self.naming = true;
                self.name.clear();
                self.state = State::Text;
            }
            (State::FirstName | State::Name, _) => return self.wrong("no property name in double quotes"),
            (State::Colon, ':') => self.state = State::Value,
            (State::Colon, _) => return self.wrong("no colon behind a property name"),
            (State::After, _) => self.after(c, sink)?,
            _ => return self.wrong("text behind the value"),
        }
        Ok(())
    }

    fn after<S: Sink>(&mut self, c: char, sink: &mut S) -> Result<(), Stop> {
        match (self.stack.last(), c) {
            (Some(true), ',') => self.state = State::Name,
            (Some(false), ',') => self.state = State::Value,
            (Some(true), '}') | (Some(false), ']') => self.pop(sink)?,
            (Some(_), _) => return self.wrong("neither a comma nor the end of the list or object"),
            (None, '`') if self.fenced => self.state = State::EndTicks(1),
            (None, _) => return self.wrong("text behind the value"),
        }
        Ok(())
    }

    fn pop<S: Sink>(&mut self, sink: &mut S) -> Result<(), Stop> {
        self.stack.pop();
        self.state = State::After;
        Ok(sink.close(None)?)
    }

    fn value<S: Sink>(&mut self, c: char, sink: &mut S) -> Result<(), Stop> {
        let (kind, next) = match c {
            '{' => (Kind::Object, State::FirstName),
            '[' => (Kind::Array, State::FirstItem),
            '"' => (Kind::String, State::Text),
            't' => (Kind::True, State::Word(b"rue")),
            'f' => (Kind::False, State::Word(b"alse")),
            'n' => (Kind::Null, State::Word(b"ull")),
            '-' => (Kind::Number, State::Number(Digits::Minus)),
            '0' => (Kind::Number, State::Number(Digits::Zero)),
            '1'..='9' => (Kind::Number, State::Number(Digits::Int)),
            _ => return self.wrong("no JSON value"),
        };
        match kind {
            Kind::Object | Kind::Array => {
                if self.stack.len() >= MAX_DEPTH {
                    return self.wrong("lists and objects nested too deep");
                }
                self.stack.push(kind == Kind::Object);
            }
            Kind::Number => {
                self.number.clear();
                self.number.push(c);
            }
            _ => self.naming = false,
        }
        self.state = next;
        Ok(sink.open(kind)?)
    }

    fn escape<S: Sink>(&mut self, c: char, sink: &mut S) -> Result<(), Stop> {
        let plain = match c {
            'u' => {
                (self.state, self.hex) = (State::Hex(4), 0);
                return Ok(());
            }
            _ if self.high.is_some() => return self.wrong("half a surrogate pair in a string"),
            '"' => "\"",
            '\\' => "\\",
            '/' => "/",
            'b' => "\u{8}",
            'f' => "\u{c}",
            'n' => "\n",
            'r' => "\r",
            't' => "\t",
            _ => return self.wrong("an unknown escape in a string"),
        };
        self.state = State::Text;
        self.characters(plain, sink)
    }

    fn hex<S: Sink>(&mut self, c: char, left: u8, sink: &mut S) -> Result<(), Stop> {
        let Some(digit) = c.to_digit(16) else {
            return self.wrong("an escape without four hexadecimal digits in a string");
        };
        self.hex = self.hex << 4 | digit;
        if left > 1 {
            self.state = State::Hex(left.saturating_sub(1));
            return Ok(());
        }
        self.state = State::Text;
        match (self.high.take(), self.hex) {
            (None, 0xD800..0xDC00) => {
                self.high = Some(self.hex);
                Ok(())
            }
            (None, code) => self.code(code, sink),
            (Some(high), low @ 0xDC00..0xE000) => {
                let code = 0x1_0000_u32
                    .saturating_add(high.saturating_sub(0xD800) << 10)
                    .saturating_add(low.saturating_sub(0xDC00));
                self.code(code, sink)
            }
            (Some(_), _) => self.wrong("half a surrogate pair in a string"),
        }
    }

    fn code<S: Sink>(&mut self, code: u32, sink: &mut S) -> Result<(), Stop> {
        match char::from_u32(code) {
            Some(c) => self.characters(c.encode_utf8(&mut [0; 4]), sink),
            None => self.wrong("half a surrogate pair in a string"),
        }
    }

    /// Whether the character continues the number.
    fn digit(&mut self, c: char, d: Digits) -> bool {
        let next = match (d, c) {
            (Digits::Minus, '0') => Digits::Zero,
            (Digits::Minus | Digits::Int, '0'..='9') => Digits::Int,
            (Digits::Zero | Digits::Int, '.') => Digits::Dot,
            (Digits::Dot | Digits::Fraction, '0'..='9') => Digits::Fraction,
            (Digits::Zero | Digits::Int | Digits::Fraction, 'e' | 'E') => Digits::E,
            (Digits::E, '+' | '-') => Digits::Sign,
            (Digits::E | Digits::Sign | Digits::Exponent, '0'..='9') => Digits::Exponent,
            _ => return false,
        };
        if self.number.len() <= MAX_NUMBER {
            self.number.push(c);
        }
        self.state = State::Number(next);
        true
    }

    fn close_number<S: Sink>(&mut self, d: Digits, sink: &mut S) -> Result<(), Stop> {
        if !matches!(d, Digits::Zero | Digits::Int | Digits::Fraction | Digits::Exponent) {
            return self.wrong("an unfinished number");
        }
        self.state = State::After;
        Ok(sink.close((self.number.len() <= MAX_NUMBER).then_some(&self.number))?)
    }

    /// The text is whole: a number at its end is complete now.
    pub(super) fn finish<S: Sink>(&mut self, sink: &mut S) -> Result<(), Stop> {
        match self.state {
            State::Number(d) => self.close_number(d, sink),
            _ => Ok(()),
        }
    }
}
