//! The one pass over a request: structure, and what a bounded sample of its text says.

use crate::cues::{self, Cue, Signal};
use crate::language;
use crate::shape::Shape;
use crate::tokens;
use types::ChatRequest;
use types::chat::{Content, Message, PartKind, ResponseFormat, Role, ToolChoice};
use types::profile::Facts;

/// Where instructions stand in a text: this many bytes at its start …
const EDGE_HEAD: usize = 450;
/// … and this many at its end; what lies between is mostly material.
const EDGE_TAIL: usize = 350;
/// Bytes read of the material of the text that asks, at its start and at its end.
const BODY_HEAD: usize = 6_000;
const BODY_TAIL: usize = 3_000;
/// Bytes read of the material of the instructions, at its start and at its end.
const INSTRUCTION_HEAD: usize = 3_000;
const INSTRUCTION_TAIL: usize = 1_000;
/// Earlier user turns that are read, and how much of each.
const HISTORY_TURNS: usize = 4;
const HISTORY_BYTES: usize = 300;
/// Assistant turns that are looked at for actions, and how much of each end.
const ACTION_TURNS: usize = 8;
const ACTION_BYTES: usize = 200;
/// Tool results whose shape is read, and how much of each.
const RESULT_TURNS: usize = 4;
const RESULT_BYTES: usize = 1_000;

/// How much a cue counts where it stands.
mod zone {
    pub(super) const ASK: f32 = 1.0;
    pub(super) const ASK_BODY: f32 = 0.4;
    pub(super) const INSTRUCTION: f32 = 0.6;
    pub(super) const INSTRUCTION_BODY: f32 = 0.25;
    pub(super) const HISTORY: f32 = 0.3;
    /// Of an assistant's turn only the marks of actions count.
    pub(super) const TRANSCRIPT: f32 = 0.5;
}

/// The answer contract that the structure of the request states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contract {
    /// None.
    FreeText,
    /// `response_format: json_object`.
    JsonObject,
    /// `response_format: json_schema`.
    JsonSchema,
}

/// Everything the axes look at.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// Counts for the profile; `est_output_tokens` is filled in later.
    pub(crate) facts: Facts,
    /// Shape of the instructions and the text that asks.
    pub(crate) shape: Shape,
    /// Shape of recent tool results.
    pub(crate) result_shape: Shape,
    /// Bytes of the text that asks.
    pub(crate) ask_bytes: usize,
    /// Bytes of the system and developer messages.
    pub(crate) instruction_bytes: usize,
    /// Document markers seen in the instructions.
    pub(crate) instruction_documents: f32,
    /// Assistant turns before the last message.
    pub(crate) assistant_turns: u32,
    /// Assistant turns of the looked-at ones that read as a command or hold an action mark.
    pub(crate) command_turns: u32,
    /// Assistant turns looked at.
    pub(crate) looked_turns: u32,
    /// Later user turns, of the looked-at ones, that hold no question.
    pub(crate) questionless_turns: u32,
    /// Assistant messages that carry tool calls.
    pub(crate) call_turns: u32,
    /// The text that asks ends in a shell's prompt.
    pub(crate) prompt_end: bool,
    /// Contract stated by `response_format`.
    pub(crate) contract: Contract,
    /// `tool_choice`: tools are forbidden.
    pub(crate) tools_forbidden: bool,
    /// `tool_choice`: a tool is demanded.
    pub(crate) tools_demanded: bool,
    /// `temperature` is 0.
    pub(crate) cold: bool,
    /// `temperature` is above 0.8.
    pub(crate) hot: bool,
    /// `seed` is given.
    pub(crate) seeded: bool,
    /// The answer is streamed.
    pub(crate) stream: bool,
    /// `service_tier` asks for slow and cheap service.
    pub(crate) slow_tier: bool,
    /// `reasoning_effort`: -1 low, 0 not given or medium, 1 high.
    pub(crate) effort: i8,
    signals: [f32; Signal::COUNT],
}

impl Features {
    /// Reads a request.
    pub(crate) fn read(request: &ChatRequest) -> Self {
        let mut features = Features::structure(request);
        let ask = ask_text(request);
        let mut reader = Reader::new();
        features.read_ask(&ask, &mut reader);
        features.read_instructions(request, &mut reader);
        features.read_history(request, &mut reader);
        features.read_transcript(request, &mut reader);
        features.signals = reader.signals;
        features.finish(&ask);
        features
    }

    /// Evidence for `signal`: weights of its cues times how much their places count.
    pub(crate) fn signal(&self, signal: Signal) -> f32 {
        self.signals.get(signal as usize).copied().unwrap_or(0.0)
    }

    /// Evidence on a scale of log odds: grows with the logarithm, so that long texts do not shout.
    pub(crate) fn evidence(&self, signal: Signal) -> f32 {
        1.8 * self.signal(signal).ln_1p()
    }

    fn structure(request: &ChatRequest) -> Self {
        let params = &request.params;
        Features {
            facts: count(request),
            shape: Shape::default(),
            result_shape: Shape::default(),
            ask_bytes: 0,
            instruction_bytes: 0,
            instruction_documents: 0.0,
            assistant_turns: 0,
            command_turns: 0,
            looked_turns: 0,
            questionless_turns: 0,
            call_turns: 0,
            prompt_end: false,
            contract: match request.response_format {
                ResponseFormat::Text => Contract::FreeText,
                ResponseFormat::JsonObject => Contract::JsonObject,
                ResponseFormat::JsonSchema { .. } => Contract::JsonSchema,
            },
            tools_forbidden: request.tool_choice == ToolChoice::None,
            tools_demanded: matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_)),
            cold: params.temperature.is_some_and(|t| t < 1e-6),
            hot: params.temperature.is_some_and(|t| t > 0.8),
            seeded: params.seed.is_some(),
            stream: request.stream,
            slow_tier: request.raw("service_tier").is_some_and(|t| matches!(t, "\"flex\"" | "\"batch\"")),
            effort: match params.reasoning_effort.as_deref() {
                Some("none" | "minimal" | "low") => -1,
                Some("high" | "xhigh" | "max") => 1,
                _ => 0,
            },
            signals: [0.0; Signal::COUNT],
        }
    }

    fn read_ask(&mut self, ask: &str, reader: &mut Reader) {
        self.ask_bytes = ask.len();
        self.prompt_end =
            matches!(ask.trim_ascii_end().as_bytes(), [.., b'$' | b'#'] | [.., b'>', b'>', b'>']);
        let pieces = Pieces::cut(ask, BODY_HEAD, BODY_TAIL);
        for piece in pieces.all() {
            self.shape.read(piece);
        }
        reader.edges(&pieces, zone::ASK);
        reader.body(&pieces, zone::ASK_BODY);
    }

    fn read_instructions(&mut self, request: &ChatRequest, reader: &mut Reader) {
        let before = reader.signal(Signal::Document);
        let mut budget = INSTRUCTION_HEAD.saturating_add(INSTRUCTION_TAIL);
        for text in texts(request.messages.iter().filter(|m| m.role.is_instruction())) {
            self.instruction_bytes = self.instruction_bytes.saturating_add(text.len());
            if budget == 0 {
                continue;
            }
            let pieces = Pieces::cut(text, INSTRUCTION_HEAD.min(budget), INSTRUCTION_TAIL.min(budget));
            budget = budget.saturating_sub(text.len());
            for piece in pieces.all() {
                self.shape.read(piece);
            }
            reader.edges(&pieces, zone::INSTRUCTION);
            reader.body(&pieces, zone::INSTRUCTION_BODY);
        }
        self.instruction_documents = reader.signal(Signal::Document) - before;
    }

    fn read_history(&mut self, request: &ChatRequest, reader: &mut Reader) {
        let earlier = request.messages.iter().rev().filter(|m| m.role == Role::User).skip(1);
        for message in earlier.take(HISTORY_TURNS) {
            let mut asks = false;
            for text in message.content.texts().take(2) {
                let piece = head(text, HISTORY_BYTES);
                asks |= piece.contains(['?', '？']) || tail(text, 64).contains(['?', '？']);
                reader.read(piece, zone::HISTORY);
            }
            self.questionless_turns = self.questionless_turns.saturating_add(u32::from(!asks));
        }
    }

    fn read_transcript(&mut self, request: &ChatRequest, reader: &mut Reader) {
        let mut turns = request.messages.iter().rev().filter(|m| m.role == Role::Assistant);
        for message in turns.by_ref().take(ACTION_TURNS) {
            self.assistant_turns = self.assistant_turns.saturating_add(1);
            self.looked_turns = self.looked_turns.saturating_add(1);
            self.call_turns = self.call_turns.saturating_add(u32::from(!message.tool_calls.is_empty()));
            let text = message.content.texts().next().unwrap_or("");
            let marked = reader.actions(head(text, ACTION_BYTES)) | reader.actions(tail(text, ACTION_BYTES));
            let command = marked || is_command(text);
            self.command_turns = self.command_turns.saturating_add(u32::from(command));
        }
        for message in turns {
            self.assistant_turns = self.assistant_turns.saturating_add(1);
            self.call_turns = self.call_turns.saturating_add(u32::from(!message.tool_calls.is_empty()));
        }
        let results = request.messages.iter().rev().filter(|m| matches!(m.role, Role::Tool | Role::Function));
        for text in texts(results.take(RESULT_TURNS)) {
            self.result_shape.read(head(text, RESULT_BYTES));
        }
    }

    fn finish(&mut self, ask: &str) {
        let found = language::detect(ask);
        self.facts.language = found.main;
        self.facts.second_language = found.second;
        let code = self.shape.code_lines;
        self.facts.has_code = self.shape.definitions > 0
            || code >= 4
            || (code >= 2 && self.shape.code_share() > 0.2)
            || self.fenced_code();
    }

    /// A pair of fences; a lone block of JSON is data rather than code.
    fn fenced_code(&self) -> bool {
        self.shape.fences >= 2 && (self.shape.data_lines == 0 || self.shape.code_lines > 0)
    }
}

/// Counts that need no look at the words.
fn count(request: &ChatRequest) -> Facts {
    let mut facts = Facts { message_count: small(request.messages.len()), ..Facts::default() };
    let mut tokens = tokens::PER_MESSAGE * request.messages.len() as f32;
    let mut bytes = 0_usize;
    for message in &request.messages {
        facts.turns = facts.turns.saturating_add(u32::from(message.role == Role::User));
        let result = matches!(message.role, Role::Tool | Role::Function);
        facts.tool_results = facts.tool_results.saturating_add(u32::from(result));
        for text in message.content.texts() {
            bytes = bytes.saturating_add(text.len());
            tokens += tokens::of(text);
        }
        for call in &message.tool_calls {
            tokens += tokens::of(&call.arguments) + tokens::of(&call.name) + 8.0;
        }
        count_media(message, &mut facts);
    }
    for tool in &request.tools {
        tokens += tokens::of(tool.raw.get());
    }
    if let ResponseFormat::JsonSchema { .. } = request.response_format {
        facts.has_schema = true;
        tokens += request.raw("response_format").map_or(0.0, tokens::of);
    }
    facts.tools = small(request.tools.len());
    facts.text_bytes = small(bytes);
    tokens += facts.images as f32 * tokens::PER_IMAGE;
    // A float beyond the range saturates.
    facts.est_input_tokens = tokens.round() as u32;
    facts
}

fn count_media(message: &Message, facts: &mut Facts) {
    let Content::Parts(parts) = &message.content else { return };
    for part in parts {
        match part.kind {
            PartKind::Image { .. } => facts.images = facts.images.saturating_add(1),
            PartKind::Other(..) => facts.other_media = facts.other_media.saturating_add(1),
            PartKind::Text(_) | PartKind::Refusal(_) => {}
        }
    }
}

fn small(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn texts<'a>(messages: impl Iterator<Item = &'a Message>) -> impl Iterator<Item = &'a str> {
    messages.flat_map(|m| m.content.texts())
}

/// The text that asks: the last user message that holds any, else the last message that does.
fn ask_text(request: &ChatRequest) -> std::borrow::Cow<'_, str> {
    let holds_text = |m: &&Message| m.content.texts().any(|t| !t.trim_ascii().is_empty());
    let user = request.messages.iter().rev().filter(|m| m.role == Role::User).find(holds_text);
    user.or_else(|| request.messages.iter().rev().find(holds_text)).map_or("".into(), |m| m.content.text())
}

/// A terse command rather than speech: short, lower case, not a sentence; or a closing fence.
fn is_command(text: &str) -> bool {
    let text = text.trim_ascii();
    let speech_end = matches!(text.as_bytes().last(), Some(b'.' | b'?' | b'!'));
    let terse =
        text.len() <= 80 && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && !speech_end;
    terse || (text.ends_with("```") && text.len() < 2_000 && text.matches("```").count() == 2)
}

/// At most `bytes` from the start, cut between characters.
pub(crate) fn head(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

/// At most `bytes` from the end, cut between characters.
pub(crate) fn tail(text: &str, bytes: usize) -> &str {
    text.get(text.ceil_char_boundary(text.len().saturating_sub(bytes))..).unwrap_or(text)
}

/// A text in four pieces: both edges, where instructions stand, and a sample of what lies between.
struct Pieces<'a> {
    edge_head: &'a str,
    body_head: &'a str,
    body_tail: &'a str,
    edge_tail: &'a str,
}

impl<'a> Pieces<'a> {
    fn cut(text: &'a str, body_head: usize, body_tail: usize) -> Self {
        if text.len() <= EDGE_HEAD.saturating_add(EDGE_TAIL) {
            return Pieces { edge_head: text, body_head: "", body_tail: "", edge_tail: "" };
        }
        let (edge_head, rest) = split_at_blank(text, EDGE_HEAD);
        let (body, edge_tail) = split_at_blank(rest, rest.len().saturating_sub(EDGE_TAIL));
        if body.len() <= body_head.saturating_add(body_tail) {
            return Pieces { edge_head, body_head: body, body_tail: "", edge_tail };
        }
        Pieces { edge_head, body_head: head(body, body_head), body_tail: tail(body, body_tail), edge_tail }
    }

    fn all(&self) -> [&'a str; 4] {
        [self.edge_head, self.body_head, self.body_tail, self.edge_tail]
    }
}

/// Splits at the first blank within 48 bytes after `at`, so that no cue is cut; else at `at`.
fn split_at_blank(text: &str, at: usize) -> (&str, &str) {
    let at = text.floor_char_boundary(at);
    let blank = text.as_bytes().get(at..).unwrap_or(&[]).iter().take(48).position(u8::is_ascii_whitespace);
    text.split_at_checked(at.saturating_add(blank.unwrap_or(0))).unwrap_or((text, ""))
}

/// Adds up cues; a cue counts fully once, half the second time, and no more.
struct Reader {
    signals: [f32; Signal::COUNT],
    seen: Vec<u8>,
}

impl Reader {
    fn new() -> Self {
        Reader { signals: [0.0; Signal::COUNT], seen: vec![0; cues::count()] }
    }

    fn signal(&self, signal: Signal) -> f32 {
        self.signals.get(signal as usize).copied().unwrap_or(0.0)
    }

    fn edges(&mut self, pieces: &Pieces<'_>, zone: f32) {
        self.read(pieces.edge_head, zone);
        self.read(pieces.edge_tail, zone);
    }

    fn body(&mut self, pieces: &Pieces<'_>, zone: f32) {
        self.read(pieces.body_head, zone);
        self.read(pieces.body_tail, zone);
    }

    fn read(&mut self, text: &str, zone: f32) {
        cues::find(text, |cue, _| self.add(cue, zone));
    }

    /// Reads only the marks of actions; whether there was one.
    fn actions(&mut self, text: &str) -> bool {
        let mut any = false;
        cues::find(text, |cue, _| {
            if cue.signal == Signal::Action {
                any = true;
                self.add(cue, zone::TRANSCRIPT);
            }
        });
        any
    }

    fn add(&mut self, cue: &Cue, zone: f32) {
        let (Some(seen), Some(sum)) = (self.seen.get_mut(cue.id), self.signals.get_mut(cue.signal as usize))
        else {
            return;
        };
        *sum += match *seen {
            0 => cue.weight * zone,
            1 => cue.weight * zone * 0.5,
            _ => 0.0,
        };
        *seen = seen.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(messages: &Value) -> Features {
        let body = json!({"model": "auto", "messages": messages});
        Features::read(&ChatRequest::from_value(&body).expect("a valid request"))
    }

    #[test]
    fn facts_are_counted() {
        let f = read(&json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
                {"type": "file", "file": {"file_id": "f"}}]},
        ]));
        assert_eq!((f.facts.message_count, f.facts.turns, f.facts.images, f.facts.other_media), (2, 1, 1, 1));
        assert_eq!(f.facts.text_bytes, 22);
        assert_eq!(f.facts.language, "en");
        assert!(!f.facts.has_code);
    }

    #[test]
    fn code_is_noticed_and_a_block_of_data_is_not_code() {
        assert!(read(&json!([{"role": "user", "content": "Fix:\n```\nx := f(1)\n```"}])).facts.has_code);
        assert!(
            !read(&json!([{"role": "user", "content": "Answer as\n```json\n{\n\"a\": \"_\"\n}\n```"}]))
                .facts
                .has_code
        );
    }

    #[test]
    fn long_texts_are_sampled_at_both_ends() {
        let filler = "The lake lay still under a grey sky. ".repeat(12_000);
        let f = read(
            &json!([{"role": "user", "content": format!("{filler}\nTranslate the text above into French.")}]),
        );
        assert!(f.signal(Signal::Translate) > 2.0);
        assert!(f.shape.bytes < 20_000, "read {} bytes", f.shape.bytes);
        assert!(f.facts.est_input_tokens > 100_000);
    }

    #[test]
    fn a_cue_said_often_counts_little_more() {
        let once = read(&json!([{"role": "user", "content": "poem"}])).signal(Signal::Form);
        let often = read(&json!([{"role": "user", "content": "poem ".repeat(100)}])).signal(Signal::Form);
        assert!(often <= once * 1.5 + 1e-6 && once > 0.0);
    }

    #[test]
    fn pieces_never_cut_a_character() {
        let text = "é".repeat(30_000);
        let p = Pieces::cut(&text, 101, 103);
        assert!(p.all().iter().all(|s| !s.is_empty()));
    }
}
