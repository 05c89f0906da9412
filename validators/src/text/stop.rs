//! Words that carry grammar rather than content, in the languages of most requests.

use std::collections::HashSet;
use std::sync::LazyLock;

const ENGLISH: &str = "a about above after again all also although am an and any are as at be because been \
    before being below between both but by can could did do does doing down during each either else etc even \
    ever every few for from further get gets got had has have having he hence her here hers herself him himself \
    his how however i if in into is it its itself just let like may me might more most much must my myself no \
    nor not now of off often on once only or other others our ours ourselves out over own per quite rather \
    really s same shall she should since so some such t than that the their theirs them themselves then there \
    therefore these they this those though through thus to too under until up upon us use used using very via \
    was we well were what when where whether which while who whom whose why will with within without would yet \
    you your yours yourself yourselves according based given include includes including overall additionally \
    furthermore moreover d ll m o re ve don't doesn't isn't aren't wasn't weren't can't cannot won't";
/// Words of advice and of order, which say nothing of their subject.
const GENERAL: &str = "consider considering considered important importantly essential recommend recommended \
    recommendation advise advised advisable helpful useful help helps generally general typically typical usually \
    specifically specific various several different certain particular particularly way ways thing things example \
    examples addition case cases make makes making made need needs needed want find good well provide provides \
    provided providing ensure understand common commonly possible following respectively especially significantly \
    simply overall whole etc lot lots kind kinds type types really actually first second finally lastly summary \
    conclusion instance often sometimes always";
const GERMAN: &str = "aber als am an auch auf aus bei bin bis bist da damit dann das dass daß dem den denn der \
    des die dies diese diesem diesen dieser dieses doch dort du durch ein eine einem einen einer eines er es für \
    hat haben hatte hier ich ihr ihre ihren im in ist ja kann kein keine können man mit nach nicht noch nun nur \
    ob oder ohne sehr sein seine sich sie sind so über um und uns unter vom von vor war waren was wenn werden wie \
    wird wir wo wurde zu zum zur";
const FRENCH: &str = "au aux avec ce ces cette dans de des du elle en est et eux il ils je la le les leur lui ma \
    mais me mes moi mon ne nos notre nous on ou où par pas pour qu que qui sa se ses si son sont sur ta te tes toi \
    ton tu un une vos votre vous était être été plus comme l d c j m n s t";
const SPANISH: &str = "al algo ante antes como con contra cual cuando de del desde donde el ella ellas ellos en \
    entre era es esa ese eso esta está este esto fue ha hay la las le les lo los más me mi mientras muy nada ni no \
    nos o para pero por porque que qué quien se ser si sí sin sobre son su sus también te tiene todo tu un una uno y \
    ya yo";
const OTHERS: &str = "e o os as um uma uns umas do da dos das no na nos nas em por pelo pela com sem não é são ao \
    à il lo gli i un uno una di del dello della dei degli delle che è sono non con per tra fra het een van en op te \
    dat die niet zijn aan met voor door ook maar er je ik och att det som på för av med den inte har";

static WORDS: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    [ENGLISH, GENERAL, GERMAN, FRENCH, SPANISH, OTHERS].iter().flat_map(|l| l.split_whitespace()).collect()
});

/// Whether the lower-cased word is one of them.
pub(crate) fn is_stop(word: &str) -> bool {
    WORDS.contains(word)
}

#[cfg(test)]
mod tests {
    use super::is_stop;

    #[test]
    fn grammar_is_told_from_content() {
        for w in ["the", "und", "nicht", "les", "para", "não"] {
            assert!(is_stop(w), "{w}");
        }
        for w in ["turtle", "haus", "year", "1985", "rate"] {
            assert!(!is_stop(w), "{w}");
        }
    }
}
