//! Which language a text is in: scripts by their letters, Latin-script languages by their small words.

use std::sync::LazyLock;

/// The code for a language that was not recognised.
pub(crate) const UNKNOWN: &str = "und";
/// Bytes read at the start of the text.
const HEAD: usize = 512;
/// Bytes read at its end.
const TAIL: usize = 256;
/// Share of the main language's weight from which a second one is reported.
const SECOND_SHARE: f32 = 0.25;
/// Least weight (about words) of a second language: names and loanwords are none.
const SECOND_LEAST: f32 = 4.0;

const CODES: [&str; 18] = [
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

/// The longest small word takes no more bytes than this.
const LONGEST: usize = 16;

/// A word in lower case, padded to one number: comparing numbers is several times cheaper than comparing
/// strings, and every word of every request is looked up. `None` for words too long to be small.
fn key(word: &str) -> Option<u128> {
    let mut buffer = [0_u8; LONGEST];
    let low = buffer.get_mut(..word.len())?;
    low.copy_from_slice(word.as_bytes());
    low.make_ascii_lowercase();
    Some(u128::from_le_bytes(buffer))
}

/// Every small word with the set of languages it belongs to, sorted.
static LEXICON: LazyLock<Vec<(u128, u8)>> = LazyLock::new(|| {
    let mut all: Vec<(u128, u8)> = SMALL_WORDS
        .iter()
        .enumerate()
        .flat_map(|(i, words)| words.split_whitespace().filter_map(move |w| Some((key(w)?, 1_u8 << i))))
        .collect();
    all.sort_unstable();
    all.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 |= next.1;
        }
        same
    });
    all
});

pub(crate) fn warm_up() {
    LazyLock::force(&LEXICON);
}

/// Main and second language of a text as ISO 639-1 codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Languages {
    /// The one most of the text is in; [`UNKNOWN`] if none is recognised.
    pub(crate) main: &'static str,
    /// Another one that has a fair share.
    pub(crate) second: Option<&'static str>,
}

/// Recognises the languages of `text` from its head and tail.
pub(crate) fn detect(text: &str) -> Languages {
    let mut weights = [0.0_f32; CODES.len()];
    if text.len() <= HEAD + TAIL {
        weigh(text, &mut weights);
    } else {
        weigh(crate::features::head(text, HEAD), &mut weights);
        weigh(crate::features::tail(text, TAIL), &mut weights);
    }
    let mut ranked: Vec<(f32, &'static str)> = weights.into_iter().zip(CODES).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut ranked = ranked.into_iter();
    let (best, main) = ranked.next().filter(|(w, _)| *w > 0.2).unwrap_or((0.0, UNKNOWN));
    let second =
        ranked.next().filter(|(w, _)| *w >= SECOND_LEAST.max(best * SECOND_SHARE)).map(|(_, code)| code);
    Languages { main, second: second.filter(|_| main != UNKNOWN) }
}

/// About how many words one character is, in scripts told by their letters.
const WORDS_PER_HAN: f32 = 0.6;
const WORDS_PER_LETTER: f32 = 0.18;
/// Small words are about half of the words of a text.
const WORDS_PER_SMALL_WORD: f32 = 2.0;

fn weigh(text: &str, weights: &mut [f32; CODES.len()]) {
    if text.is_ascii() {
        // Bytes instead of characters: most text is ASCII, and this is the dearest loop of the room.
        let between = |b: &u8| !b.is_ascii_alphanumeric() && *b != b'\'';
        let words = text.as_bytes().split(between).filter(|w| (1..=LONGEST).contains(&w.len()));
        words.filter_map(|w| std::str::from_utf8(w).ok()).for_each(|w| weigh_word(w, weights));
        return;
    }
    text.split(|c: char| !c.is_alphanumeric() && c != '\'' && c != '’')
        .filter(|w| !w.is_empty())
        .for_each(|w| weigh_word(w, weights));
    weigh_letters(text, weights);
}

fn weigh_word(word: &str, weights: &mut [f32; CODES.len()]) {
    if word.as_bytes().first().is_some_and(u8::is_ascii_digit) {
        return;
    }
    let Some(key) = key(word) else { return };
    let Ok(i) = LEXICON.binary_search_by_key(&key, |(k, _)| *k) else { return };
    let Some((_, set)) = LEXICON.get(i) else { return };
    let share = WORDS_PER_SMALL_WORD / set.count_ones() as f32;
    for (bit, weight) in weights.iter_mut().enumerate().take(SMALL_WORDS.len()) {
        if set >> bit & 1 == 1 {
            *weight += share;
        }
    }
}

fn weigh_letters(text: &str, weights: &mut [f32; CODES.len()]) {
    let (mut han, mut kana) = (0_u32, 0_u32);
    let mut add = |code: &str, w: f32| {
        if let Some(slot) = CODES.iter().position(|c| *c == code).and_then(|i| weights.get_mut(i)) {
            *slot += w;
        }
    };
    for c in text.chars().filter(|c| !c.is_ascii()) {
        match c {
            'ß' | 'ä' | 'ö' | 'ü' | 'Ä' | 'Ö' | 'Ü' => add("de", 0.3),
            'ñ' | '¿' | '¡' => add("es", 1.0),
            'ã' | 'õ' => add("pt", 1.0),
            'œ' | 'ê' | 'ç' | 'î' | 'û' => add("fr", 0.3),
            'і' | 'ї' | 'є' | 'ґ' => add("uk", 2.0),
            '\u{0400}'..='\u{04FF}' => add("ru", WORDS_PER_LETTER),
            '\u{0370}'..='\u{03FF}' => add("el", WORDS_PER_LETTER),
            '\u{0590}'..='\u{05FF}' => add("he", WORDS_PER_LETTER),
            'پ' | 'چ' | 'گ' | 'ی' | 'ک' => add("fa", 1.0),
            '\u{0600}'..='\u{06FF}' => add("ar", WORDS_PER_LETTER),
            '\u{0900}'..='\u{097F}' => add("hi", WORDS_PER_LETTER),
            '\u{0E00}'..='\u{0E7F}' => add("th", WORDS_PER_LETTER),
            '\u{AC00}'..='\u{D7AF}' => add("ko", 0.4),
            '\u{3040}'..='\u{30FF}' => kana = kana.saturating_add(1),
            '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' => han = han.saturating_add(1),
            _ => {}
        }
    }
    // Japanese mixes Han with kana; Chinese has no kana.
    let cjk = han.saturating_add(kana);
    let code = if kana.saturating_mul(10) >= cjk { "ja" } else { "zh" };
    add(code, cjk as f32 * WORDS_PER_HAN);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, main: &str, second: Option<&str>) {
        let found = detect(text);
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
