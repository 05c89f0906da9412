//! Telling sentences that say something about the world from those that only speak to the reader.

use super::blocks::Kind;
use super::sentences::Sentence;
use super::terms::terms;
use regex::Regex;
use std::sync::LazyLock;

/// Fewest content terms of a claim.
const MIN_TERMS: usize = 3;

struct Patterns {
    talk: Regex,
    absence: Regex,
}

static PATTERNS: LazyLock<Option<Patterns>> = LazyLock::new(|| {
    Some(Patterns {
        talk: Regex::new(concat!(
            r"(?i)^\W*(?:let me know|feel free|i hope|hope (?:this|that) helps|if you (?:have|need|would|want|'d)|",
            r"would you like|please (?:let|feel|note that i|contact me|provide|clarify)|thank(?:s| you)|you(?:'re| are) welcome|",
            r"sure[,!. ]|of course[,!. ]|certainly[,!. ]|great question|here(?:'s| is| are)\b.{0,80}:|i(?:'d| would) be happy|",
            r"i(?:'m| am) (?:glad|happy|here)|in (?:summary|conclusion|short)[:.]?$|hello\b|hi\b|",
            r"gern(?:e)?\b|ich hoffe|bien sûr|j'espère|espero que|por supuesto)",
        ))
        .ok()?,
        absence: Regex::new(concat!(
            r"(?i)\b(?:(?:do|does|did)(?:n't| not|n’t) (?:have|know|contain|mention|provide|specify|state|say|include|address|discuss|answer|give|indicate|cover)\b.{0,60}(?:information|details?|answer|data|about|on|whether|how|what|which|who|if)?|",
            r"no (?:information|details?|mention|answer|data)\b|not (?:mentioned|specified|stated|provided|available|included|addressed|covered|enough information)|",
            r"i(?:'m| am) (?:sorry|unable|not (?:able|sure))|(?:i|we) (?:cannot|can't|could not|couldn't) (?:find|answer|determine|provide|confirm|tell|help|directly)|",
            r"i don['’]t know|insufficient information|unclear from|keine (?:information|angaben|auskunft)|nicht (?:erwähnt|angegeben|bekannt)|",
            r"pas d['’]informations?|ne (?:mentionne|précise|contient)|no (?:hay|tengo|se menciona|contienen?) )",
        ))
        .ok()?,
    })
});

/// Whether the sentence says something that sources could support or not.
pub(crate) fn is_claim(text: &str, sentence: &Sentence) -> bool {
    let words = text.get(sentence.span.clone()).unwrap_or("");
    let trimmed = words.trim_end_matches(['*', '_', '"', '”', ')', ' ']);
    let lead = trimmed.ends_with([':', '：']);
    let question = trimmed.ends_with(['?', '？', '؟']);
    let heading = matches!(sentence.kind, Kind::Heading(_) | Kind::Header);
    if lead || question || heading || PATTERNS.as_ref().is_some_and(|p| p.talk.is_match(words)) {
        return false;
    }
    !says_nothing_is_known(words) && terms(words).len() >= MIN_TERMS
}

/// Whether the sentence says that an answer is not to be had.
pub(crate) fn says_nothing_is_known(sentence: &str) -> bool {
    PATTERNS.as_ref().is_some_and(|p| p.absence.is_match(sentence))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::blocks::outline;
    use crate::text::sentences;

    fn check(text: &str, want: &[bool]) {
        let got: Vec<bool> = sentences::of(text, &outline(text)).iter().map(|s| is_claim(text, s)).collect();
        assert_eq!(got, want, "{text}");
    }

    #[test]
    fn claims_are_told_from_talk() {
        check("The fund charges a fee of 2 percent. Would you like to know more?", &[true, false]);
        check(
            "# Fees and charges of funds\n\nSure! Here are the three fees:\n\n- the entry fee charged once",
            &[false, false, false, true],
        );
        check("I hope this helps with your court case. Let me know what else you need.", &[false, false]);
        check("The documents do not mention the fee of this fund.", &[false]);
        check("I am sorry, but I do not have that information about the court.", &[false]);
        check("Yes.", &[false]);
        check("Das Gericht liegt in Karlsruhe am Schlossplatz.", &[true]);
        check("法院位于北京市中心。", &[true]);
    }

    #[test]
    fn patterns_compile() {
        assert!(PATTERNS.is_some());
    }
}
