//! The one pass over a request: structure, and what a bounded sample of its text says.

mod count;
mod marks;
mod pieces;
mod reader;

pub(crate) use marks::{Marks, warm_up};
pub(crate) use pieces::{head, tail};

use crate::cues::Signal;
use crate::grams::Sink;
use crate::scan::Signs;
use crate::shape::{Shape, asks_in_greek};
use pieces::Pieces;
use reader::Reader;
use types::ChatRequest;
use types::chat::{Message, ResponseFormat, Role, ToolChoice};
use types::profile::Facts;

/// Bytes read of the material of the text that asks, at its start and at its end.
const BODY_HEAD: usize = 6_000;
const BODY_TAIL: usize = 3_000;
/// Bytes read of the material of the instructions, at its start and at its end.
const INSTRUCTION_HEAD: usize = 3_000;
const INSTRUCTION_TAIL: usize = 1_000;
/// Longest instructions that set one piece of work, bytes.
const TELLING_BYTES: usize = 1_500;
/// Evidence, at the weight of instructions, from which on they set it.
const TELLING: f32 = 1.2;
/// Other work that instructions may set.
const OTHER_WORK: [Signal; 7] = [
    Signal::Coding,
    Signal::Planning,
    Signal::ToolUse,
    Signal::Rag,
    Signal::Agent,
    Signal::Math,
    Signal::Form,
];
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

/// Work on a text that instructions set for every text that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// To take facts out of it or to label it.
    Extract,
    /// To judge it.
    Judge,
}

/// Everything the axes look at.
#[derive(Clone, Debug)]
pub(crate) struct Features {
    /// Counts for the profile; `est_output_tokens` is filled in later.
    pub(crate) facts: Facts,
    /// Lines and paragraphs of the text that asks.
    pub(crate) shape: Shape,
    /// Lines and paragraphs of the instructions.
    pub(crate) instruction_shape: Shape,
    /// Shape of recent tool results.
    pub(crate) result_shape: Shape,
    /// Signs of the text that asks.
    pub(crate) signs: Signs,
    /// What the edges of the text that asks hold beyond words.
    pub(crate) marks: Marks,
    /// The same of the instructions.
    pub(crate) instruction_marks: Marks,
    /// Bytes of the text that asks.
    pub(crate) ask_bytes: usize,
    /// How the text that asks begins and ends.
    pub(crate) ask_edge: AskEdge,
    /// Bytes of the system and developer messages.
    pub(crate) instruction_bytes: usize,
    /// The instructions begin by telling the model what it is or must do, rather than with material.
    pub(crate) instruction_address: bool,
    /// The work that the instructions set, the text that asks being only what it is done on.
    pub(crate) told: Option<Told>,
    /// Document markers seen in the instructions.
    pub(crate) instruction_documents: f32,
    /// Assistant turns before the last message.
    pub(crate) assistant_turns: u32,
    /// Assistant turns, of the looked-at ones, that call a tool, read as a command or hold an action mark.
    pub(crate) command_turns: u32,
    /// Assistant turns looked at.
    pub(crate) looked_turns: u32,
    /// Earlier user turns, of the looked-at ones, that hold no question.
    pub(crate) questionless_turns: u32,
    /// Earlier user turns looked at.
    pub(crate) history_turns: u32,
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
    /// Weight of evidence per signal, in the order of [`Signal::ALL`].
    pub(crate) signals: [f32; Signal::COUNT],
}

/// How a text begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AskEdge {
    /// Its last visible character is a question mark.
    pub(crate) question: bool,
    /// Its last visible character is a colon: something is to be filled in.
    pub(crate) colon: bool,
    /// It ends in a shell's prompt.
    pub(crate) prompt: bool,
    /// It begins with a lower-case letter.
    pub(crate) lower: bool,
}

/// Weight of evidence per signal, in the order of [`Signal::ALL`].
type Signals = [f32; Signal::COUNT];

/// A cue that was found: its number, how much it adds to its signal.
pub(crate) type Hit = (u32, f32);

impl Features {
    /// Reads a request; n-grams go to `sink`.
    pub(crate) fn read(request: &ChatRequest, sink: &mut impl Sink) -> Self {
        Features::read_noting(request, sink, None)
    }

    /// As [`Features::read`], and notes every cue found.
    pub(crate) fn read_noting(
        request: &ChatRequest,
        sink: &mut impl Sink,
        hits: Option<&mut Vec<Hit>>,
    ) -> Self {
        let mut features = Features::structure(request);
        let ask = ask_text(request);
        let mut reader = Reader::new(sink, hits);
        features.read_ask(&ask, &mut reader);
        let asked = reader.signals;
        features.read_instructions(request, &mut reader);
        features.told = features.told_by(request, &asked, &reader.signals);
        features.read_history(request, &mut reader);
        features.read_transcript(request, &mut reader);
        features.signals = reader.signals;
        let found = reader.language.result();
        features.facts.language = found.main;
        features.facts.second_language = found.second;
        features.facts.has_code = features.holds_code();
        features
    }

    /// Evidence for `signal`: weights of its cues times how much their places count.
    pub(crate) fn signal(&self, signal: Signal) -> f32 {
        self.signals.get(signal as usize).copied().unwrap_or(0.0)
    }

    /// Share of the bytes of ask and instructions that stand in code, data or table lines, 0..=1.
    pub(crate) fn structured_share(&self) -> f32 {
        let bytes = self.shape.bytes.saturating_add(self.instruction_shape.bytes);
        let structured = self.shape.structured_bytes.saturating_add(self.instruction_shape.structured_bytes);
        if bytes == 0 { 0.0 } else { structured as f32 / bytes as f32 }
    }

    /// Share of the bytes of ask and instructions that stand in data, tables and records, 0..=1.
    pub(crate) fn data_share(&self) -> f32 {
        let bytes = self.shape.bytes.saturating_add(self.instruction_shape.bytes);
        let data = self.shape.data_bytes.saturating_add(self.instruction_shape.data_bytes);
        if bytes == 0 { 0.0 } else { (data as f32 / bytes as f32).min(1.0) }
    }

    fn structure(request: &ChatRequest) -> Self {
        let params = &request.params;
        Features {
            facts: count::facts(request),
            shape: Shape::default(),
            instruction_shape: Shape::default(),
            result_shape: Shape::default(),
            signs: Signs::default(),
            marks: Marks::default(),
            instruction_marks: Marks::default(),
            ask_bytes: 0,
            ask_edge: AskEdge::default(),
            instruction_bytes: 0,
            instruction_address: false,
            told: None,
            instruction_documents: 0.0,
            assistant_turns: 0,
            command_turns: 0,
            looked_turns: 0,
            questionless_turns: 0,
            history_turns: 0,
            contract: match request.response_format {
                ResponseFormat::Text => Contract::FreeText,
                ResponseFormat::JsonObject => Contract::JsonObject,
                ResponseFormat::JsonSchema { .. } => Contract::JsonSchema,
            },
            tools_forbidden: request.tool_choice == ToolChoice::None,
            tools_demanded: request.tool_choice.demands(),
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

    fn read_ask<S: Sink>(&mut self, ask: &str, reader: &mut Reader<'_, S>) {
        self.ask_bytes = ask.len();
        self.ask_edge = AskEdge::of(ask);
        let pieces = Pieces::cut(ask, BODY_HEAD, BODY_TAIL);
        for piece in pieces.all() {
            self.shape.read(piece);
        }
        self.shape.end();
        reader.edge(pieces.edge_head, zone::ASK, true);
        self.marks.read(pieces.edge_head, &reader.scanner.tokens);
        reader.body(pieces.body_head, zone::ASK_BODY);
        reader.body(pieces.body_tail, zone::ASK_BODY);
        reader.edge(pieces.edge_tail, zone::ASK, false);
        if !pieces.edge_tail.is_empty() {
            self.marks.read(pieces.edge_tail, &reader.scanner.tokens);
        }
        self.signs = std::mem::take(&mut reader.scanner.signs);
    }

    fn read_instructions<S: Sink>(&mut self, request: &ChatRequest, reader: &mut Reader<'_, S>) {
        let before = reader.signal(Signal::Document);
        let mut budget = INSTRUCTION_HEAD.saturating_add(INSTRUCTION_TAIL);
        for text in texts(request.messages.iter().filter(|m| m.role.is_instruction())) {
            let first = self.instruction_bytes == 0;
            self.instruction_bytes = self.instruction_bytes.saturating_add(text.len());
            if budget == 0 {
                continue;
            }
            let pieces = Pieces::cut(text, INSTRUCTION_HEAD.min(budget), INSTRUCTION_TAIL.min(budget));
            budget = budget.saturating_sub(text.len());
            for piece in pieces.all() {
                self.instruction_shape.read(piece);
            }
            if first {
                self.instruction_address = addresses(text);
            }
            reader.edge(pieces.edge_head, zone::INSTRUCTION, first);
            self.instruction_marks.read(pieces.edge_head, &reader.scanner.tokens);
            reader.body(pieces.body_head, zone::INSTRUCTION_BODY);
            reader.body(pieces.body_tail, zone::INSTRUCTION_BODY);
            reader.edge(pieces.edge_tail, zone::INSTRUCTION, false);
            if !pieces.edge_tail.is_empty() {
                self.instruction_marks.read(pieces.edge_tail, &reader.scanner.tokens);
            }
        }
        self.instruction_shape.end();
        self.instruction_documents = reader.signal(Signal::Document) - before;
        self.signs.words_asked = self.signs.words_asked.or(reader.scanner.signs.words_asked);
    }

    /// The work that instructions set on the one text that follows them: what they added to the signals of the text
    /// tells.
    fn told_by(&self, request: &ChatRequest, asked: &Signals, all: &Signals) -> Option<Told> {
        let others = request.messages.iter().filter(|m| !m.role.is_instruction()).count();
        if others != 1 || self.facts.tools > 0 || !(1..=TELLING_BYTES).contains(&self.instruction_bytes) {
            return None;
        }
        let weight = |of: &Signals, signal: Signal| of.get(signal as usize).copied().unwrap_or(0.0);
        let told = |signal: Signal| weight(all, signal) - weight(asked, signal);
        let (extract, judge) = (told(Signal::Extraction), told(Signal::Eval));
        let other = OTHER_WORK.into_iter().map(told).fold(0.0, f32::max);
        if extract.max(judge) < TELLING || extract.max(judge) <= other {
            return None;
        }
        Some(if extract >= judge { Told::Extract } else { Told::Judge })
    }

    fn read_history<S: Sink>(&mut self, request: &ChatRequest, reader: &mut Reader<'_, S>) {
        let earlier = request.messages.iter().rev().filter(|m| m.role == Role::User).skip(1);
        for message in earlier.take(HISTORY_TURNS) {
            let mut asks = false;
            for text in message.content.texts().take(2) {
                let piece = head(text, HISTORY_BYTES);
                asks |= piece.contains(['?', '？']) || tail(text, 64).contains(['?', '？']);
                reader.body(piece, zone::HISTORY);
            }
            self.history_turns = self.history_turns.saturating_add(1);
            self.questionless_turns = self.questionless_turns.saturating_add(u32::from(!asks));
        }
    }

    fn read_transcript<S: Sink>(&mut self, request: &ChatRequest, reader: &mut Reader<'_, S>) {
        let turns = request.messages.iter().rev().filter(|m| m.role == Role::Assistant);
        for (i, message) in turns.enumerate() {
            self.assistant_turns = self.assistant_turns.saturating_add(1);
            if i < ACTION_TURNS {
                self.looked_turns = self.looked_turns.saturating_add(1);
                let text = message.content.texts().next().unwrap_or("");
                let marked =
                    reader.actions(head(text, ACTION_BYTES)) | reader.actions(tail(text, ACTION_BYTES));
                let command = marked || !message.tool_calls.is_empty() || is_command(text);
                self.command_turns = self.command_turns.saturating_add(u32::from(command));
            }
        }
        let results = request.messages.iter().rev().filter(|m| matches!(m.role, Role::Tool | Role::Function));
        for text in texts(results.take(RESULT_TURNS)) {
            self.result_shape.read(head(text, RESULT_BYTES));
        }
    }

    fn holds_code(&self) -> bool {
        let (ask, told) = (&self.shape, &self.instruction_shape);
        let code = ask.code_lines.saturating_add(told.code_lines);
        let fences = ask.fences.saturating_add(told.fences);
        let data = ask.data_lines.saturating_add(told.data_lines);
        // A pair of fences around JSON is data rather than code.
        let fenced = fences >= 2 && (data == 0 || code > 0);
        ask.definitions > 0
            || told.definitions > 0
            || code >= 4
            || (code >= 2 && ask.code_share() > 0.2)
            || fenced
    }
}

impl AskEdge {
    fn of(text: &str) -> Self {
        let end = text.trim_end();
        let last = end.chars().next_back();
        AskEdge {
            question: matches!(last, Some('?' | '？' | '؟')) || asks_in_greek(end),
            colon: matches!(last, Some(':' | '：')),
            prompt: matches!(end.as_bytes(), [.., b'$' | b'#'] | [.., b'>', b'>', b'>']),
            lower: text.chars().next().is_some_and(char::is_lowercase),
        }
    }
}

fn texts<'a>(messages: impl Iterator<Item = &'a Message>) -> impl Iterator<Item = &'a str> {
    messages.flat_map(|m| m.content.texts())
}

/// The text that asks: the last user message that holds any, else the last message that does.
pub(crate) fn ask_text(request: &ChatRequest) -> std::borrow::Cow<'_, str> {
    let holds_text = |m: &&Message| m.content.texts().any(|t| !t.trim_ascii().is_empty());
    let user = request.messages.iter().rev().filter(|m| m.role == Role::User).find(holds_text);
    user.or_else(|| request.messages.iter().rev().find(holds_text)).map_or("".into(), |m| m.content.text())
}

/// Whether instructions speak to the model from their first words on.
fn addresses(text: &str) -> bool {
    let start = text.trim_start_matches(|c: char| !c.is_alphanumeric());
    [
        "you ", "your ", "please ", "act ", "as an ", "as a ", "answer ", "use ", "read ", "given ",
        "extract ", "respond ",
    ]
    .iter()
    .any(|w| start.as_bytes().get(..w.len()).is_some_and(|s| s.eq_ignore_ascii_case(w.as_bytes())))
}

/// A terse command rather than speech: short, lower case, not a sentence; or a closing fence.
fn is_command(text: &str) -> bool {
    let text = text.trim_ascii();
    let speech_end = matches!(text.as_bytes().last(), Some(b'.' | b'?' | b'!'));
    let terse =
        text.len() <= 80 && text.as_bytes().first().is_some_and(u8::is_ascii_lowercase) && !speech_end;
    terse || (text.ends_with("```") && text.len() < 2_000 && text.matches("```").count() == 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(messages: &Value) -> Features {
        let body = json!({"model": "auto", "messages": messages});
        Features::read(&ChatRequest::from_value(&body).expect("a valid request"), &mut crate::grams::Nowhere)
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
        assert!(!f.facts.has_code && f.ask_edge.question);
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
    fn instructions_that_are_material_are_told_from_instructions() {
        assert!(addresses("You are a helpful assistant."));
        assert!(addresses("# Your task\n…"));
        assert!(!addresses("The Aare is a river in Switzerland."));
    }
}
