//! What the sentences of a request ask of the answer.

use super::english::ENGLISH;
use super::lexicon::{Lexicon, Meaning, role};
use super::lists;
use super::page::{Mode, Page};
use super::pattern::{Match, Reading};
use super::spanish::SPANISH;
use super::tokens::{Kind, Token, tokens};
use super::{ListKind, MOST_ASKED, Stipulation, Unit};

/// After these a form is one of the answer.
const GIVES: &[&str] = &[
    "answer",
    "answers",
    "respond",
    "response",
    "reply",
    "give",
    "return",
    "output",
    "present",
    "list",
    "put",
    "write",
    "format",
    "provide",
    "produce",
    "generate",
    "create",
    "make",
    "organize",
    "organise",
    "arrange",
    "summarize",
    "summarise",
    "compare",
    "display",
    "want",
    "need",
    "convert",
    "tell",
    "responde",
    "responda",
    "respondas",
    "respondeme",
    "respuesta",
    "salida",
    "contesta",
    "conteste",
    "contestame",
    "devuelve",
    "devuelva",
    "devuelveme",
    "da",
    "dame",
    "deme",
    "danos",
    "escribe",
    "escriba",
    "escribeme",
    "presenta",
    "presente",
    "presentame",
    "pon",
    "ponga",
    "ponme",
    "ponlo",
    "enumera",
    "genera",
    "crea",
    "haz",
    "hazme",
    "organiza",
    "ordena",
    "resume",
    "compara",
    "convierte",
    "entrega",
    "quiero",
    "necesito",
    "formatea",
];
/// After these it is what they tell of.
const TELLS_OF: &[&str] = &[
    "explain",
    "describe",
    "find",
    "help",
    "show",
    "difference",
    "differences",
    "code",
    "how",
    "example",
    "examples",
    "remove",
    "sort",
    "reverse",
    "access",
    "loop",
    "search",
    "explica",
    "explique",
    "explicame",
    "describa",
    "encuentra",
    "encontrar",
    "halla",
    "busca",
    "buscar",
    "ayuda",
    "ayudame",
    "muestra",
    "muestrame",
    "diferencia",
    "diferencias",
    "codigo",
    "como",
    "ejemplo",
    "ejemplos",
    "quitar",
    "eliminar",
    "ordenar",
    "recorrer",
];

impl Page<'_> {
    /// The count that a rule states, if it is one of the answer as a whole.
    fn count(&self, at: usize, found: &Match, meaning: Meaning) -> Option<Stipulation> {
        use Meaning::{
            Above, Adjective, AtLeast, AtMost, Bare, BareVerb, BareWith, Below, Exactly, One, Range,
        };
        let unit = found.unit?;
        let first = found.numbers.first().copied();
        let (number, number_at) = first.unwrap_or((1, at));
        let clause = self.clause(at);
        let near = [number_at.wrapping_sub(1), at.wrapping_sub(1)];
        let after = self.is(found.end, role::ABOUT)
            && !self.inside(found.end + 1).is_some_and(|t| t.kind == Kind::Word);
        if near
            .into_iter()
            .any(|i| i >= self.start && self.is(i, role::ABOUT))
            || (found.end < self.end && after)
        {
            return None;
        }
        let each = |i: usize| i < self.end && self.is(i, role::EACH);
        if (clause..at).any(each)
            || (found.end..found.end + 3)
                .take_while(|&i| !self.is_mark(i))
                .any(each)
        {
            return None;
        }
        let part = |i: usize| {
            self.is(i, role::PART) && !(i.saturating_sub(3).max(clause)..i).any(|j| self.is(j, role::WRITES))
        };
        if (clause..at).any(part) {
            return None;
        }
        if unit == Unit::Words && self.of_a_kind(found.end) {
            return None;
        }
        if unit == Unit::Sections && (self.start..at).chain([found.end]).any(|i| self.highlights(i)) {
            return None;
        }
        let bare = matches!(meaning, Bare | BareWith | BareVerb | Adjective);
        let narrowed = found.end < self.end && self.is(found.end, role::NARROWS);
        if narrowed && (unit == Unit::Words || bare || meaning == Exactly) {
            return None;
        }
        if matches!(meaning, BareVerb | BareWith) && self.is(number_at, role::ONE) {
            return None;
        }
        if bare && unit == Unit::Words {
            // "In 200 words" is a wish; "in five words" is meant so.
            let allowed = number <= 20 && matches!(meaning, Bare | Adjective);
            if !allowed {
                return None;
            }
        }
        if meaning == Adjective && !(found.end..found.end + 2).any(|i| i < self.end && self.is(i, role::TEXT))
        {
            return None;
        }
        let (least, most) = match meaning {
            AtMost => (None, Some(number)),
            Below => (None, Some(number.checked_sub(1).filter(|n| *n > 0)?)),
            AtLeast => (Some(number), None),
            Above if (clause.max(at.saturating_sub(6))..at).any(|i| self.is(i, role::NOT)) => {
                (None, Some(number))
            }
            Above => (Some(number + 1), None),
            Range => {
                let second = found.numbers.get(1)?.0;
                (second > number).then_some((Some(number), Some(second)))?
            }
            Exactly | Bare | BareWith | BareVerb | Adjective | One => (Some(number), Some(number)),
            _ => return None,
        };
        // A story of at least three characters is something else.
        if unit == Unit::Characters && (least.is_some() || most.is_some_and(|most| most < 40)) {
            return None;
        }
        Some(Stipulation::Count { unit, least, most })
    }

    /// Whether what follows says which words are counted: "ten words in capital letters".
    fn of_a_kind(&self, at: usize) -> bool {
        let kind = |i: usize| {
            self.inside(i).is_some_and(|token| {
                matches!(
                    token.folded.as_str(),
                    "caps"
                        | "capital"
                        | "capitals"
                        | "uppercase"
                        | "lowercase"
                        | "capitalized"
                        | "letter"
                        | "letters"
                        | "mayusculas"
                        | "mayuscula"
                        | "minusculas"
                        | "tilde"
                        | "tildes"
                        | "acento"
                        | "letra"
                        | "letras"
                )
            })
        };
        let linked = self.inside(at).is_some_and(|token| {
            matches!(
                token.folded.as_str(),
                "in" | "be"
                    | "with"
                    | "or"
                    | "all"
                    | "en"
                    | "con"
                    | "o"
                    | "escritas"
                    | "capitalized"
                    | "acentuadas"
            )
        }) || self.is(at, role::ADVERB);
        let accented = self
            .inside(at)
            .is_some_and(|token| token.folded.starts_with("acentuad"));
        accented || (linked && (at..at + 7).any(kind))
    }

    fn negated(&self, at: usize) -> bool {
        // "Don't forget to include …" asks for it.
        let forget = |i: usize| {
            self.inside(i).is_some_and(|token| {
                ["forg", "fail", "olvid", "dejes"]
                    .iter()
                    .any(|verb| token.folded.starts_with(verb))
            })
        };
        let before = self.clause(at).max(at.saturating_sub(3))..at;
        before.clone().any(|i| self.is(i, role::NOT)) && !before.into_iter().any(forget)
    }

    /// "Highlight three sections": parts of a text, not its structure.
    fn highlights(&self, at: usize) -> bool {
        let starts = ["highlight", "destac", "resalt", "subray", "bold", "italic"];
        self.inside(at)
            .is_some_and(|token| starts.iter().any(|start| token.folded.starts_with(start)))
    }

    /// Whether "in JSON", "in a table" or "in a list" says where something is, not how to answer: the form of the
    /// answer follows a command to give one.
    fn is_place(&self, at: usize, end: usize, meaning: Meaning) -> bool {
        let word = |i: usize| self.tokens[i].folded.as_str();
        let forms = |i: usize| matches!(word(i), "format" | "form" | "formato" | "forma" | "markdown");
        let bulleted = matches!(meaning, Meaning::List(ListKind::Bulleted));
        let numbered = |i: usize| matches!(word(i), "numbered" | "numerada");
        let inside = matches!(word(at), "in" | "en");
        if !inside || bulleted || (at..end).any(|i| forms(i) || numbered(i)) {
            return false;
        }
        let light = |i: usize| self.is(i, role::ADVERB | role::WITH | role::AND) || self.is_mark(i);
        if (self.start..at).all(light) {
            return false;
        }
        let tells = (self.start..at).rev().find(|&i| TELLS_OF.contains(&word(i)));
        let gives = |i: usize| GIVES.contains(&word(i)) && (tells.is_none() || self.may_begin(i));
        !(tells.map_or(self.start, |i| i + 1)..at).any(gives)
    }

    /// What the rule asks; several where a list follows. With it, one past the last token it took.
    fn read(&self, at: usize, found: &Match, meaning: Meaning) -> (Vec<Stipulation>, usize) {
        let one = |stipulation: Option<Stipulation>| (stipulation.into_iter().collect(), found.end);
        let wrote = || {
            let text = |i: usize| self.is(i, role::TEXT);
            (self.start..at).any(|i| self.is(i, role::WRITES)) && (self.start..at).any(text)
        };
        match meaning {
            Meaning::OneWord => one(Some(Stipulation::Count {
                unit: Unit::Words,
                least: Some(1),
                most: Some(1),
            })),
            Meaning::Placeholders => one(found.numbers.first().map(|n| Stipulation::Placeholders(n.0))),
            // "Do not include the words …"
            Meaning::Contains | Meaning::ContainsQuoted | Meaning::ContainsIn if self.negated(at) => {
                lists::avoided(self, found.end, meaning == Meaning::ContainsQuoted)
            }
            Meaning::Contains => lists::contained(self, found.end, false),
            Meaning::ContainsQuoted => lists::contained(self, found.end, true),
            Meaning::ContainsUsing if (self.start..at).any(|i| self.is(i, role::WRITES)) => {
                lists::contained(self, found.end, false)
            }
            Meaning::ContainsIn if wrote() => lists::contained(self, found.end, false),
            Meaning::Appears => one(lists::appearing(self, at, found.end)),
            Meaning::Avoids | Meaning::AvoidsQuoted => {
                lists::avoided(self, found.end, meaning == Meaning::AvoidsQuoted)
            }
            Meaning::Letter => one(lists::letter(self, found.end).map(Stipulation::AvoidsLetter)),
            Meaning::Starts => one(lists::edge(self, found.end).map(Stipulation::StartsWith)),
            Meaning::StartsIn if wrote() => one(lists::edge(self, found.end).map(Stipulation::StartsWith)),
            Meaning::Ends => one(lists::edge(self, found.end).map(Stipulation::EndsWith)),
            Meaning::EndsIn if wrote() => one(lists::edge(self, found.end).map(Stipulation::EndsWith)),
            Meaning::Upper | Meaning::Lower => {
                let clause = self.clause(at);
                let named = found.end < self.end && self.is(found.end, role::WORD);
                let and = |&i: &usize| matches!(self.tokens[i].folded.as_str(), "and" | "y" | "but" | "pero");
                let clause = (clause..at).rev().find(and).unwrap_or(clause);
                let of_a_part =
                    named || (clause..at).any(|i| self.is(i, role::PART | role::WORD | role::EACH));
                let case = if meaning == Meaning::Upper {
                    Stipulation::UpperCase
                } else {
                    Stipulation::LowerCase
                };
                one((!of_a_part).then_some(case))
            }
            // "To avoid comma splices" names something else.
            Meaning::Without(_)
                if matches!(self.tokens[found.end - 1].folded.as_str(), "comma" | "coma")
                    && self.inside(found.end).is_some_and(|t| t.kind == Kind::Word)
                    && !self.is(found.end, role::ADVERB | role::AND) =>
            {
                one(None)
            }
            Meaning::Without(mark) => one(Some(Stipulation::Without(mark))),
            Meaning::Quoted => one(Some(Stipulation::Quoted)),
            Meaning::Language => {
                let tongue = found
                    .tongue
                    .and_then(|i| self.lexicon.tongue(&self.tokens[i].folded));
                let both = self.is(found.end, role::LETTER_AND) && self.tongue(found.end + 1);
                // "In Spanish with an English translation" is an answer in two.
                let other = self.tokens.iter().any(|token| {
                    let word = token.folded.as_str();
                    let names = [&*ENGLISH, &*SPANISH]
                        .iter()
                        .find_map(|lexicon| lexicon.tongue(word));
                    names.is_some_and(|named| Some(named) != tongue)
                        || word.starts_with("translat")
                        || word.starts_with("traduc")
                });
                one(tongue.filter(|_| !both && !other).map(Stipulation::Language))
            }
            Meaning::Json | Meaning::Table | Meaning::List(_) if self.is_place(at, found.end, meaning) => {
                one(None)
            }
            Meaning::Json => one(Some(Stipulation::Json)),
            Meaning::Table => one(Some(Stipulation::Table)),
            Meaning::List(kind) => {
                let mut out = vec![Stipulation::List(kind)];
                let counted = self
                    .inside(found.end)
                    .filter(|token| matches!(token.folded.as_str(), "of" | "with" | "de" | "con"))
                    .and_then(|_| self.number(found.end + 1));
                if let Some((number, _)) = counted {
                    let (unit, least, most) = (Unit::Bullets, Some(number), Some(number));
                    out.push(Stipulation::Count { unit, least, most });
                }
                (out, found.end)
            }
            Meaning::Title => {
                let angular = (self.start..self.end).any(|i| {
                    let token = &self.tokens[i];
                    token.is("angular")
                        || (token.kind == Kind::Quote && self.text[..token.span.start].ends_with("<<"))
                });
                one(Some(Stipulation::Title { angular }))
            }
            Meaning::Postscript => one(Some(Stipulation::Postscript(lists::marker(self)))),
            Meaning::YesNo(options) => one((!lists::explained(self, found.end))
                .then(|| Stipulation::Choice(options.iter().map(|&option| option.to_owned()).collect()))),
            Meaning::Options | Meaning::OptionsQuoted => {
                one(lists::options(self, found.end, meaning == Meaning::OptionsQuoted)
                    .map(Stipulation::Choice))
            }
            Meaning::Repeat => {
                let first = (self.start..self.end).any(|i| self.is(i, role::FIRST));
                one(lists::repeated(self).filter(|_| first).map(Stipulation::Repeat))
            }
            _ => one(self.count(at, found, meaning)),
        }
    }

    /// Everything the sentence asks.
    fn stipulations(&self, code: bool, out: &mut Vec<Stipulation>) {
        let mut at = self.start;
        while at < self.end {
            let mut next = at + 1;
            let mut candidates: Vec<(usize, Match, Meaning)> = Vec::new();
            for (found, meaning) in self.lexicon.rules.all(self, at) {
                candidates.push((at, found, meaning));
            }
            // "In two sentences or less": what begins within and reaches further is what was meant.
            let reach = candidates.first().map_or(0, |(_, found, _)| found.end);
            for inner in at + 1..reach.min(at + 8) {
                let longer = self.lexicon.rules.all(self, inner).into_iter();
                candidates.extend(
                    longer
                        .filter(|(found, _)| found.end > reach)
                        .map(|(f, m)| (inner, f, m)),
                );
            }
            candidates.sort_by_key(|(_, found, _)| std::cmp::Reverse(found.end));
            for (begin, found, meaning) in candidates {
                if !self.may_speak(begin, &found, meaning) {
                    continue;
                }
                let survives = matches!(
                    meaning,
                    Meaning::Language | Meaning::YesNo(_) | Meaning::Options | Meaning::OptionsQuoted
                );
                if code && !survives {
                    continue;
                }
                let (asked, end) = self.read(begin, &found, meaning);
                if !asked.is_empty() || found.unit.is_some() {
                    // Also a count that was refused is used up: its tail must not be read as another.
                    next = end.max(at + 1);
                    out.extend(asked);
                    break;
                }
            }
            at = next;
        }
    }
}

/// What `text`, a turn of a request, asks of the answer.
pub(super) fn extract(text: &str) -> Vec<Stipulation> {
    let mut out = Vec::new();
    for part in parts(text) {
        let tokens = tokens(part);
        for lexicon in [&*ENGLISH, &*SPANISH] {
            read_in(lexicon, part, &tokens, &mut out);
        }
    }
    out
}

/// The whole of a turn, or its first and its last part.
fn parts(text: &str) -> Vec<&str> {
    if text.len() <= MOST_ASKED {
        return vec![text];
    }
    let mut first = MOST_ASKED / 2;
    while !text.is_char_boundary(first) {
        first -= 1;
    }
    let mut last = text.len() - MOST_ASKED / 2;
    while !text.is_char_boundary(last) {
        last += 1;
    }
    vec![&text[..first], &text[last..]]
}

fn read_in(lexicon: &Lexicon, text: &str, tokens: &[Token], out: &mut Vec<Stipulation>) {
    let roles: Vec<u64> = tokens.iter().map(|token| lexicon.roles(&token.folded)).collect();
    let is = |i: usize, role: u64| roles.get(i).is_some_and(|has| has & role != 0);
    let code = (0..tokens.len()).any(|i| is(i, role::MAKES) && (i + 1..i + 7).any(|j| is(j, role::CODE)));
    let mut before = false;
    let mut start = 0;
    let mut opening = false;
    for end in 0..=tokens.len() {
        let token = tokens.get(end);
        if token.is_some_and(|token| token.kind != Kind::Break) {
            continue;
        }
        let question = opening || token.is_some_and(|token| token.is("?"));
        if end > start {
            let mut page = Page {
                text,
                tokens,
                lexicon,
                roles: &roles,
                start,
                end,
                mode: Mode::Fragment,
            };
            page.mode = page.find_mode(question, before);
            before |= page.mode == Mode::Directive;
            page.stipulations(code, out);
        }
        opening = token.is_some_and(|token| token.is("¿"));
        start = end + 1;
    }
}
