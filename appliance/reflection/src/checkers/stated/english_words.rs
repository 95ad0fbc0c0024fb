//! The words of English, and what they mean to the rules.

use super::lexicon::role;
use super::{Tongue, Unit};

/// Verbs that ask for a text.
pub(super) const WRITES: &str =
    "write compose draft create generate produce make give tell describe explain summarize
    summarise answer reply respond say compare suggest propose recommend invent define discuss
    outline list name sum provide rewrite paraphrase rephrase continue translate state return
    output show prepare design present format introduce retell argue report review talk craft
    offer share print convert put classify evaluate analyze analyse invite plan pitch narrate
    elaborate";

/// Other commands.
pub(super) const DOES: &str =
    "use keep include mention avoid limit start begin end finish conclude close wrap enclose
    surround repeat restate copy don't never add append ensure restrict refrain be stick stay
    choose pick select let highlight find identify help exclude omit skip leave go cap";

pub(super) const LANGUAGES: &[(&str, Tongue)] = &[
    ("english", Tongue::English),
    ("spanish", Tongue::Spanish),
    ("castilian", Tongue::Spanish),
    ("french", Tongue::French),
    ("german", Tongue::German),
    ("italian", Tongue::Italian),
    ("portuguese", Tongue::Portuguese),
];

pub(super) const UNITS: &[(&str, Unit)] = &[
    ("word", Unit::Words),
    ("words", Unit::Words),
    ("sentence", Unit::Sentences),
    ("sentences", Unit::Sentences),
    ("paragraph", Unit::Paragraphs),
    ("paragraphs", Unit::Paragraphs),
    ("line", Unit::Lines),
    ("lines", Unit::Lines),
    ("verses", Unit::Lines),
    ("bullet", Unit::Bullets),
    ("bullets", Unit::Bullets),
    ("section", Unit::Sections),
    ("sections", Unit::Sections),
    ("character", Unit::Characters),
    ("characters", Unit::Characters),
];

/// Things an answer can be.
pub(super) const TEXTS: &str =
    "answer response reply output text message story poem essay letter email mail summary article
    paragraph sentence description haiku limerick explanation post tweet speech joke song note
    review bio biography report dialogue slogan motto invitation riddle advert ad caption
    headline introduction recipe tale verse blurb greeting toast memo paper blog rap script
    resume template ode fable definition";

/// What may stand between a number and what it counts.
pub(super) const ADJECTIVES: &str =
    "short complete full concise simple brief rhyming whole long clear separate distinct key main
    well-written single different bulleted numbered small plain english spanish";

/// What other words mean to a rule.
pub(super) const ROLES: &[(u64, &str)] = &[
    (role::WRITES | role::COMMAND, WRITES),
    (role::COMMAND, DOES),
    (role::TEXT, TEXTS),
    (role::ANSWER, "answer response reply output"),
    (
        role::CODE,
        "function functions script program code query regex regexp class method api macro
         formula algorithm regular python javascript sql html css bash",
    ),
    (
        role::ABOUT,
        "about around roughly approximately approx almost nearly circa some ~ ≈ ca",
    ),
    (
        role::MAKES,
        "write create make generate give fix implement debug produce complete build develop
         print refactor",
    ),
    (
        role::HAS,
        "has have contains contain does is are uses consists consist of must should not exceed
         use be doesn't includes",
    ),
    (role::FIRST, "exact first before then exactly without verbatim"),
    (role::SURE, "sure ensure answer response reply"),
    (role::EACH, "each every per apiece"),
    (
        role::SUBORDINATE,
        "who whom whose where which that what how why when if whether",
    ),
    (
        role::REPORTED,
        "because asking telling saying demanding requiring reminding rule law had rules",
    ),
    (
        role::PART,
        "title titles heading headings subject first second third last final opening closing
         introduction intro conclusion caption names acronym acronyms keywords beginning nouns
         verbs name",
    ),
    (role::WORD, "word words"),
    (
        role::NOT,
        "not don't never cannot can't shouldn't mustn't doesn't won't without avoid",
    ),
    (
        role::ADVERB,
        "let's forget please also now just only always simply finally kindly first next secondly ok okay hi
         hello hey do then and but so pls or can could would will you",
    ),
    (role::AND, "and but then or"),
    (
        role::MUST,
        "must should shall will may can cannot can't shouldn't mustn't",
    ),
    (
        role::MUST_TO,
        "forget need needs has have sure remember want try like ought is careful you free",
    ),
    (role::TO, "to"),
    (role::ME, "i i'd we"),
    (role::WANT, "want need like"),
    (role::A, "a an you your the exactly"),
    (
        role::THE,
        "your the my whole entire full all it this everything complete final",
    ),
    (
        role::ASKS,
        "do does did is are was were should can could would will has have am may might",
    ),
    (role::WH, "what who where when why how which what's who's whose"),
    (role::HOW_TO, "many much do to can should would could long"),
    (role::VERB, "is are was were died wrote has have had said says"),
    (role::WITH, "in with using within under into"),
    (
        role::NARROWS,
        "from starting beginning containing rhyming ending of below above that which who are
         were following per each every apiece apart have",
    ),
    (
        role::DEFINITE,
        "the these those my his her their its both following first last your our this",
    ),
    (role::ONE, "a an"),
    (role::LETTER_AND, "and or"),
    (
        role::NOT_A_WORD,
        "before after other than else when until unless except not if more like such while be
         count limit limits counts order list number of for in that which you and the a to is
         with from bank below above provided given or it on as at themselves itself",
    ),
    (role::TIMES, "times time"),
    (
        role::EXPLAINS,
        "explain why because then followed before give justify and with tell if depending",
    ),
];

pub(super) fn number(words: &[&str]) -> Option<(u32, usize)> {
    const ONES: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
         fifteen sixteen seventeen eighteen nineteen";
    const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";
    let first = *words.first()?;
    let index = |list: &str, word: &str| {
        list.split_whitespace()
            .position(|w| w == word)
            .and_then(|i| u32::try_from(i).ok())
    };
    let second = words.get(1).copied();
    match first {
        "a" | "one" if second == Some("hundred") => return Some((100, 2)),
        "a" | "one" if second == Some("dozen") => return Some((12, 2)),
        "hundred" => return Some((100, 1)),
        "dozen" => return Some((12, 1)),
        _ => {}
    }
    if let Some(ones) = index(ONES, first) {
        return Some((ones, 1));
    }
    let tens = (index(TENS, first)? + 2) * 10;
    let (after, used) = match second {
        Some("-") => (words.get(2).copied(), 3),
        other => (other, 2),
    };
    match after.and_then(|word| index(ONES, word)) {
        Some(ones @ 1..=9) => Some((tens + ones, used)),
        _ => Some((tens, 1)),
    }
}
