//! What kind of work is asked for: the model's probabilities, and the refinement the text names.

use super::explicit_or;
use crate::cues::Signal;
use crate::features::{Contract, Features};
use crate::model::{CLASSES, Class, PerClass};
use types::Options;
use types::axis::{AxisValue, TaskFamily};
use types::profile::{Scored, SubLabel};

/// Scores the family by the model's probability per class, and names the refinement; the option `task_family` wins.
pub(crate) fn score(
    features: &Features,
    probabilities: &PerClass,
    options: &Options,
) -> (Scored<TaskFamily>, Option<SubLabel>) {
    let family = explicit_or(options.task_family, || {
        Scored::from_weights(&by_family(&humbled(features, probabilities)))
    });
    let likeliest = Class::ALL
        .into_iter()
        .zip(probabilities)
        .filter(|(class, _)| class.family() == family.value)
        .max_by(|a, b| a.1.total_cmp(b.1));
    let sub = likeliest.and_then(|(class, _)| class.sub_label());
    (family, sub.or_else(|| refinement(features, family.value)))
}

/// Of a text of a few letters nothing can be known: the fewer there are, the more every class is as likely as any.
fn humbled(f: &Features, probabilities: &PerClass) -> PerClass {
    let structure = f.facts.tools > 0 || f.facts.tool_results > 0 || f.contract != Contract::FreeText;
    if structure {
        return *probabilities;
    }
    let doubt = 1.0 / (2.0 + f.ask_bytes.saturating_add(f.instruction_bytes) as f32);
    probabilities.map(|p| (1.0 - doubt) * p + doubt / CLASSES as f32)
}

/// Sums the classes of each family, in the order of `TaskFamily::ALL`.
fn by_family(probabilities: &PerClass) -> [f32; TaskFamily::ALL.len()] {
    let mut weights = [0.0; TaskFamily::ALL.len()];
    for (class, p) in Class::ALL.into_iter().zip(probabilities) {
        if let Some(slot) = weights.get_mut(class.family().index()) {
            *slot += p;
        }
    }
    weights
}

/// Summaries, translations and factual questions within chat and rag.
fn refinement(f: &Features, family: TaskFamily) -> Option<SubLabel> {
    if !matches!(family, TaskFamily::Chat | TaskFamily::Rag) {
        return None;
    }
    let (summary, translation) = (f.signal(Signal::Summarise), f.signal(Signal::Translate));
    if translation >= 1.5 && translation >= summary {
        return Some(SubLabel::Translation);
    }
    if summary >= 1.5 {
        return Some(SubLabel::Summarisation);
    }
    let factual = f.signal(Signal::Factual) >= 1.0 && f.ask_bytes < 600 && f.signal(Signal::Chat) < 3.0;
    (factual && family == TaskFamily::Chat).then_some(SubLabel::KnowledgeQa)
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::{body, text, tool, trajectory};
    use serde_json::{Value, json};
    use types::WorkloadProfile;
    use types::axis::AxisValue;
    use types::profile::SubLabel;

    /// The refinement where it stands for a class of its own, else the family.
    fn class(p: &WorkloadProfile) -> &'static str {
        match p.sub_label {
            Some(sub @ (SubLabel::Math | SubLabel::Creative)) => sub.as_str(),
            _ => p.task_family.value.as_str(),
        }
    }

    fn check(input: &str, expected: &str) {
        let p = text(input);
        assert_eq!(class(&p), expected, "{input}\n{:?}", p.task_family);
    }

    fn check_body(input: &Value, expected: &str) {
        let p = body(input.clone());
        assert_eq!(class(&p), expected, "{input}\n{:?}", p.task_family);
    }

    #[test]
    fn coding() {
        check("Why does this segfault?\n```c\nint *p = 0;\n*p = 3;\n```", "coding");
        check("Write a Rust function that counts vowels in a string.", "coding");
        check(
            "You are an expert Python programmer. Your code should pass these tests:\nassert rev([1,2]) == [2,1]",
            "coding",
        );
        check("Write a SQL query that finds the second highest salary.", "coding");
        check(
            "Refactor the login handler in our codebase to use async functions and add unit tests.",
            "coding",
        );
        check("Schreibe eine Python-Funktion, die eine Liste sortiert.", "coding");
        check("用Python写一个函数，计算两个数的最大公约数。", "coding");
        check("Create a React component with a button that toggles dark mode. Use TypeScript.", "coding");
    }

    #[test]
    fn math() {
        check("A train travels 60 miles in 1.5 hours. How fast does it go in miles per hour?", "math");
        check("Find all real numbers x such that x^2 - 5x + 6 = 0.", "math");
        check("What is the remainder when 7^{100} is divided by 13?", "math");
        check("Tom has 3 apples and buys 4 more. Then he eats 2. How many apples are left?", "math");
        check(
            "Berechne die Wahrscheinlichkeit, mit zwei Würfeln 7 zu werfen. Wie viele Fälle gibt es?",
            "math",
        );
        check("小明有5个苹果，又买了3个，一共有多少个苹果？", "math");
        check("Evaluate \\(\\int_0^1 x^2 dx\\) and prove the result.", "math");
    }

    #[test]
    fn creative() {
        check("Write a limerick about a cat who loves jazz.", "creative");
        check("Compose a persuasive email to my landlord asking for a new fridge.", "creative");
        check("Écris un poème sur l'automne.", "creative");
        check("写一首关于月亮的诗。", "creative");
        check("Напиши короткий рассказ про робота.", "creative");
        check("Draft a wedding toast for my sister, funny and warm.", "creative");
        check("Write a blog post about visiting Kyoto in spring.", "creative");
    }

    #[test]
    fn chat() {
        check("What are some good hobbies for winter?", "chat");
        check("Why is the sky blue?", "chat");
        check("I feel lonely after moving to a new city. Any advice?", "chat");
        check("Pretend you are Napoleon. What do you think of modern France?", "chat");
        check("¿Por qué es importante dormir bien?", "chat");
        check("What are the pros and cons of remote work?", "chat");
        check("Translate to French: where is the station?", "chat");
        check("Who was the first person on the moon?", "chat");
        check("asdf", "chat");
    }

    #[test]
    fn extraction() {
        check(
            "Extract the names, dates and amounts from this invoice: ACME, 3 May 2021, $120.",
            "extraction",
        );
        check(
            "Classify the review as positive, negative or neutral.\n\nThe food was cold and the waiter rude.",
            "extraction",
        );
        check(
            "Identify all persons and organizations mentioned in the following text: Ann joined IBM in May.",
            "extraction",
        );
        check("Extrahiere alle Firmennamen aus dem Text: Siemens und Bosch planen ein Werk.", "extraction");
        check("从下面的文本中提取所有人名：张三和李四去了北京。", "extraction");
        let schema =
            json!({"type": "json_schema", "json_schema": {"name": "person", "schema": {"type": "object"}}});
        check_body(
            &json!({"messages": [{"role": "user", "content": "Jane Doe, 42, lives in Lyon."}], "response_format": schema}),
            "extraction",
        );
    }

    #[test]
    fn planning() {
        check("Make a 12-week training plan for my first half marathon, with rest days.", "planning");
        check(
            "Plan a five-day trip to Portugal for a family with two kids and a budget of 2000 euros.",
            "planning",
        );
        check("Create a project roadmap with milestones for launching a mobile app.", "planning");
        check("Erstelle einen Plan für meinen Umzug mit allen Schritten.", "planning");
        check("请为我制定一个三天的上海旅行计划。", "planning");
        check(
            "You and three friends are free at different times. Find a time for a meeting schedule that suits all: Ann 9-11, Bob 10-12, Cy 10-11.",
            "planning",
        );
    }

    #[test]
    fn eval() {
        check(
            "Please act as an impartial judge and evaluate the quality of the responses of two AI assistants. [The Start of Assistant A's Answer] Paris. [The End of Assistant A's Answer] [The Start of Assistant B's Answer] Rome. [The End of Assistant B's Answer] Output your final verdict.",
            "eval",
        );
        check(
            "Grade the student's answer from 0 to 10 against the reference answer.\nReference answer: 42\nStudent answer: 41",
            "eval",
        );
        check(
            "Rate the following summary on a scale of 1 to 5 for coherence and relevance.\nSummary: It rained.",
            "eval",
        );
        check("Which response is better? Response A: yes. Response B: no. Explain your verdict.", "eval");
    }

    #[test]
    fn rag() {
        check(
            "Use the following context to answer the question. If the answer is not in the context, say you do not know.\n\n\
             Context: The Aare is a tributary of the High Rhine and the longest river that both rises and ends entirely \
             within Switzerland. Its total length is 288 km.\n\nQuestion: How long is the Aare?",
            "rag",
        );
        let documents = "You are a support assistant. Answer using only the documents.\n<documents>\n<document>\n\
            Refunds are possible within 30 days of purchase, provided that the item is unused and in its original box. \
            Shipping costs are not refunded.\n</document>\n<document>\nGift cards never expire.\n</document>\n</documents>";
        for question in ["Can I return a used lamp?", "and gift cards", "Do they ever expire?"] {
            check_body(
                &json!({"messages": [{"role": "system", "content": documents}, {"role": "user", "content": question}]}),
                "rag",
            );
        }
    }

    #[test]
    fn tool_use_and_agent_loops_are_told_by_structure() {
        let ask = json!([{"role": "user", "content": "Write a poem about the weather in Rome."}]);
        check_body(&json!({"messages": ask, "tools": [tool()]}), "tool_use");
        check_body(&json!({"messages": ask, "tools": [tool()], "tool_choice": "none"}), "creative");
        check_body(&json!({"messages": trajectory(), "tools": [tool()]}), "agent_loop");
        check_body(&json!({"messages": trajectory()}), "agent_loop");
        check(
            "You have access to the following tools:\n\nsearch(query): web search\ncalc(expr): calculator\n\n\
             To call a tool, write a JSON tool call with its arguments.\n\nHow old is the Eiffel tower?",
            "tool_use",
        );
    }

    #[test]
    fn a_transcript_of_commands_is_an_agent_loop_and_talk_is_not() {
        let transcript = json!([
            {"role": "system", "content": "Solve the household task by acting in the environment."},
            {"role": "user", "content": "You stand in a kitchen. Put a clean mug on the shelf."},
            {"role": "assistant", "content": "Thought: I should find a mug.\nAction: open cupboard"},
            {"role": "user", "content": "Observation: the cupboard holds a mug and a plate."},
            {"role": "assistant", "content": "Thought: take it.\nAction: take mug"},
            {"role": "user", "content": "Observation: you hold the mug."},
        ]);
        check_body(&json!({"messages": transcript}), "agent_loop");
        let shell = json!([
            {"role": "user", "content": "Count the lines of all logs on this machine."},
            {"role": "assistant", "content": "```bash\nls /var/log\n```"},
            {"role": "user", "content": "syslog\nauth.log"},
            {"role": "assistant", "content": "```bash\nwc -l /var/log/*\n```"},
            {"role": "user", "content": "120 /var/log/syslog\n10 /var/log/auth.log\nexit code 0"},
        ]);
        check_body(&json!({"messages": shell}), "agent_loop");
        let talk = json!([
            {"role": "user", "content": "Hi! Any ideas for dinner?"},
            {"role": "assistant", "content": "How about a risotto? It is quick and warming."},
            {"role": "user", "content": "Sounds good. What wine goes with it?"},
        ]);
        check_body(&json!({"messages": talk}), "chat");
    }

    #[test]
    fn sub_labels() {
        for (input, expected) in [
            (
                "Summarise the following article in three bullet points: The council met.",
                Some(SubLabel::Summarisation),
            ),
            ("Übersetze ins Englische: Das Haus ist rot.", Some(SubLabel::Translation)),
            ("Who was the first person on the moon?", Some(SubLabel::KnowledgeQa)),
            ("Write a haiku about rain.", Some(SubLabel::Creative)),
            ("Hello there!", None),
        ] {
            assert_eq!(text(input).sub_label, expected, "{input}");
        }
    }
}
