//! Providers: who is asked, in which wire format, under which terms.

use super::KeyLimits;
use crate::control::Quota;
use serde::Serialize;
use std::time::Duration;

/// Wire format of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// OpenAI chat completions and everything compatible.
    OpenaiChat,
    /// Anthropic messages.
    AnthropicMessages,
    /// Google generateContent.
    Gemini,
    /// No network: answers made up in process, deterministic from a seed.
    Simulated,
    /// No network: answers from a table of recorded outcomes.
    Recorded,
}

impl Dialect {
    /// The strings of the file, in order.
    pub const NAMES: &'static [&'static str] =
        &["openai_chat", "anthropic_messages", "gemini", "simulated", "recorded"];

    /// The dialect of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "openai_chat" => Dialect::OpenaiChat,
            "anthropic_messages" => Dialect::AnthropicMessages,
            "gemini" => Dialect::Gemini,
            "simulated" => Dialect::Simulated,
            "recorded" => Dialect::Recorded,
            _ => return None,
        })
    }

    /// Whether calls leave the process.
    #[must_use]
    pub const fn is_remote(self) -> bool {
        !matches!(self, Dialect::Simulated | Dialect::Recorded)
    }
}

/// What a provider asks for its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Within stated limits, nothing.
    Free,
    /// Its list price.
    Paid,
}

/// What a provider does with data; `None` = not known, which no policy accepts as met.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct DataPolicy {
    /// Days that requests are kept.
    pub retention_days: Option<u32>,
    /// Whether they are trained on.
    pub trains: Option<bool>,
    /// Zero data retention agreed.
    pub zdr: Option<bool>,
}

/// Deviations from the dialect, as data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quirks {
    /// `stream_options.include_usage` is understood. Default true.
    pub stream_usage: bool,
    /// Member that limits output tokens: `max_tokens` (default) or `max_completion_tokens`.
    pub max_tokens_field: String,
    /// The vendor says `stop` where tool calls end a stream. Default false.
    pub stop_for_tool_calls: bool,
    /// Members of the body that the vendor refuses and that are left out.
    pub drop: Vec<String>,
    /// `developer` messages are sent as `system`. Default false.
    pub developer_as_system: bool,
    /// An answer may begin with a repetition of its `prefill`. Default false.
    pub prefill_echoed: bool,
    /// Thoughts of earlier answers that the client sends back (`reasoning`, `reasoning_content`, `reasoning_details`,
    /// `thinking_blocks` of messages) go on to the vendor. Default false: most refuse members that they do not know.
    pub reasoning_history: bool,
    /// Members of messages that the vendor takes beside `role` and `content`; empty (the default) = all. What clients send
    /// back of answers has more of them than some vendors know.
    pub message_members: Vec<String>,
    /// Identifiers of tool calls that the vendor takes in histories. Default [`ToolCallIds::Any`].
    pub tool_call_ids: ToolCallIds,
}

/// Members of a message with the thoughts of an earlier answer.
pub const THOUGHTS: [&str; 4] = ["reasoning", "reasoning_content", "reasoning_details", "thinking_blocks"];

impl Quirks {
    /// Whether the vendor takes a member of messages of that name.
    #[must_use]
    pub fn takes_in_messages(&self, member: &str) -> bool {
        match member {
            "role" | "content" => true,
            thoughts if THOUGHTS.contains(&thoughts) => self.reasoning_history,
            other => self.message_members.is_empty() || self.message_members.iter().any(|m| m == other),
        }
    }
}

/// Identifiers of tool calls that a vendor of chat completions takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolCallIds {
    /// Up to 40 characters, as OpenAI does.
    #[default]
    Any,
    /// Nine letters and digits, as Mistral does.
    Nine,
}

impl ToolCallIds {
    /// All of them, as written.
    pub const NAMES: &'static [&'static str] = &["any", "nine"];

    /// The form of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "any" => Some(ToolCallIds::Any),
            "nine" => Some(ToolCallIds::Nine),
            _ => None,
        }
    }
}

impl Default for Quirks {
    fn default() -> Self {
        Quirks {
            stream_usage: true,
            max_tokens_field: "max_tokens".to_owned(),
            stop_for_tool_calls: false,
            drop: Vec::new(),
            developer_as_system: false,
            prefill_echoed: false,
            reasoning_history: false,
            message_members: Vec::new(),
            tool_call_ids: ToolCallIds::Any,
        }
    }
}

/// How long each phase of a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Timeouts {
    /// Until the connection stands. Default 2 s.
    pub connect: Duration,
    /// Until the first event of a stream. An answer that comes whole has none: [`Timeouts::total`] bounds it. Default
    /// 60 s.
    pub first_token: Duration,
    /// Between two events. Default 30 s.
    pub inter_token: Duration,
    /// The whole call. Default 600 s, as long as the SDKs of vendors wait; the request has a time of its own besides.
    pub total: Duration,
    /// Tokens per second that a streamed answer must come with once it has begun, over 20 s; a slower one counts
    /// as stalled. 0 = none. Default 1.
    pub min_tokens_per_second: f64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect: Duration::from_secs(2),
            first_token: Duration::from_secs(60),
            inter_token: Duration::from_secs(30),
            total: Duration::from_secs(600),
            min_tokens_per_second: 1.0,
        }
    }
}

/// A provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Provider {
    /// Its name, the part before the first `/` of its models.
    pub id: String,
    /// Its wire format.
    pub dialect: Dialect,
    /// Where it listens; empty for dialects without a network. `${ENV:NAME}` is already expanded.
    pub base_url: String,
    /// Environment variables that hold its keys; empty = no key needed.
    pub api_key_env: Vec<String>,
    /// Where it works, if known.
    pub region: Option<String>,
    /// Free or paid.
    pub tier: Tier,
    /// What a key may use of all its models together for nothing; that of a model holds besides. Only for [`Tier::Free`].
    pub free_tier: Option<KeyLimits>,
    /// What a key may use of all its models together in any case; that of a model holds besides.
    pub limits: Option<KeyLimits>,
    /// What single keys may use, by the name of the variable, or of the stored key; a name that is not here has no limit of
    /// its own. Each counts all models together, beside what holds for every key.
    pub key_limits: Vec<(String, Vec<Quota>)>,
    /// Static headers; values may be `${ENV:NAME}`, expanded by the providers room.
    pub headers: Vec<(String, String)>,
    /// What it does with data.
    pub data: DataPolicy,
    /// Deviations from the dialect.
    pub quirks: Quirks,
    /// How long calls may take.
    pub timeouts: Timeouts,
    /// Switched off by the operator when false.
    pub enabled: bool,
    /// Date of the prices, `YYYY-MM-DD`.
    pub as_of: Option<String>,
    /// Where the prices stand.
    pub source: Option<String>,
    /// Outcome table of a `recorded` provider: a folder in the format of the routing packs.
    pub file: Option<String>,
    /// Seed of a `simulated` provider. Default 0.
    pub seed: u64,
}

impl Provider {
    /// A paid provider that is switched on, needs no key and promises nothing; the rest is for the caller to say.
    #[must_use]
    pub fn new(id: impl Into<String>, dialect: Dialect) -> Self {
        Provider {
            id: id.into(),
            dialect,
            base_url: String::new(),
            api_key_env: Vec::new(),
            region: None,
            tier: Tier::Paid,
            free_tier: None,
            limits: None,
            key_limits: Vec::new(),
            headers: Vec::new(),
            data: DataPolicy::default(),
            quirks: Quirks::default(),
            timeouts: Timeouts::default(),
            enabled: true,
            as_of: None,
            source: None,
            file: None,
            seed: 0,
        }
    }
}
