//! Dresses requests up in what says nothing of their family: a wish for JSON, a heading, a polite system message.
//!
//! Sources dress all their requests alike, so a dress seen on one source only would be learnt as a sign of its
//! family. Copies in other clothes teach the model to look through them. Benchmarks are also written with more care
//! than people type, so some copies begin in lower case and end without a mark.

use serde_json::{Value, json};

/// What is put before and after the text that asks.
const FRAMES: &[(&str, &str)] = &[
    (
        "",
        "\n\nPresent your answer in the following json format:\n\n```json\n{\n  \"reasoning\": \"___\",\n  \"answer\": \"___\"\n}\n```",
    ),
    ("", "\n\nAnswer in JSON with the keys \"thoughts\" and \"result\"."),
    ("", " Return only valid JSON: {\"answer\": \"...\"}"),
    ("", " Think step by step."),
    ("", "\n\nExplain your reasoning first, then give the final answer on the last line."),
    ("", " Answer in at most 100 words."),
    ("", " Use markdown, with a heading and three bullet points."),
    ("", " Do not use any commas. Wrap the whole answer in double quotation marks."),
    ("", " Keep it short, please."),
    ("", "\n\nAnswer in English, even if the text is in another language."),
    (
        "## Question:\n\n",
        "\n\n## Instruction:\n\nPlease answer by first reasoning and then giving your answer.",
    ),
    ("### Instruction:\n", "\n\n### Response:\n"),
    ("Q: ", "\nA:"),
    ("Question: ", "\n\nAnswer:"),
    ("Input:\n", "\n\nOutput:"),
    ("Task: ", ""),
    ("<task>\n", "\n</task>"),
    ("Hello! I have a request. ", " Thank you!"),
    ("Please help me with the following.\n\n", ""),
    ("**", "**"),
    // Only typed otherwise.
    ("", ""),
    ("", ""),
    ("", "\n"),
];

/// What may stand in a system message of any request.
const INSTRUCTIONS: &[&str] = &[
    "You are a helpful assistant.",
    "You are a helpful, respectful and honest assistant.",
    "You are an AI assistant made by a small company. Be concise and friendly.",
    "Follow the user's instructions carefully. Respond using markdown.",
    "Today is Monday, 3 June 2024. Reply in the user's language.",
    "You are an expert. Think carefully before you answer, and answer in JSON where asked.",
];

/// A copy of `body` in the clothes that `draw` names; `None` if nobody asks for anything in text.
pub(super) fn dressed(body: &Value, draw: u64) -> Option<Value> {
    let mut copy = body.clone();
    let messages = copy.get_mut("messages")?.as_array_mut()?;
    let has_system = messages.iter().any(|m| m["role"] == "system" || m["role"] == "developer");
    let asked = messages.iter_mut().rev().find(|m| m["role"] == "user")?;
    let text = asked.get("content")?.as_str()?.to_owned();
    let (before, after) = pick(FRAMES, draw)?;
    let text = typed(&text, draw / 64);
    *asked.get_mut("content")? = format!("{before}{text}{after}").into();
    if !has_system && draw.is_multiple_of(3) {
        let system = pick(INSTRUCTIONS, draw / 3)?;
        messages.insert(0, json!({"role": "system", "content": system}));
    }
    Some(copy)
}

/// The text as it is, or as people type: begun in the other case, or without the mark at its end.
fn typed(text: &str, draw: u64) -> String {
    let mut out = text.to_owned();
    if draw.is_multiple_of(2) {
        let mut letters = text.chars();
        if let Some(first) = letters.next() {
            let other: String = if first.is_lowercase() {
                first.to_uppercase().collect()
            } else {
                first.to_lowercase().collect()
            };
            out = other + letters.as_str();
        }
    }
    if (draw / 2).is_multiple_of(2) {
        out.truncate(out.trim_end_matches(['.', '?', '!', '。', '？', '！', '؟', '।']).len());
    }
    out
}

fn pick<T>(all: &[T], draw: u64) -> Option<&T> {
    all.get(usize::try_from(draw % u64::try_from(all.len()).ok()?).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_stays_and_the_clothes_vary() {
        let body =
            json!({"model": "auto", "messages": [{"role": "user", "content": "Why is the sky blue?"}]});
        let (mut seen, mut frames) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
        for draw in 0..600 {
            let copy = dressed(&body, draw).expect("a text that asks");
            let messages = copy["messages"].as_array().expect("messages");
            let asked = messages.last().expect("one")["content"].as_str().expect("text");
            assert!(asked.contains("hy is the sky blue"));
            seen.insert(asked.contains("Why") as u8 + 2 * u8::from(asked.contains("blue?")));
            frames.insert(copy.to_string());
        }
        assert!(frames.len() >= 20, "{}", frames.len());
        assert_eq!(seen.len(), 4, "both cases, with and without the mark");
        assert!(dressed(&json!({"messages": [{"role": "tool", "content": "x"}]}), 1).is_none());
    }
}
