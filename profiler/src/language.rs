//! Which language a text is in: scripts by their letters, Latin-script languages by their small words.

use crate::scan::{Kind, Letters, Token, hash_of};
use std::sync::LazyLock;

/// The code for a language that was not recognised.
pub(crate) const UNKNOWN: &str = "und";
/// Share of the main language's weight from which a second one is reported.
const SECOND_SHARE: f32 = 0.25;
/// Least weight (about words) of a second language: names and loanwords are none.
const SECOND_LEAST: f32 = 4.0;

/// Languages that are told apart.
pub(crate) const CODES: [&str; 18] = [
    "en", "de", "fr", "es", "pt", "it", "nl", "ru", "uk", "zh", "ja", "ko", "ar", "he", "hi", "th", "el",
    "fa",
];

/// Small words per Latin-script language, in the order of [`CODES`]; a word may stand in several.
const SMALL_WORDS: [&str; 7] = [
    "the a an of and to in is are was were be been it that this these those for with on at by from as or not what how \
     why when where which who do does did can could should would will you your my me i we they he she his her their \
     please write list explain give make find create generate tell if there has have had about into than then but \
     summarize describe translate answer following question using code help fix show use",
    "der die das und ist nicht ein eine einen einem einer zu von mit auf für den dem des sich es ich du wir ihr sie auch \
     wie was warum wann wo bitte schreibe mir mein kann können über aus bei nach im am um zum zur sind war werden wird \
     haben hat oder aber als dass",
    "le la les un une des du de et est sont dans pour que qui ne pas sur avec ce cette ces je tu nous vous il elle ils \
     au aux plus mon ma mes votre comment pourquoi quel quelle écris moi être peux en par ou où mais leur",
    "el la los las un una unos de del y es son en para que no con por se su sus lo al como más este esta qué cómo \
     cuál cuándo dónde mi tu me yo escribe puedes ser está pero o sobre entre",
    "o a os as um uma de do da dos das e é são em no na nos nas para que não com por se seu sua como mais este esta \
     qual quando onde meu minha eu você escreva pode ser está mas ou sobre ao pelo",
    "il lo la i gli le un una uno di del della dei e è sono in nel nella per che non con si su come più questo questa \
     qual quando dove mio mia io tu scrivi puoi essere ma o al alla dal perché anche",
    "de het een en is van in op te dat die niet voor met zijn aan er maar om hij ze wij ik jij je wat hoe waarom kan \
     schrijf naar ook bij uit door over deze dit",
];

/// Slots of the table of small words: a power of two, several times their number.
const SLOTS: usize = 2_048;

/// Every small word's hash with the set of languages it belongs to, by the hash's low bits, next slot if taken;
/// an empty set is an empty slot.
static LEXICON: LazyLock<Vec<(u32, u8)>> = LazyLock::new(|| {
    let mut slots = vec![(0_u32, 0_u8); SLOTS];
    for (i, words) in SMALL_WORDS.iter().enumerate() {
        for hash in words.split_whitespace().map(hash_of) {
            let mut slot = hash as usize % SLOTS;
            while slots.get(slot).is_some_and(|(h, set)| *set != 0 && *h != hash) {
                slot = slot.wrapping_add(1) % SLOTS;
            }
            if let Some((h, set)) = slots.get_mut(slot) {
                *h = hash;
                *set |= 1_u8 << i;
            }
        }
    }
    slots
});

pub(crate) fn warm_up() {
    LazyLock::force(&LEXICON);
}

fn languages_of(hash: u32) -> u8 {
    let mut slot = hash as usize % SLOTS;
    loop {
        match LEXICON.get(slot) {
            None | Some((_, 0)) => return 0,
            Some((h, set)) if *h == hash => return *set,
            Some(_) => slot = slot.wrapping_add(1) % SLOTS,
        }
    }
}

/// Main and second language of a text as ISO 639-1 codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Languages {
    /// The one most of the text is in; [`UNKNOWN`] if none is recognised.
    pub(crate) main: &'static str,
    /// Another one that has a fair share.
    pub(crate) second: Option<&'static str>,
}

/// About how many words one character is, in scripts told by their letters.
const WORDS_PER_HAN: f32 = 0.6;
const WORDS_PER_LETTER: f32 = 0.18;
/// Small words are about half of the words of a text.
const WORDS_PER_SMALL_WORD: f32 = 2.0;

/// Adds up what speaks for each language, over the pieces of a text that are looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Detector {
    weights: [f32; CODES.len()],
    han: u32,
    kana: u32,
}

impl Detector {
    /// Adds a text by its tokens and letters.
    pub(crate) fn add(&mut self, tokens: &[Token], letters: &Letters) {
        for token in tokens.iter().filter(|t| t.kind == Kind::Word) {
            let set = languages_of(token.hash);
            if set != 0 {
                let share = WORDS_PER_SMALL_WORD / set.count_ones() as f32;
                for (bit, weight) in self.weights.iter_mut().enumerate().take(SMALL_WORDS.len()) {
                    if set >> bit & 1 == 1 {
                        *weight += share;
                    }
                }
            }
        }
        for (sum, weight) in self.weights.iter_mut().zip(letters.weights) {
            *sum += weight;
        }
        self.han = self.han.saturating_add(letters.han);
        self.kana = self.kana.saturating_add(letters.kana);
    }

    /// The language with the most weight, and another one with a fair share.
    pub(crate) fn result(mut self) -> Languages {
        // Japanese mixes Han with kana; Chinese has no kana.
        let together = self.han.saturating_add(self.kana);
        let code = if self.kana.saturating_mul(10) >= together { "ja" } else { "zh" };
        add(&mut self.weights, code, together as f32 * WORDS_PER_HAN);
        let (mut best, mut next) = ((0.2_f32, UNKNOWN), (0.0_f32, UNKNOWN));
        for (weight, code) in self.weights.into_iter().zip(CODES) {
            if weight > best.0 {
                (best, next) = ((weight, code), best);
            } else if weight > next.0 {
                next = (weight, code);
            }
        }
        let fair = best.1 != UNKNOWN && next.0 >= SECOND_LEAST.max(best.0 * SECOND_SHARE);
        Languages { main: best.1, second: Some(next.1).filter(|_| fair) }
    }
}

fn add(weights: &mut [f32; CODES.len()], code: &str, weight: f32) {
    if let Some(slot) = CODES.iter().position(|c| *c == code).and_then(|i| weights.get_mut(i)) {
        *slot += weight;
    }
}

/// Counts one character beyond ASCII.
pub(crate) fn weigh_letter(c: char, letters: &mut Letters) {
    let (code, weight) = match c {
        'ß' | 'ä' | 'ö' | 'ü' | 'Ä' | 'Ö' | 'Ü' => ("de", 0.3),
        'ñ' | '¿' | '¡' => ("es", 1.0),
        'ã' | 'õ' => ("pt", 1.0),
        'œ' | 'ê' | 'ç' | 'î' | 'û' => ("fr", 0.3),
        'і' | 'ї' | 'є' | 'ґ' => ("uk", 2.0),
        '\u{0400}'..='\u{04FF}' => ("ru", WORDS_PER_LETTER),
        '\u{0370}'..='\u{03FF}' => ("el", WORDS_PER_LETTER),
        '\u{0590}'..='\u{05FF}' => ("he", WORDS_PER_LETTER),
        'پ' | 'چ' | 'گ' | 'ی' | 'ک' => ("fa", 1.0),
        '\u{0600}'..='\u{06FF}' => ("ar", WORDS_PER_LETTER),
        '\u{0900}'..='\u{097F}' => ("hi", WORDS_PER_LETTER),
        '\u{0E00}'..='\u{0E7F}' => ("th", WORDS_PER_LETTER),
        '\u{AC00}'..='\u{D7AF}' => ("ko", 0.4),
        '\u{3040}'..='\u{30FF}' => {
            letters.kana = letters.kana.saturating_add(1);
            return;
        }
        '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' => {
            letters.han = letters.han.saturating_add(1);
            return;
        }
        _ => return,
    };
    add(&mut letters.weights, code, weight);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, main: &str, second: Option<&str>) {
        let mut scanner = crate::scan::Scanner::default();
        scanner.read(text);
        let mut detector = Detector::default();
        detector.add(&scanner.tokens, &scanner.letters);
        let found = detector.result();
        assert_eq!((found.main, found.second), (main, second), "{text}");
    }

    #[test]
    fn one_language() {
        check("Please write a short poem about the sea.", "en", None);
        check("Schreibe mir bitte ein kurzes Gedicht über das Meer.", "de", None);
        check("Écris un court poème sur la mer, s'il te plaît.", "fr", None);
        check("Escribe un poema corto sobre el mar, por favor.", "es", None);
        check("Escreva um poema curto sobre o mar, não muito longo.", "pt", None);
        check("Scrivi una breve poesia sul mare, per favore, che non sia lunga.", "it", None);
        check("Напиши короткое стихотворение о море.", "ru", None);
        check("请写一首关于大海的短诗。", "zh", None);
        check("海についての短い詩を書いてください。", "ja", None);
        check("바다에 관한 짧은 시를 써줘.", "ko", None);
        check("اكتب قصيدة قصيرة عن البحر", "ar", None);
        check("", "und", None);
        check("12 + 30 = ?", "und", None);
        check("Zxqw brrt flimp", "und", None);
    }

    #[test]
    fn two_languages() {
        check(
            "Please translate this text into German and keep the tone of the letter: 请写一首关于大海的短诗并且解释它的意思。",
            "en",
            Some("zh"),
        );
    }
}
