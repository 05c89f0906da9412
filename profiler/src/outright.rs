//! What a request says outright of its family, added to what the model has learnt.
//!
//! Each is a form that public benchmarks hardly hold, so that no weights can be learnt for it.

use crate::cues::Signal;
use crate::features::{Contract, Features};
use crate::model::{CLASSES, Class, PerClass};

/// A form: its name in explanations, whether a request has it, the class it speaks for, and by what log odds.
type Form = (&'static str, fn(&Features) -> bool, Class, f32);

const FORMS: [Form; 5] = [
    ("a choice with nothing to be judged", is_mere_choice, Class::Chat, 4.5),
    ("bound to a text", is_bound, Class::Rag, 5.0),
    ("work broken into parts", |f| f.signal(Signal::Parts) >= 1.5, Class::Planning, 4.0),
    ("a question about data", is_lookup, Class::Extraction, 4.0),
    ("work in a shell", is_shell, Class::Coding, 4.0),
];

/// Asks of a few words have no room for what else they might be about.
const FEW_BYTES: usize = 160;

/// Most bytes of a question about data.
const QUESTION_BYTES: usize = 200;

/// Which of two things is better, in a line that holds no text to judge.
fn is_mere_choice(f: &Features) -> bool {
    f.signal(Signal::Choice) >= 1.0
        && f.signal(Signal::Judged) + f.signal(Signal::Candidate) + f.signal(Signal::Coding) == 0.0
        && f.ask_bytes <= FEW_BYTES
        && f.shape.lines == 1
        && f.instruction_bytes == 0
        && f.signs.quotes == 0
        && f.signs.numbers == 0
}

/// A question that names its source; nothing is to be extracted, judged or computed by code.
fn is_bound(f: &Features) -> bool {
    f.signal(Signal::Bound) >= 1.0
        && f.signs.questions > 0
        && f.signal(Signal::Extraction) < 1.5
        && f.signal(Signal::Eval) < 2.0
        && f.signal(Signal::Coding) < 2.0
}

/// A short question, and rows or records that it is about.
fn is_lookup(f: &Features) -> bool {
    let words = f.shape.bytes.saturating_sub(f.shape.data_bytes);
    f.data_share() >= 0.6
        && words <= QUESTION_BYTES
        && f.signs.questions > 0
        && f.contract == Contract::FreeText
        && f.facts.tools == 0
        && f.assistant_turns == 0
        && f.instruction_bytes == 0
        && f.shape.code_lines + f.shape.fences == 0
        && f.signal(Signal::Rag) + f.signal(Signal::Eval) + f.signal(Signal::Coding) + f.signal(Signal::Proof)
            < 2.0
}

/// A short ask about commands or systems; two signs of them, or a command of no other meaning.
fn is_shell(f: &Features) -> bool {
    f.signal(Signal::Shell) >= 2.0
        && f.ask_bytes <= FEW_BYTES
        && f.instruction_bytes == 0
        && f.facts.tools == 0
        && f.assistant_turns == 0
        && f.signal(Signal::Form) + f.signal(Signal::Planning) < 1.0
}

/// The forms that a request has: name and log odds per class.
pub(crate) fn found(f: &Features) -> impl Iterator<Item = (&'static str, PerClass)> {
    FORMS.iter().filter(|(_, has, ..)| has(f)).map(|(name, _, class, odds)| {
        let mut row = [0.0; CLASSES];
        if let Some(slot) = row.get_mut(*class as usize) {
            *slot = *odds;
        }
        (*name, row)
    })
}

/// Adds what the forms of a request say to its log odds.
pub(crate) fn add(f: &Features, log_odds: &mut PerClass) {
    for (_, row) in found(f) {
        log_odds.iter_mut().zip(row).for_each(|(sum, odds)| *sum += odds);
    }
}

#[cfg(test)]
mod tests {
    use crate::axis::testing::all;
    use types::axis::TaskFamily;

    #[test]
    fn a_choice_of_things_is_talk_and_of_answers_a_judgement() {
        all(
            &[
                "Which is better for a balcony, basil or mint?",
                "Which of the two is warmer, down or fleece?",
                "Which is better for a first trip, Porto or Seville?",
            ],
            TaskFamily::Chat,
            |p| p.task_family.value,
        );
        all(
            &[
                "Which answer is better? Answer A: Oslo. Answer B: Bergen.",
                "Which of the two summaries is better? Give your verdict.",
            ],
            TaskFamily::Eval,
            |p| p.task_family.value,
        );
    }

    #[test]
    fn a_question_to_a_given_text_is_no_sum() {
        all(
            &[
                "Was kostet laut diesem Text ein Hund? \"Menschen zahlen 9 Euro, Hunde 3 Euro.\"",
                "According to the notice, how many hours is the pool open? Notice: \"Pool: 9 to 17.\"",
                "Selon ce texte, combien de bateaux ? « Le port abrite 84 bateaux. »",
                "¿Cuántos barcos hay según el texto? Texto: \"El puerto tiene 84 barcos.\"",
                "Сколько лодок, согласно тексту? «В порту 84 лодки.»",
                "根据以下文字，港口有多少艘船？“港口有84艘船。”",
                "本文によると、船は何隻ありますか？「港には84隻の船がある。」",
                "कितनी नावें हैं, पाठ के अनुसार? \"बंदरगाह में 84 नावें हैं।\"",
            ],
            TaskFamily::Rag,
            |p| p.task_family.value,
        );
    }

    #[test]
    fn a_question_about_rows_looks_them_up() {
        let csv =
            "city,river,bridges\nUlm,Danube,9\nBonn,Rhine,3\nJena,Saale,6\nKiel,none,4\nTrier,Mosel,5\n"
                .repeat(3);
        let json = format!("[{}]", [r#"{"ship": "Ida", "mast": 2, "crew": 11}"#; 8].join(", "));
        let asks = [
            format!("Which city has most bridges?\n\n{csv}"),
            format!("{csv}\nWelche Stadt liegt am Rhein?"),
            format!("{json}\n\nWho sails with the largest crew?"),
            format!("Quel bateau a deux mâts ?\n{json}"),
        ];
        let asks: Vec<&str> = asks.iter().map(String::as_str).collect();
        all(&asks, TaskFamily::Extraction, |p| p.task_family.value);
    }

    #[test]
    fn work_in_parts_is_a_plan_and_work_in_a_shell_is_code() {
        all(
            &[
                "Break the new search page into user stories.",
                "Split the office move into work packages with owners.",
                "Zerlege den Umbau des Lagers in Teilaufgaben.",
                "Разбей переезд офиса на подзадачи.",
                "把办公室搬迁拆分成任务。",
            ],
            TaskFamily::Planning,
            |p| p.task_family.value,
        );
        all(
            &[
                "how to save and leave vim",
                "What does chown root do?",
                "find all empty files on linux",
                "Wie beende ich einen Prozess unter Linux?",
                "how do I see which process holds a port on Ubuntu",
            ],
            TaskFamily::Coding,
            |p| p.task_family.value,
        );
        all(
            &[
                "Which port is the biggest in Europe?",
                "Tell me about penguins and Linux Torvalds' childhood.",
            ],
            TaskFamily::Chat,
            |p| p.task_family.value,
        );
    }
}
