//! Words that turn a statement around: negations, and pairs of opposites.

use crate::text::terms::stem;
use std::collections::HashMap;
use std::sync::LazyLock;

/// Words that deny what follows them.
const NEGATIONS: &[&str] = &[
    "not", "no", "never", "none", "neither", "nor", "cannot", "without", "nobody", "nothing", "nowhere",
    "hardly", "fails", "failed", "lacks", "nicht", "kein", "keine", "keinen", "keiner", "nie", "niemals",
    "ohne", "pas", "jamais", "sans", "aucun", "aucune", "nunca", "jamás", "sin", "ningún", "ninguna", "non",
    "mai", "senza", "não", "niet", "geen", "не", "нет",
];

/// Words of which one says the opposite of the other.
const OPPOSITES: &[(&str, &str)] = &[
    ("increase", "decrease"),
    ("increase", "reduce"),
    ("rise", "fall"),
    ("rose", "fell"),
    ("grow", "shrink"),
    ("gain", "lose"),
    ("higher", "lower"),
    ("high", "low"),
    ("highest", "lowest"),
    ("more", "less"),
    ("more", "fewer"),
    ("most", "least"),
    ("maximum", "minimum"),
    ("above", "below"),
    ("over", "under"),
    ("before", "after"),
    ("earlier", "later"),
    ("first", "last"),
    ("begin", "end"),
    ("start", "stop"),
    ("open", "close"),
    ("always", "never"),
    ("all", "none"),
    ("everyone", "nobody"),
    ("allow", "forbid"),
    ("allow", "prohibit"),
    ("permit", "prohibit"),
    ("legal", "illegal"),
    ("required", "optional"),
    ("mandatory", "optional"),
    ("include", "exclude"),
    ("accept", "reject"),
    ("approve", "deny"),
    ("approve", "reject"),
    ("agree", "disagree"),
    ("support", "oppose"),
    ("true", "false"),
    ("correct", "incorrect"),
    ("valid", "invalid"),
    ("possible", "impossible"),
    ("safe", "unsafe"),
    ("safe", "dangerous"),
    ("win", "lose"),
    ("success", "failure"),
    ("succeed", "fail"),
    ("buy", "sell"),
    ("import", "export"),
    ("public", "private"),
    ("internal", "external"),
    ("positive", "negative"),
    ("advantage", "disadvantage"),
    ("benefit", "harm"),
    ("improve", "worsen"),
    ("strong", "weak"),
    ("large", "small"),
    ("larger", "smaller"),
    ("largest", "smallest"),
    ("long", "short"),
    ("longer", "shorter"),
    ("fast", "slow"),
    ("faster", "slower"),
    ("hot", "cold"),
    ("old", "young"),
    ("older", "younger"),
    ("north", "south"),
    ("northern", "southern"),
    ("east", "west"),
    ("eastern", "western"),
    ("left", "right"),
    ("alive", "dead"),
    ("born", "died"),
    ("present", "absent"),
    ("enable", "disable"),
    ("enabled", "disabled"),
    ("same", "different"),
    ("temporary", "permanent"),
    ("cheap", "expensive"),
    ("free", "paid"),
    ("easy", "difficult"),
    ("simple", "complex"),
    ("rich", "poor"),
    ("male", "female"),
    ("majority", "minority"),
    ("inside", "outside"),
    ("upper", "lower"),
    ("ascending", "descending"),
    ("encourage", "discourage"),
    ("voluntary", "mandatory"),
    ("major", "minor"),
];

static BY_STEM: LazyLock<HashMap<String, Vec<String>>> = LazyLock::new(|| {
    let mut map: HashMap<String, Vec<String>> = HashMap::new();
    for (a, b) in OPPOSITES {
        map.entry(stem(a)).or_default().push(stem(b));
        map.entry(stem(b)).or_default().push(stem(a));
    }
    map
});

/// Whether the lower-cased word denies.
pub(super) fn denies(word: &str) -> bool {
    NEGATIONS.contains(&word) || word.ends_with("n't") || word.ends_with("n’t")
}

/// Stems that say the opposite of this one.
pub(super) fn opposites(stem: &str) -> &'static [String] {
    BY_STEM.get(stem).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_turn_statements_around() {
        for w in ["not", "isn't", "kein", "never"] {
            assert!(denies(w), "{w}");
        }
        assert!(!denies("note"));
        assert!(opposites(&stem("increased")).contains(&stem("decreases")));
        assert!(opposites("turtle").is_empty());
        for (a, b) in OPPOSITES {
            assert_ne!(stem(a), stem(b), "{a} {b}");
        }
    }
}
