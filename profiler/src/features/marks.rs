//! What single tokens of an instruction tell: amounts of money, identifiers, and a form that the answer must have.

use crate::scan::{Kind, Token, hash_of};
use std::sync::LazyLock;

/// Tokens on either side of `json` in which a word of answering makes it the answer's form.
const NEAR: usize = 8;
/// Digits from which on a run of letters, digits and marks is an identifier rather than a figure.
const IDENTIFIER_DIGITS: u32 = 7;
/// Digits that are enough if letters stand between them.
const MIXED_DIGITS: u32 = 4;
/// Templates that are looked at, and bytes of each.
const TEMPLATES: usize = 8;
const TEMPLATE_BYTES: usize = 240;

/// What stands in a text beyond its words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Numbers beside a currency.
    pub(crate) amounts: u32,
    /// Account, serial and document numbers, and dates of digits.
    pub(crate) identifiers: u32,
    /// Digits of the longest number.
    pub(crate) longest_number: u32,
    /// Letters that stand alone as variables do.
    pub(crate) variables: u32,
    /// `json` stands near a word of answering.
    pub(crate) json_asked: bool,
    /// A pattern in braces with places to be filled in.
    pub(crate) template: bool,
    /// Words by which somebody speaks of themselves.
    pub(crate) first_person: u32,
    /// Spans between single backticks, and names of words joined by underscores.
    pub(crate) code_names: u32,
}

impl Marks {
    /// Adds a piece of text whose tokens are `tokens`.
    pub(super) fn read(&mut self, text: &str, tokens: &[Token]) {
        self.runs(tokens);
        self.names(tokens);
        let words = &*WORDS;
        for (at, token) in tokens.iter().enumerate() {
            match token.kind {
                Kind::Number => {
                    self.longest_number = self.longest_number.max(u32::from(token.bytes));
                    self.amounts += u32::from(words.beside_currency(tokens, at));
                }
                Kind::Word if token.hash == words.json => self.json_asked |= words.near_answer(tokens, at),
                Kind::Word | Kind::Character if words.oneself.binary_search(&token.hash).is_ok() => {
                    self.first_person += 1
                }
                // `a` and `I` are words of their own.
                Kind::Word if token.bytes == 1 && !words.alone.contains(&token.hash) => self.variables += 1,
                _ => {}
            }
        }
        self.template |= !self.template && holds_template(text);
    }

    /// Counts names of code. Three backticks are a fence, underscores without words a gap to be filled in.
    fn names(&mut self, tokens: &[Token]) {
        let (tick, joint) = (WORDS.tick, WORDS.joint);
        let word = |t: &Token| t.kind == Kind::Word;
        let mut ticks = 0_u32;
        for (at, token) in tokens.iter().enumerate().filter(|(_, t)| t.kind == Kind::Sign) {
            let before = at.checked_sub(1).and_then(|i| tokens.get(i)).filter(|t| t.touches(token));
            let after = tokens.get(at.saturating_add(1)).filter(|t| token.touches(t));
            let fence = [before, after].into_iter().flatten().any(|t| t.hash == tick);
            ticks = ticks.saturating_add(u32::from(token.hash == tick && !fence));
            let joins = token.hash == joint && before.is_some_and(word) && after.is_some_and(word);
            self.code_names = self.code_names.saturating_add(u32::from(joins));
        }
        self.code_names = self.code_names.saturating_add(ticks / 2);
    }

    /// Counts identifiers: tokens that follow each other without a blank, with many digits.
    fn runs(&mut self, tokens: &[Token]) {
        let (mut end, mut digits, mut letters, mut number) = (0_u32, 0_u32, false, false);
        for token in tokens {
            let is_number = token.kind == Kind::Number;
            // Long numbers are written in groups.
            let grouped = number && is_number && token.bytes >= 2 && token.start == end.saturating_add(1);
            let joins = grouped
                || (token.start == end && matches!(token.kind, Kind::Word | Kind::Number | Kind::Sign));
            number = is_number;
            if !joins {
                self.close(digits, letters);
                (digits, letters) = (0, false);
            }
            match token.kind {
                Kind::Number => digits = digits.saturating_add(u32::from(token.bytes)),
                Kind::Word => letters |= digits > 0 || token.bytes <= 3,
                Kind::Sign | Kind::Character => {}
            }
            end = token.start.saturating_add(u32::from(token.bytes));
        }
        self.close(digits, letters);
    }

    fn close(&mut self, digits: u32, letters: bool) {
        let many = digits >= IDENTIFIER_DIGITS || (letters && digits >= MIXED_DIGITS);
        self.identifiers = self.identifiers.saturating_add(u32::from(many));
    }
}

/// Words by the hashes of their tokens.
struct Words {
    json: u32,
    answer: Vec<u32>,
    currency: Vec<u32>,
    alone: Vec<u32>,
    /// Sorted.
    oneself: Vec<u32>,
    tick: u32,
    joint: u32,
}

/// Words that say of a form that the answer shall have it; of scripts without blanks, one character.
const ANSWER: &str = "answer respond reply output outputs return returns give provide emit print format formatted \
    only valid strictly strict as must antworte antworten antwort gib ausgabe ausgeben liefere nur als \
    réponds répondez réponse renvoie renvoyez retourne sortie uniquement donne seulement \
    responde responda respuesta devuelve salida solo sólo únicamente retorne resposta rispondi restituisci \
    ответь ответьте отвечай отвечайте верни верните выведи выведите формат только 输 返 答 出 \
    أجب أرجع أعد بصيغة فقط الناتج उत्तर जवाब लौटाएँ लौटाओ लौटाएं आउटपुट केवल सिर्फ";

/// Currencies, as signs and as words.
const CURRENCY: &str = "$ € £ ¥ ₹ ₽ ₩ ₺ ￥ eur euro euros usd dollar dollars dólares gbp pound pounds chf franken francs yen jpy cny rmb inr zł pln \
    kr sek peso pesos reais brl руб рубль рублей рубля 元 円 원 ريال درهم دينار جنيه रुपये रुपए रुपया";

/// Words for oneself and what is one's own; of scripts without blanks, one character.
const ONESELF: &str = "i my me mine we our ich mein meine meinen meinem meiner mir mich wir unser je mon ma mes moi nous notre yo mi mis me \
    nuestro eu meu minha nós io mio mia miei noi я мне меня мой моя моё мои мы нас нам наш 我 私 僕 俺 나 내 제 저 أنا لي نحن मैं मेरा मेरी मेरे \
    मुझे हम हमारा ben benim biz ja mój moja ik mijn tôi εγώ μου μας mimi yangu";

static WORDS: LazyLock<Words> = LazyLock::new(|| {
    let hashes = |words: &str| words.split_ascii_whitespace().map(hash_of).collect();
    let sorted = |mut hashes: Vec<u32>| {
        hashes.sort_unstable();
        hashes
    };
    Words {
        json: hash_of("json"),
        answer: hashes(ANSWER),
        currency: hashes(CURRENCY),
        alone: hashes("a i"),
        oneself: sorted(hashes(ONESELF)),
        tick: hash_of("`"),
        joint: hash_of("_"),
    }
});

pub(crate) fn warm_up() {
    LazyLock::force(&WORDS);
}

impl Words {
    fn near_answer(&self, tokens: &[Token], at: usize) -> bool {
        let from = at.saturating_sub(NEAR);
        let near = tokens.get(from..at.saturating_add(NEAR).min(tokens.len())).unwrap_or_default();
        near.iter().any(|t| self.answer.contains(&t.hash))
    }

    fn beside_currency(&self, tokens: &[Token], at: usize) -> bool {
        let is = |at: Option<usize>| {
            at.and_then(|at| tokens.get(at)).is_some_and(|t| self.currency.contains(&t.hash))
        };
        is(at.checked_sub(1)) || is(at.checked_add(1))
    }
}

/// Whether a text holds a pattern such as `{"label": string, "why": "…"}`.
fn holds_template(text: &str) -> bool {
    let opens = memchr::memchr_iter(b'{', text.as_bytes()).take(TEMPLATES);
    opens.filter_map(|at| text.get(at.saturating_add(1)..)).any(|rest| {
        let inner = super::head(rest, TEMPLATE_BYTES);
        let inner = inner.split_once('}').map_or("", |(inner, _)| inner);
        inner.split(',').any(is_place)
    })
}

/// Names of types that stand for a value to be filled in.
const TYPES: [&str; 16] = [
    "string",
    "str",
    "text",
    "number",
    "int",
    "integer",
    "float",
    "double",
    "bool",
    "boolean",
    "array",
    "list",
    "object",
    "date",
    "true/false",
    "yes/no",
];

/// A name, a colon, and no value but a type, a choice or an ellipsis: `"label": "pos" | "neg"`.
fn is_place(part: &str) -> bool {
    let Some((name, value)) = part.split_once(':') else { return false };
    let quoted = name.trim().trim_matches(['"', '\'']);
    let value = value.trim().trim_start_matches('[').trim_end_matches(']').trim();
    let bare = value.trim_matches(['"', '\'']);
    let letters = |s: &str| s.chars().filter(|c| c.is_alphanumeric() || *c == '_').count();
    if letters(quoted) < 2 || letters(quoted).saturating_add(1) < quoted.chars().count() {
        return false;
    }
    let typed = TYPES.iter().any(|t| bare.eq_ignore_ascii_case(t));
    // `"type": "string"` describes a parameter; it is no place to be filled in.
    (typed && (bare.len() == value.len() || !quoted.eq_ignore_ascii_case("type")))
        || bare.contains("...")
        || bare.contains('…')
        || (value.contains('|') && !value.contains("||"))
        || (bare.starts_with('<') && bare.ends_with('>'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::Scanner;

    fn read(text: &str) -> Marks {
        let mut scanner = Scanner::default();
        scanner.read(text);
        let mut marks = Marks::default();
        marks.read(text, &scanner.tokens);
        marks
    }

    #[test]
    fn amounts_and_identifiers_are_told_by_their_form() {
        for (text, amounts, identifiers) in [
            ("It costs $30 or 25 €.", 2, 0),
            ("合計は4,980円です", 1, 0),
            ("итого 700 рублей", 1, 0),
            ("Konto DE44 5001 0517 5407 3249 31", 0, 1),
            ("serial QX-4471-B", 0, 1),
            ("order 20931188", 0, 1),
            ("We were 12 people in 2019.", 0, 0),
        ] {
            let m = read(text);
            assert_eq!((m.amounts, m.identifiers.min(1)), (amounts, identifiers), "{text}: {m:?}");
        }
    }

    #[test]
    fn names_of_code_are_told_from_fences_and_gaps() {
        for (text, expected) in [
            ("Отсортировать список `a` по ключу `b`", 2),
            ("Where is max_length set?", 1),
            ("```\ncode\n```", 0),
            ("Fill in: the sky is ___ today.", 0),
            ("It's a `half open quote.", 0),
        ] {
            assert_eq!(read(text).code_names, expected, "{text}");
        }
    }

    #[test]
    fn templates_are_told_from_data_and_formulas() {
        for (text, expected) in [
            ("Reply with {\"mood\": string, \"why\": string}.", true),
            ("{'urgent': true/false}", true),
            ("Schema: {\"tone\": \"warm\" | \"cold\"}", true),
            ("{\"answer\": \"<your answer>\"}", true),
            ("{\"score\": …}", true),
            ("{\"id\": 7, \"name\": \"Ann\"}", false),
            ("{\"type\": \"string\"}", false),
            ("the set {x : x > 0 | x even}", false),
            ("f(x) = {1, 2}", false),
            ("if (a) { b: c }", false),
        ] {
            assert_eq!(read(text).template, expected, "{text}");
        }
    }

    #[test]
    fn json_is_asked_for_near_a_word_of_answering() {
        for (text, expected) in [
            ("Output format: JSON", true),
            ("Bitte antworte nur mit einem JSON-Objekt.", true),
            ("Réponds au format JSON", true),
            ("请以JSON返回结果", true),
            ("केवल JSON में उत्तर दें", true),
            ("Who invented JSON?", false),
            ("Is json older than yaml?", false),
        ] {
            assert_eq!(read(text).json_asked, expected, "{text}");
        }
    }
}
