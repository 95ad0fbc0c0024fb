//! Refusals of requests that harm nobody.

use crate::checkers::text::{READ, any_of, fold, folded_words, head, phrase};
use crate::checkers::{Checker, Finding, Place, Subject};

/// The answer refuses what there is no reason to refuse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Refusal;

/// How much of an answer's beginning is read, bytes.
const BEGINNING: usize = 240;
/// How refusals begin, folded.
const REFUSALS: &[&str] = &[
    "i'm sorry, but i can't",
    "i'm sorry, but i cannot",
    "i am sorry, but i can't",
    "i am sorry, but i cannot",
    "i'm sorry, i can't",
    "i'm sorry, i cannot",
    "sorry, but i can't",
    "i'm sorry, but i'm not able to",
    "i'm sorry, but as an ai",
    "i cannot assist",
    "i can't assist",
    "i cannot help with",
    "i can't help with",
    "i am unable to assist",
    "i'm unable to assist",
    "i am not able to fulfill",
    "i cannot fulfill",
    "i can't fulfill",
    "i cannot provide",
    "i can't provide",
    "as an ai language model",
    "as a language model",
    "as an ai, i",
    "as an ai assistant, i can't",
    "as an ai assistant, i don't",
    "lo siento, pero no puedo",
    "lo siento, no puedo",
    "no puedo ayudarte con",
    "no puedo ayudar con",
    "no puedo proporcionar",
    "no puedo cumplir",
    "como modelo de lenguaje",
    "como un modelo de lenguaje",
    "como inteligencia artificial, no",
    "como ia, no",
];
/// Words of requests that may well be refused, or that ask for what a model cannot know.
#[rustfmt::skip]
const REASONS: &[&str] = &[
    "kill", "murder", "bomb", "bombs", "explosive", "explosives", "weapon", "weapons", "gun", "guns", "hack", "hacking", "malware", "virus",
    "ransomware", "phishing", "steal", "suicide", "suicidal", "drug", "drugs", "meth", "cocaine", "heroin", "poison", "porn", "sex", "sexual",
    "nude", "racist", "hate", "nazi", "attack", "illegal", "crime", "fraud", "counterfeit", "password", "passwords", "exploit", "torture",
    "terrorist", "terrorism", "abuse", "self", "harm", "medical", "diagnose", "diagnosis", "dose", "dosage", "lawsuit", "legal",
    "matar", "asesinar", "bomba", "bombas", "explosivo", "explosivos", "arma", "armas", "hackear", "robar", "suicidio", "suicidarme", "droga",
    "drogas", "veneno", "porno", "sexo", "sexual", "racista", "odio", "atacar", "ataque", "ilegal", "delito", "fraude", "contrasena",
    "contrasenas", "tortura", "terrorista", "medico", "diagnostico", "dosis",
    "feel", "feelings", "opinion", "opinions", "yourself", "sientes", "opinas", "opinion", "siente", "ai", "ia", "chatbot",
    "today", "now", "current", "currently", "latest", "tomorrow", "yesterday", "tonight", "news", "weather", "price", "stock",
    "hoy", "ahora", "actual", "actualmente", "ultimas", "manana", "ayer", "noticias", "tiempo", "clima", "precio", "bolsa",
    "image", "picture", "photo", "video", "audio", "imagen", "foto", "browse", "internet", "url", "link", "website", "enlace", "file", "archivo",
    "email", "call", "send", "envia", "llama", "remember", "recuerdas", "refuse", "refusal", "sorry", "apology", "apologise", "apologize",
    "disculpa", "rechaza", "predict", "predice", "lottery", "loteria",
];
/// Words of requests for a text that may well sound like a refusal.
const WORDINGS: &[&str] = &[
    "say", "dice", "di", "note", "notes", "nota", "notas", "letter", "letters", "carta", "cartas", "emails",
];
/// Beginnings of such words.
const WORDING_STEMS: &[&str] = &["translat", "traduc", "declin", "rechaz", "apolog", "disculp"];
/// Questions about the one who answers.
const PERSONAL: &[&str] = &[
    "do you",
    "are you",
    "can you remember",
    "your name",
    "have you",
    "my name",
    "my age",
    "mi nombre",
    "tu nombre",
    "eres tu",
    "quien eres",
];

impl Checker for Refusal {
    fn name(&self) -> &'static str {
        "refusal"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let beginning = fold(head(subject.text.trim_start(), BEGINNING));
        let refuses = REFUSALS.iter().any(|refusal| beginning.starts_with(refusal));
        if !refuses || has_reason(subject) {
            return Vec::new();
        }
        let sentence = subject.say(
            "The answer refuses a harmless request; it must answer it.",
            "La respuesta rechaza una petición inofensiva; debe responderla.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Start,
            sentence,
            weight: 0.5,
            repair: None,
        }]
    }
}

/// Whether any turn gives a reason to refuse, or to write what sounds like it.
fn has_reason(subject: &Subject<'_>) -> bool {
    subject.request.iter().any(|turn| {
        let words = folded_words(head(&turn.text, READ), 4096);
        let stems = |word: &String| WORDING_STEMS.iter().any(|stem| word.starts_with(stem));
        any_of(&words, REASONS)
            || any_of(&words, WORDINGS)
            || words.iter().any(stems)
            || PERSONAL.iter().any(|personal| phrase(&words, personal))
    })
}
