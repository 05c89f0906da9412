//! Requests of several families whose answers can be checked, and checks of them that share no code with ours.

use serde_json::{Map, Value, json};
use types::chat::ToolCall;
use types::completion::Completion;

/// Families of the requests, by the names of the router, one after the other.
pub(crate) const FAMILIES: &[&str] = &["extraction", "coding", "planning", "rag", "tool_use", "agent_loop"];

const PEOPLE: &[&str] =
    &["Ada Lovelace", "Alan Turing", "Grace Hopper", "Katherine Johnson", "Edsger Dijkstra"];
const CITIES: &[&str] = &["Lisbon", "Oslo", "Nairobi", "Quito", "Hanoi", "Wellington", "Turin"];

/// What the values of an answer's members must be.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// One of these.
    Word(&'static [&'static str]),
    /// A whole number from the first to the last.
    Whole(i64, i64),
    /// At least one text.
    Texts,
}

impl Kind {
    fn schema(self) -> Value {
        match self {
            Kind::Text => json!({"type": "string"}),
            Kind::Word(words) => json!({"enum": words}),
            Kind::Whole(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Kind::Texts => json!({"type": "array", "items": {"type": "string"}, "minItems": 1}),
        }
    }

    fn holds(self, v: &Value) -> bool {
        match self {
            Kind::Text => v.is_string(),
            Kind::Word(words) => v.as_str().is_some_and(|s| words.contains(&s)),
            Kind::Whole(least, most) => v.as_i64().is_some_and(|n| (least..=most).contains(&n)),
            Kind::Texts => v.as_array().is_some_and(|l| !l.is_empty() && l.iter().all(Value::is_string)),
        }
    }
}

type Members = &'static [(&'static str, Kind)];

const PERSON: Members = &[("name", Kind::Text), ("age", Kind::Whole(0, 130)), ("city", Kind::Text)];
const CODE: Members =
    &[("language", Kind::Word(&["rust", "python"])), ("code", Kind::Text), ("tests", Kind::Texts)];
const PLAN: Members = &[("goal", Kind::Text), ("steps", Kind::Texts), ("weeks", Kind::Whole(1, 52))];
const FACTS: Members =
    &[("answer", Kind::Text), ("sources", Kind::Texts), ("found", Kind::Word(&["yes", "no"]))];
const WEATHER: Members = &[("city", Kind::Text), ("days", Kind::Whole(1, 7))];

/// One request, and what its answer has to be.
pub(crate) struct Task {
    /// Of [`FAMILIES`].
    pub(crate) family: &'static str,
    /// A chat-completions body without `model` and `routing`.
    pub(crate) body: Map<String, Value>,
    members: Members,
}

/// The `n`th request of a seed.
pub(crate) fn task(n: usize, seed: u64) -> Task {
    let family = FAMILIES.iter().cycle().nth(n % FAMILIES.len()).copied().unwrap_or_default();
    let pick =
        |list: &[&'static str]| list.iter().cycle().nth(n / FAMILIES.len() % 97).copied().unwrap_or_default();
    let (person, city) = (pick(PEOPLE), pick(CITIES));
    let (members, text) = match family {
        "extraction" => (PERSON, format!("Extract name, age and city: {person}, {}, {city}.", 20 + n % 70)),
        "coding" => {
            (CODE, format!("Write a function that finds every {}th word of a text, with tests.", 2 + n % 50))
        }
        "planning" => (PLAN, format!("Plan how {} people move their office to {city}.", 10 + n % 90)),
        "rag" => {
            (FACTS, format!("[1] {city} has {} bus stops.\n\nHow many bus stops has {city}?", 100 + n % 900))
        }
        _ => (WEATHER, format!("How will the weather in {city} be in the next {} days?", 1 + n % 7)),
    };
    let mut body = Map::from_iter([
        ("messages".to_owned(), json!([{"role": "user", "content": text}])),
        ("max_tokens".to_owned(), json!(800)),
        ("seed".to_owned(), json!(seed)),
    ]);
    if calls_tools(family) {
        let other =
            json!({"type": "object", "properties": {"symbol": {"type": "string"}}, "required": ["symbol"]});
        let tool = |name: &str, about: &str, parameters: &Value| json!({"type": "function", "function": {"name": name, "description": about, "parameters": parameters}});
        let tools = [
            tool("get_weather", "How the weather of a city will be in the next days.", &schema(members)),
            tool("get_price", "The price of a share.", &other),
        ];
        body.insert("tools".to_owned(), json!(tools));
        body.insert("tool_choice".to_owned(), json!("required"));
    } else {
        let format = json!({"name": "answer", "strict": true, "schema": schema(members)});
        body.insert("response_format".to_owned(), json!({"type": "json_schema", "json_schema": format}));
    }
    Task { family, body, members }
}

fn calls_tools(family: &str) -> bool {
    matches!(family, "tool_use" | "agent_loop")
}

fn schema(members: Members) -> Value {
    let properties: Map<String, Value> =
        members.iter().map(|(k, kind)| ((*k).to_owned(), kind.schema())).collect();
    let names: Vec<&str> = members.iter().map(|(k, _)| *k).collect();
    json!({"type": "object", "properties": properties, "required": names, "additionalProperties": false})
}

impl Task {
    /// Whether an answer is what was asked for.
    pub(crate) fn is_met(&self, answer: &Completion) -> bool {
        if !calls_tools(self.family) {
            return self.fits(answer.text());
        }
        match answer.tool_calls() {
            [ToolCall { name, arguments, .. }] => name == "get_weather" && self.fits(arguments),
            _ => false,
        }
    }

    /// Exactly the members, each of its kind.
    fn fits(&self, text: &str) -> bool {
        let Ok(Value::Object(given)) = serde_json::from_str(text) else { return false };
        given.len() == self.members.len()
            && self.members.iter().all(|(k, kind)| given.get(*k).is_some_and(|v| kind.holds(v)))
    }
}
