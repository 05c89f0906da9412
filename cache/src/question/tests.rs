//! Which questions are alike, and which never are.

use super::*;
use proptest::prelude::*;

fn alike(a: &str, b: &str) -> Option<f64> {
    let (a, b) = (Question::of(a).unwrap(), Question::of(b).unwrap());
    let found = a.similarity(&b);
    assert_eq!(found, b.similarity(&a), "the same from either side");
    if found.is_some() {
        assert_eq!(a.words(), b.words(), "and found by their words");
    }
    found
}

#[test]
fn the_same_question_in_other_words() {
    for (a, b, least) in [
        ("What is the capital of France?", "what's the capital of france", 1.0),
        ("What is the capital of France?", "WHAT IS THE CAPITAL OF FRANCE ?", 1.0),
        ("What is the capital of \"France\"?", "what is, the capital of france", 1.0),
        (
            "What is the capital of France?",
            "Hi, could you tell me what is the capital of France please",
            0.97,
        ),
        ("In Python, how do I sort a list?", "How do I sort a list in Python?", 0.97),
        ("Hello! In Python, how do I sort a list?", "how do i sort a list in python", 0.97),
        ("From 10, subtract the 3", "subtract the 3 from 10", 0.97),
        ("Do not, under load, restart", "do not under load restart.", 0.0),
    ] {
        let found = alike(a, b);
        let expects = least > 0.0;
        assert_eq!(found.is_some_and(|s| s >= least), expects, "{a} | {b}: {found:?}");
    }
}

#[test]
fn articles_count_for_who_looks_closely() {
    let found = alike("What are the side effects in children?", "what are side effects in children").unwrap();
    assert!((0.85..0.97).contains(&found), "{found}");
    // However long the rest is.
    let rest = "and so on and so forth ".repeat(30);
    let found = alike(&format!("what is the matter {rest}"), &format!("what is matter {rest}")).unwrap();
    assert!((0.96..0.97).contains(&found), "{found}");
}

#[test]
fn what_may_change_the_answer_makes_another_question() {
    for (a, b) in [
        ("What is 5 plus 3?", "What is 5 plus 4?"),
        ("What is 5-3?", "What is 5 3?"),
        ("What is 5!", "What is 5"),
        ("What is .5 of it?", "What is 5 of it?"),
        ("Is it safe?", "Is it not safe?"),
        ("Is it safe to mix them?", "Isn't it safe to mix them?"),
        ("May I go but not eat?", "May I not go but eat?"),
        ("Ich darf gehen, aber nicht essen", "Ich darf nicht gehen, aber essen"),
        ("Does a dog bite a man?", "Does a man bite a dog?"),
        ("Convert USD to EUR", "Convert EUR to USD"),
        ("sort it ascending", "sort it descending"),
        ("Weather in Paris", "Weather in London"),
        ("weather in paris", "weather in london"),
        ("What does the US say?", "What does us say?"),
        ("Side effects of Vitamin A in adults", "side effects of vitamin in adults"),
        ("How do you say please?", "How do you say thanks?"),
        ("How do you say hi", "how do you say hello"),
        ("It works.", "It works?"),
        ("Is there no, more tax", "Is there no more tax"),
        ("Not today, go out", "Go out not today"),
        ("If not now, tell why", "Tell why if not now"),
        ("ls -R", "ls -r"),
        ("Is X more than x", "Is x more than X"),
        ("What is the price of a kitty?", "Hello, what is the price of a hello kitty?"),
        ("kitty price", "Hello kitty price"),
        ("Is C like C++", "is c like c"),
        ("How much is 5 mW?", "How much is 5 MW?"),
        ("(5 - 3) * 2", "5 - (3 * 2)"),
        ("我爱你", "你爱我"),
        ("what is 1,000", "what is 1.000"),
    ] {
        assert_eq!(alike(a, b), None, "{a} | {b}");
    }
}

#[test]
fn some_texts_are_not_compared() {
    for text in ["", "  ", "for x in y:\n  print(x)", "a\tb", "replace ' ' by x", &"a b ".repeat(2_000)] {
        assert_eq!(Question::of(text), None, "{text}");
    }
}

/// Words of which none is an article, polite, or a bound one.
fn sentence() -> impl Strategy<Value = Vec<String>> {
    let word = prop_oneof![
        "[b-z]{3,8}",
        Just("in".to_owned()),
        Just("from".to_owned()),
        "[0-9]{1,4}",
        "[A-Z][b-z]{2,5}",
        Just("the".to_owned()),
    ];
    prop::collection::vec(word, 1..14)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_similarity_is_one_of_a_text_to_itself_and_never_beyond(a in "\\PC{0,80}", b in "\\PC{0,80}") {
        if let (Some(a), Some(b)) = (Question::of(&a), Question::of(&b)) {
            prop_assert_eq!(a.similarity(&a), Some(1.0));
            let found = a.similarity(&b);
            prop_assert_eq!(found, b.similarity(&a));
            if let Some(s) = found {
                prop_assert!((0.0..=1.0).contains(&s));
                prop_assert_eq!(a.words(), b.words());
            }
        }
    }

    #[test]
    fn another_number_is_another_question(words in sentence(), at in any::<prop::sample::Index>(), n in 0_u32..9_999, m in 0_u32..9_999) {
        prop_assume!(n != m);
        let with = |n: u32| {
            let mut words = words.clone();
            words.insert(at.index(words.len() + 1), n.to_string());
            Question::of(&words.join(" ")).unwrap()
        };
        prop_assert_eq!(with(n).similarity(&with(m)), None);
        prop_assert_eq!(with(n).similarity(&Question::of(&format!("{} x", words.join(" "))).unwrap()), None);
    }

    #[test]
    fn a_not_more_is_another_question(
        words in sentence(), at in any::<prop::sample::Index>(), to in any::<prop::sample::Index>(),
        no in prop::sample::select(vec!["not", "no", "never", "without", "NOT", "isn't", "kein", "pas"]),
        comma in any::<bool>(),
    ) {
        let mut plain = words.clone();
        let mut denied = words.clone();
        denied.insert(at.index(words.len() + 1), no.to_owned());
        let mut elsewhere = words.clone();
        elsewhere.insert(to.index(words.len() + 1), no.to_owned());
        if comma && let Some(word) = plain.get_mut(0) {
            word.push(',');
        }
        let [plain, denied, elsewhere] = [plain, denied, elsewhere].map(|w| w.join(" "));
        if let (Some(plain), Some(denied)) = (Question::of(&plain), Question::of(&denied)) {
            prop_assert_eq!(plain.similarity(&denied), None);
        }
        // Nor does it hang on something else without being another.
        let (a, b) = (Question::of(&denied).unwrap(), Question::of(&elsewhere).unwrap());
        if no != "without" && a.similarity(&b).is_some() {
            prop_assert_eq!(a.plain, b.plain);
        }
    }

    #[test]
    fn another_name_is_another_question(words in sentence(), at in any::<prop::sample::Index>(), n in "[A-Z][b-z]{2,8}", m in "[A-Z][b-z]{2,8}") {
        prop_assume!(n.to_lowercase() != m.to_lowercase());
        let with = |n: &str| {
            let mut words = words.clone();
            words.insert(at.index(words.len() + 1), n.to_owned());
            Question::of(&words.join(" "))
        };
        if let (Some(a), Some(b)) = (with(&n), with(&m)) {
            // Polite words at the ends are the one exception, and two different ones are never alike.
            prop_assert!(a.similarity(&b).is_none());
        }
    }

    #[test]
    fn capitals_and_the_end_of_a_sentence_do_not_matter(words in prop::collection::vec("[b-z]{3,8}", 1..14)) {
        let plain = words.join(" ");
        let told = format!("{}?", plain.replacen(' ', ", ", 1));
        let mut first = plain.clone();
        first.get_mut(0..1).unwrap().make_ascii_uppercase();
        for other in [told, first, plain.to_uppercase()] {
            let (a, b) = (Question::of(&plain).unwrap(), Question::of(&other).unwrap());
            // The commas of a `not` are the one thing that stays.
            if !words.iter().any(|w| BOUND.contains(&w.as_str())) {
                prop_assert_eq!(a.similarity(&b), Some(1.0), "{} | {}", plain, other);
            }
        }
    }
}
