//! The words and rules of English.

use std::sync::LazyLock;

use super::lexicon::Meaning::{self, *};
use super::lexicon::{Lexicon, Tables, role};
use super::{ListKind, Mark, Tongue, Unit};

/// Verbs that ask for a text.
const WRITES: &str = "write compose draft create generate produce make give tell describe explain summarize
    summarise answer reply respond say compare suggest propose recommend invent define discuss
    outline list name sum provide rewrite paraphrase rephrase continue translate state return
    output show prepare design present format introduce retell argue report review talk craft
    offer share print convert put classify evaluate analyze analyse invite plan pitch narrate
    elaborate";
/// Other commands.
const DOES: &str = "use keep include mention avoid limit start begin end finish conclude close wrap enclose
    surround repeat restate copy don't never add append ensure restrict refrain be stick stay
    choose pick select let highlight find identify help exclude omit skip leave go cap";
const LANGUAGES: &[(&str, Tongue)] = &[
    ("english", Tongue::English),
    ("spanish", Tongue::Spanish),
    ("castilian", Tongue::Spanish),
    ("french", Tongue::French),
    ("german", Tongue::German),
    ("italian", Tongue::Italian),
    ("portuguese", Tongue::Portuguese),
];
const UNITS: &[(&str, Unit)] = &[
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
const CLASSES: &[(&str, &str)] = &[
    ("text", TEXTS),
    ("adj", ADJECTIVES),
    ("write", WRITES),
    (
        "make",
        "write compose draft create generate produce give provide craft prepare make use",
    ),
    ("answer", "answer response reply output"),
    ("aux", "must should shall will can may need needs has have ought"),
    ("neg", "not never"),
    ("the", "the your a an this that it each these following"),
    ("mark", "marks mark points point"),
    (
        "using",
        "using use uses with contain contains containing include including write writing put
         adding add mention mentioning say saying have having",
    ),
];
/// Things an answer can be.
const TEXTS: &str =
    "answer response reply output text message story poem essay letter email mail summary article
    paragraph sentence description haiku limerick explanation post tweet speech joke song note
    review bio biography report dialogue slogan motto invitation riddle advert ad caption
    headline introduction recipe tale verse blurb greeting toast memo paper blog rap script
    resume template ode fable definition";

const COUNTS: &[(Meaning, &str)] = &[
    (
        AtMost,
        "at ?the most # %
         no|not more|longer|greater than # %
         not ?to|? exceed|exceeding # %
         maximum|max ?of # %
         up to # %
         within # %
         limit|limited|restrict|restricted|cap|capped *5 to ?a ?maximum|max ?of # %
         keep *5 to # % ?or ?less|fewer
         stick|stay to|within # %
         # % at ?the most
         # % or less|fewer|shorter|under
         # % max|maximum|tops
         # or less|fewer %
         # % as a|the maximum",
    ),
    (
        Above,
        "exceed|exceeding # %
         more|longer than # %
         over # %",
    ),
    (
        Below,
        "under|below # %
         fewer|less|shorter than # %",
    ),
    (
        AtLeast,
        "at ?the least # %
         no|not fewer|less|shorter than # %
         minimum|min ?of # %
         # % or more|longer
         # or more %
         # + %
         # % at least|minimum|min
         # % minimum|min",
    ),
    (
        Exactly,
        "exactly|precisely # %
         only|just # %
         # % exactly|only
         consist|consists|consisting|composed of # %",
    ),
    (
        Range,
        "between # % ?and|to # %
         # % or # %
         between # and|to # %
         from # to # %
         # to|-|or # - %
         # to|-|or # %
         at least # %|? but|and ?no|not ?at more|most ?than # %
         at least # but|and no|not more than # %
         at least # but|and at most # %
         at least # % but|and ?no|not|at more|most ?than #",
    ),
    (
        Bare,
        "in # %
         ^ answer|reply|respond with # %
         ^ # % $",
    ),
    (
        One,
        "in a single %
         with ?only|just a|one single %
         a|one single %",
    ),
    (BareVerb, "^ @make ?me|us # %"),
    (BareWith, "with|has|have|contain|into|use|using|consist # %"),
    (
        Adjective,
        "^ @write ?me|us a|an|your # - %
         ^ @write ?me|us ?a|an ?short|brief # - %",
    ),
    (
        OneWord,
        "^ one - word answer|reply|response|only $
         ^ one|single word answer|reply|response $",
    ),
    (
        Placeholders,
        "at least # placeholders|placeholder
         # or more placeholders
         minimum of # placeholders
         # placeholders",
    ),
];

const OTHERS: &[(Meaning, &str)] = &[
    (
        Contains,
        "^ include|mention|contain|use ?both|all ?of ?the ?following ?exact ?key words|word|keywords|keyword|phrase|phrases|term|terms|expression|keyword|keywords",
    ),
    (
        ContainsQuoted,
        "^ include|mention|contain ?both ?the",
    ),
    (
        ContainsIn,
        "^ ?@write|do that|which includes|include|contains|contain|uses|use|mentions the ?following words|word|phrase|phrases|keywords|keyword
         that|which includes|contains|uses|mentions the ?following words|word|phrase|phrases|keywords|keyword
         including|containing|featuring|with the ?following ?exact words|word|phrase|phrases|keywords|keyword",
    ),
    (
        ContainsUsing,
        "using the ?following ?exact words|word|phrase|phrases|keywords|keyword",
    ),
    (
        Avoids,
        "do not|never @using ?any|either ?of ?the ?following words|word|phrase|phrases|term|terms|expression|keyword|keywords
         don't|never|not|mustn't|shouldn't|cannot|can't @using ?any|either ?of ?the ?following words|word|phrase|phrases|term|terms|expression|keyword|keywords
         ^ avoid|exclude|omit ?@using ?any ?of ?the ?following words|word|phrase|phrases|term|terms|expression|keyword|keywords
         without ?ever @using ?any ?of ?the ?following words|word|phrase|phrases|term|terms|expression|keyword|keywords
         without the words|word|phrase|term",
    ),
    (
        AvoidsQuoted,
        "don't|never|not @using
         without @using",
    ),
    (
        Letter,
        "do|must|should not @using ?the letter|character
         don't|never|not|without|avoid ?@using ?the letter|character",
    ),
    (
        Starts,
        "^ start|begin ?off ?@the ?whole|entire ?@answer|@text ?off with|by ?using|saying ?@the ?exact ?following ?words|word|phrase|sentence|line|text
         ^ ?let *2 @answer|@text start|begin with ?@the ?exact ?words|word|phrase|sentence|line",
    ),
    (
        StartsIn,
        "starting|beginning|starts|begins with ?the ?exact ?words|word|phrase|sentence|line",
    ),
    (
        Ends,
        "^ end|finish|conclude|close ?off ?@the ?whole|entire ?@answer|@text ?off with|by ?using|saying ?@the ?exact ?following ?words|word|phrase|sentence|line|text|question",
    ),
    (
        EndsIn,
        "ending|finishing|ends|finishes|concluding with ?the ?exact ?words|word|phrase|sentence|line",
    ),
    (
        Upper,
        "in|using|only|all|entirely|use ?only|all ?- caps|capitals|uppercase ?letters
         in|using|only|all|entirely|use ?only|all ?- capital|upper ?- ?case letters
         in|all|entirely|only ?all ?- upper ?- case",
    ),
    (
        Lower,
        "in|using|only|all|entirely|use ?only|all ?- lowercase ?letters
         in|using|only|all|entirely|use ?only|all ?- lower ?- case ?letters
         in|using|only|all|use ?only|all small|lowercase letters
         no|without ?any|using capital|uppercase letters",
    ),
    (
        Without(Mark::Commas),
        "no|without|avoid ?any|using ?any ?the ?use ?of commas|comma
         don't|not|never @using ?any|a commas|comma
         refrain from ?the|using ?use ?of ?any commas",
    ),
    (
        Without(Mark::Exclamation),
        "no|without|avoid ?any|using ?any ?the ?use ?of exclamation @mark
         don't|not|never @using ?any exclamation @mark",
    ),
    (
        Without(Mark::Questions),
        "no|without|avoid ?any|using ?any question @mark
         don't|not|never @using ?any question @mark",
    ),
    (
        Without(Mark::Semicolons),
        "no|without|avoid ?any|using ?any semicolons
         don't|not|never @using ?any semicolons",
    ),
    (
        Without(Mark::Punctuation),
        "no|without ?any|using ?any punctuation
         don't|not|never @using ?any punctuation",
    ),
    (
        Quoted,
        "^ wrap|put|enclose|surround|place *4 @answer|everything|it in|with|inside|between|within ?double quotation|quote|quotes ?marks
         @answer must|should be *2 in|with|inside|between|within ?double quotation|quote|quotes ?marks",
    ),
    (
        Language,
        "^ answer|respond|reply|write|speak ?back ?to ?me ?it ?everything ?only|exclusively|entirely in ?only &lang
         ^ give|write|make|keep|do *2 @answer|it|this|everything ?only|entirely in &lang
         @answer must|should|has|needs|is ?to ?be ?written|given ?only|entirely|fully in &lang
         ^ @write ?me|us a|an|your *2 @text in &lang
         ^ only|exclusively in &lang $
         ^ in &lang ?please|only $",
    ),
    (
        Json,
        "as|in|into ?only ?a ?valid json ?format|object|array|please|only $
         as|in ?a ?valid json ?format|object|array with|describing|using|containing|whose|listing|that|and|for
         ^ return|output|produce|generate|give|respond|reply|answer|write|create|make ?me ?with ?only ?a|the ?valid json ?format|object|array|only|please $
         ^ return|output|produce|generate|give|respond|reply|answer|create|make ?me ?with ?only ?a|the ?valid json ?format|object|array with|describing|for|containing|that|of",
    ),
    (
        Table,
        "in|as|into|using ?a ?markdown|simple|small|single|two|three ?- ?column table ?format|form|please $
         in|as|into|using ?a ?markdown|simple|small table ?format|form with|that|comparing|showing|which|listing|whose
         ^ make|create|build|draw|give|show|produce|generate|write|return ?me|us a ?markdown|simple|small|comparison table of|with|comparing|showing|listing",
    ),
    (
        List(ListKind::Bulleted),
        "in|as|with|using|use ?a ?short|simple ?markdown bulleted|bullet|bullets|bullet-point|bullet-pointed ?- ?point|points|pointed list
         in|as|with|using|use ?short|simple|markdown bullet ?- points
         in|as|using|use ?short|simple bullets
         ^ @write ?me|us a ?short|simple bulleted|bullet|unordered ?- ?point list",
    ),
    (
        List(ListKind::Numbered),
        "in|as|with|using|use ?a ?short|simple numbered|ordered list
         ^ @write ?me|us a ?short|simple numbered|ordered list",
    ),
    (
        List(ListKind::Any),
        "in|as a list $
         in list form|format",
    ),
    (
        Title,
        "with|and|include|including|add|has|have|contain|contains|needs|it ?also a ?short|suitable|catchy|fitting title",
    ),
    (
        Postscript,
        "add|include|append|end|finish|with|put|attach|has|have|contain *4 postscript|p.s|p.p.s|ps",
    ),
    (
        YesNo(&["yes", "no"]),
        "^ answer|reply|respond|say ?me ?this ?it ?only|just|simply|strictly ?with|using ?a ?only|just|either|simple yes or no
         with ?a ?only|just|either|simple yes or no $
         ^ yes or no ?please|only $",
    ),
    (
        YesNo(&["true", "false"]),
        "^ answer|reply|respond|say ?only|just|simply ?with ?only|just|either true or false
         ^ true or false $",
    ),
    (
        Options,
        "^ answer|reply|respond|say ?only|just with ?exactly|only one of ?the|these ?following ?two|three|four|five ?options|words|labels|answers|values|phrases ?only
         ^ answer|reply|respond|say only|just|exactly|simply ?with ?either
         ^ answer|reply|respond|say ?with only|just|either|exactly
         ^ answer|reply|respond|say ?with ?exactly one of",
    ),
    (
        OptionsQuoted,
        "^ answer|reply|respond with",
    ),
    (
        Repeat,
        "^ repeat|restate|copy|reproduce ?back ?exactly ?the|this|my|above request|question|prompt
         ^ ?first repeat|restate|copy ?back ?exactly ?the|this|my request|question|prompt",
    ),
];

/// What may stand between a number and what it counts.
const ADJECTIVES: &str =
    "short complete full concise simple brief rhyming whole long clear separate distinct key main
    well-written single different bulleted numbered small plain english spanish";

/// What other words mean to a rule.
const ROLES: &[(u64, &str)] = &[
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
    (role::FIRST, "first before then exactly without verbatim"),
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
        "please also now just only always simply finally kindly first next secondly ok okay hi
         hello hey do then and but so pls or can could would will you",
    ),
    (role::AND, "and but then or"),
    (
        role::MUST,
        "must should shall will may can cannot can't shouldn't mustn't",
    ),
    (
        role::MUST_TO,
        "need needs has have sure remember want try like ought is careful you free",
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

fn number(words: &[&str]) -> Option<(u32, usize)> {
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

/// "Explicitly", "carefully": they may stand before a command.
fn by_form(word: &str) -> u64 {
    if word.len() > 4 && word.ends_with("ly") {
        role::ADVERB
    } else {
        0
    }
}

/// English.
pub(super) static ENGLISH: LazyLock<Lexicon> = LazyLock::new(|| {
    Lexicon::new(&Tables {
        rules: &[COUNTS, OTHERS],
        classes: CLASSES,
        roles: ROLES,
        units: UNITS,
        languages: LANGUAGES,
        adjectives: ADJECTIVES,
        number,
        by_form,
    })
});
