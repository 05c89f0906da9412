//! What a request says outright of its family, added to what the model has learnt.
//!
//! Each is a form that public benchmarks hardly hold, so that no weights can be learnt for it.

use crate::cues::Signal;
use crate::features::{Contract, Features, Told};
use crate::model::{CLASSES, Class, PerClass};

/// A form: its name in explanations, whether a request has it, the class it speaks for, and by what log odds.
type Form = (&'static str, fn(&Features) -> bool, Class, f32);

const FORMS: [Form; 9] = [
    ("a choice with nothing to be judged", is_mere_choice, Class::Chat, 4.5),
    ("bound to a text", is_bound, Class::Rag, 5.0),
    ("work broken into parts", |f| f.signal(Signal::Parts) >= 1.5, Class::Planning, 4.0),
    ("a question about data", is_lookup, Class::Extraction, 4.0),
    ("work in a shell", is_shell, Class::Coding, 4.0),
    ("a text and a question about it", asks_of_text, Class::Rag, 2.0),
    ("instructions to extract or label", |f| f.told == Some(Told::Extract), Class::Extraction, 6.0),
    ("instructions to judge", |f| f.told == Some(Told::Judge), Class::Eval, 6.0),
    ("names of code", names_code, Class::Coding, 3.0),
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

/// Paragraphs and lines of a text with a question about it, at most.
const READ_PARAGRAPHS: u32 = 4;
const READ_LINES: u32 = 8;

/// Prose in which nobody speaks of themselves, and a short question before or after it; no choice of answers, nothing
/// to be computed, written, planned or judged.
fn asks_of_text(f: &Features) -> bool {
    f.shape.longest_prose > 0
        && f.shape.edge_question
        && f.shape.paragraphs <= READ_PARAGRAPHS
        && f.shape.lines <= READ_LINES
        && f.shape.option_lines + f.shape.list_lines + f.shape.code_lines == 0
        && f.signs.formula == 0
        && f.marks.first_person <= 1
        && f.facts.tools == 0
        && f.assistant_turns == 0
        && f.contract == Contract::FreeText
        && f.signal(Signal::Math) + f.signal(Signal::Quantity) < 3.0
        && [
            Signal::Extraction,
            Signal::Eval,
            Signal::Coding,
            Signal::ToolUse,
            Signal::Planning,
            Signal::Form,
            Signal::Compose,
            Signal::Persona,
            Signal::Translate,
            Signal::Summarise,
        ]
        .into_iter()
        .all(|s| f.signal(s) < 2.0)
}

/// Most bytes of an ask whose only sign of code are the names in it.
const NAMING_BYTES: usize = 400;

/// A short ask, in whatever language, that names a variable or a function and says nothing of other work.
fn names_code(f: &Features) -> bool {
    f.marks.code_names > 0
        && f.ask_bytes <= NAMING_BYTES
        && f.instruction_bytes == 0
        && f.contract == Contract::FreeText
        && f.facts.tools == 0
        && f.assistant_turns == 0
        && f.signal(Signal::Extraction)
            + f.signal(Signal::Eval)
            + f.signal(Signal::ToolUse)
            + f.signal(Signal::Form)
            + f.signal(Signal::Translate)
            + f.signal(Signal::Json)
            < 1.5
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
    use crate::axis::testing::{all, body};
    use serde_json::json;
    use types::axis::{AxisValue as _, TaskFamily};

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
    fn a_text_and_a_question_about_it_is_read_for_the_answer() {
        let texts = [
            "Die alte Mühle steht seit drei Jahrhunderten am Bach. Ein Müller aus Hof kaufte sie und ließ das Rad erneuern, \
             das ein Hochwasser fortgerissen hatte. Heute mahlt sie an jedem ersten Sonntag im Monat für Besucher, und im \
             Speicher ist ein kleines Café eingerichtet worden, das im Winter geschlossen bleibt.\nWer ließ das Rad erneuern?",
            "Ποιος αγόρασε τον μύλο;\n\nΟ παλιός μύλος στέκεται εδώ και τρεις αιώνες δίπλα στο ρέμα. Ένας μυλωνάς από το \
             χωριό τον αγόρασε και επισκεύασε τη φτερωτή που είχε παρασύρει η πλημμύρα. Σήμερα λειτουργεί κάθε Κυριακή.",
            "โรงสีเก่าตั้งอยู่ริมลำธารมาสามร้อยปี ช่างสีจากหมู่บ้านซื้อไว้และซ่อมกังหันที่ถูกน้ำท่วมพัดไป ทุกวันนี้โรงสีเปิดให้ผู้คนเข้าชมทุกวันอาทิตย์ \
             และมีร้านกาแฟเล็กในยุ้งข้าว\nใครซื้อโรงสี",
            "古い水車小屋は三百年前から川のほとりに立っている。村の粉屋がそれを買い取り、洪水に流された水車を直した。今では毎月最初の日曜日に見物客のために粉をひき、\
             納屋には小さな喫茶店ができていて、冬のあいだだけ休む。\n水車を直したのは誰ですか。",
            "老磨坊在溪边立了三百年。村里的一位磨坊主买下了它，修好了被洪水冲走的水车。如今每月第一个星期天它都为游客磨面，谷仓里还开了一家小咖啡馆，冬天则关门休息，\
             到了春天再把水车重新装好。\n谁修好了水车？",
        ];
        all(&texts, TaskFamily::Rag, |p| p.task_family.value);
        let own = "I moved to a small town last spring and since then I have hardly met anybody of my age. My neighbours are \
            kind, but they are all much older, and after work I am too tired to go out. My sister says that I should join a \
            choir, though I cannot sing at all.\n\nWhat would you do?";
        all(&[own], TaskFamily::Chat, |p| p.task_family.value);
    }

    #[test]
    fn instructions_set_the_work_and_the_message_is_what_it_is_done_on() {
        let code = "Write a Python function that sorts a list of tuples, then explain its time complexity.";
        let poem = "Compose a short poem about the lighthouse, and a letter to its keeper.";
        let answer = "Question: How do I reverse a list?\n\nAnswer:\ndef reverse(xs):\n    return xs[::-1]";
        for (told, message, family) in [
            (
                "Classify the message as praise, question or complaint. Answer with the label.",
                code,
                "extraction",
            ),
            (
                "Classify the message as praise, question or complaint. Answer with the label.",
                poem,
                "extraction",
            ),
            (
                "Klassifiziere die Nachricht als Lob, Frage oder Beschwerde und nenne nur die Kategorie.",
                code,
                "extraction",
            ),
            ("Extract every name and every place from the text that follows.", poem, "extraction"),
            ("You grade answers. Rate the answer from 1 to 10 and give a short reason.", answer, "eval"),
            ("你是评审。请给回答打分，满分10分，并说明理由。", answer, "eval"),
            ("You are a friendly assistant. Keep your answers short.", code, "coding"),
            ("You are a friendly assistant. Keep your answers short.", poem, "chat"),
        ] {
            let messages = json!([{"role": "system", "content": told}, {"role": "user", "content": message}]);
            let p = body(json!({"messages": messages}));
            assert_eq!(p.task_family.value.as_str(), family, "{told} / {message}: {:?}", p.task_family);
        }
    }

    #[test]
    fn names_of_code_make_a_short_ask_one_about_code() {
        all(
            &[
                "Отсортировать список `words` по последней букве",
                "`rows` から空の行を取り除く",
                "Cómo invertir `texto` sin usar un bucle",
                "where does last_seen come from",
            ],
            TaskFamily::Coding,
            |p| p.task_family.value,
        );
        all(&["Write a poem about the word `dusk`."], TaskFamily::Chat, |p| p.task_family.value);
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
