//! The words and rules of English.

use std::sync::LazyLock;

use super::english_words::{ADJECTIVES, LANGUAGES, ROLES, TEXTS, UNITS, WRITES, number};
use super::lexicon::Meaning::{self, *};
use super::lexicon::{Lexicon, Tables, role};
use super::{ListKind, Mark};

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
        Appears,
        "the ?key word|keyword|phrase|term *1 should|must|has|needs ?not ?to appear|occur
         the ?key word|keyword|phrase|term &quote should|must|has|needs ?not ?to appear|occur",
    ),
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
        "including|containing|featuring ?the ?following ?exact words|word|phrase|phrases|keywords|keyword
         that|which has|have the ?following words|word|phrase|keywords
         ^ ?@write|do that|which includes|include|contains|contain|uses|use|mentions the ?following words|word|phrase|phrases|keywords|keyword
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
        "last sentence|words|line|phrase of your|the *2 should|must be|read
         end of your *2 should|must be|read
         ^ end|finish|conclude|close ?off ?@the ?whole|entire ?@answer|@text ?off with|by ?using|saying ?@the ?exact ?following ?words|word|phrase|sentence|line|text|question ?of",
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
        "don't|not|never @using ?any capital|uppercase letters
         all ?of ?the letters *3 must|should|are|be ?in ?be lowercase|lowercased
         all ?of ?the letters *3 must|should|are|be ?in ?be lower ?- case
         in|using|only|all|entirely|use ?only|all ?- lowercase ?letters
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
        "^ put|place|add|use ?double quotation|quote|quotes|quotations ?marks around|on *3 @answer|everything|it
         @answer is|be|must|should|needs ?to ?be ?fully ?completely wrapped|enclosed|surrounded in|with|by ?double quotation|quote|quotes ?marks
         ^ wrap|put|enclose|surround|place *4 @answer|everything|it in|with|inside|between|within ?double quotation|quote|quotes ?marks
         @answer must|should be *2 in|with|inside|between|within ?double quotation|quote|quotes ?marks",
    ),
    (
        Language,
        "@answer must|should|has|needs|is ?to ?be ?written|given entirely|completely|only in &lang
         ^ answer|respond|reply ?only using|in ?only the &lang language
         ^ answer|respond|reply|write|speak ?back ?to ?me ?it ?everything ?only|exclusively|entirely in ?only &lang
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
        "title should|must|needs ?to ?be ?also wrapped|in|enclosed|inside
         with|and|include|including|add|has|have|contain|contains|needs|it ?also a ?short|suitable|catchy|fitting title",
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
        "^ answer|reply|respond
         ^ answer|reply|respond with",
    ),
    (
        Repeat,
        "^ ?first repeat|restate|copy|reproduce ?back ?exactly the|this|my ?above ?exact|entire|whole|full request|question|prompt
         ^ ?first repeat the sentence above
         ^ repeat|restate|copy|reproduce ?back ?exactly ?the|this|my|above request|question|prompt
         ^ ?first repeat|restate|copy ?back ?exactly ?the|this|my request|question|prompt",
    ),
];

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
