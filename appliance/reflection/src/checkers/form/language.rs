//! Answers in English to requests in Spanish, and the reverse.

use crate::checkers::text::{Word, fences, fold, head, words};
use crate::checkers::{Checker, Finding, Place, Repair, Subject};
use crate::critique::Language;
use crate::generate::Constraint;

/// The answer is in the other language.
#[derive(Debug, Clone, Copy, Default)]
pub struct WrongLanguage;

/// How much of a text is read, bytes.
const SAMPLE: usize = 8 * 1024;
/// Fewest words of an answer whose language is judged.
const WORDS: usize = 8;

/// Words that stand for grammar in one language and for nothing in the other, folded.
#[rustfmt::skip]
const ENGLISH: &[&str] = &[
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "with", "as", "are", "was", "were", "be", "been", "by", "from", "at", "which",
    "this", "these", "those", "you", "your", "they", "their", "its", "his", "her", "we", "our", "on", "or", "an", "not", "but", "can", "will",
    "would", "should", "what", "who", "how", "why", "when", "where", "have", "has", "had", "do", "does", "if", "than", "then", "there",
    "about", "into", "because", "also", "my", "write", "give", "name", "list", "explain", "tell", "answer", "sentence", "word", "words",
    "many", "much", "some", "any", "please", "i",
];
#[rustfmt::skip]
const SPANISH: &[&str] = &[
    "el", "la", "los", "las", "de", "del", "que", "y", "en", "un", "una", "es", "por", "para", "con", "se", "su", "sus", "al", "lo", "mas",
    "pero", "como", "cual", "cuales", "quien", "cuando", "donde", "cuanto", "cuantos", "cuantas", "este", "esta", "estos", "estas", "ese",
    "esa", "son", "fue", "era", "ser", "estar", "muy", "tambien", "porque", "sobre", "entre", "hasta", "desde", "sin", "ha", "han", "hay",
    "le", "les", "nos", "mi", "tu", "tus", "mis", "o", "u", "escribe", "dime", "explica", "describe", "responde", "palabra", "palabras", "frase", "di",
    "haz", "cuenta", "nombra", "resume", "uno", "dos", "tres",
];
/// Words by which a request speaks of languages.
#[rustfmt::skip]
const NAMED: &[&str] = &[
    "english", "spanish", "french", "german", "italian", "portuguese", "latin", "japanese", "chinese", "language", "languages", "translate",
    "translation", "ingles", "espanol", "castellano", "frances", "aleman", "italiano", "portugues", "japones", "chino", "idioma", "idiomas",
    "lengua", "traduce", "traducir", "traduccion", "traduzca", "bilingual", "bilingue", "lyrics", "code", "codigo",
];

impl Checker for WrongLanguage {
    fn name(&self) -> &'static str {
        "wrong_language"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let Some(wanted) = wanted(subject) else {
            return Vec::new();
        };
        let (english, spanish, all) = count(&without_code(head(subject.text, SAMPLE)));
        let (own, other) = match wanted {
            Language::English => (english, spanish),
            Language::Spanish => (spanish, english),
        };
        if all < WORDS || other < 3 || other * 6 < all || own * 6 > other {
            return Vec::new();
        }
        let sentence = subject.say(
            "The answer must be in English, like the request.",
            "La respuesta debe estar en español, como la petición.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Whole,
            sentence,
            weight: 0.6,
            repair: Some(Repair::Constrain(Constraint::Regex(beginning(wanted).to_owned()))),
        }]
    }
}

/// An answer that begins with a word of the language's own goes on in it.
const fn beginning(language: Language) -> &'static str {
    match language {
        Language::English => {
            "(The|A|An|In|It|This|These|There|To|For|When|If|You|We|They|Yes|One|Some|Many|On|As|My|Your|Here|First|With) [\\s\\S]+"
        }
        Language::Spanish => {
            "(El|La|Los|Las|Un|Una|En|Es|Se|Para|Por|Cuando|Si|Sí|No|Hay|Esto|Este|Esta|Estos|Estas|Son|Con|Como|Mi|Tu|Su|De|Al|Primero|Lo) [\\s\\S]+"
        }
    }
}

/// The language that the request is clearly in, when it speaks of no other.
fn wanted(subject: &Subject<'_>) -> Option<Language> {
    let speaks = subject.request.iter().any(|turn| {
        words(head(&turn.text, SAMPLE))
            .any(|word| word.text.len() <= 16 && NAMED.contains(&fold(word.text).as_str()))
    });
    if speaks {
        return None;
    }
    let asked = head(subject.asked(), SAMPLE);
    let (english, spanish, all) = count(&without_code(asked));
    let marked = asked.contains(['¿', '¡', 'ñ', 'Ñ']);
    let spanish_marks = spanish + if marked { 2 } else { 0 };
    // A word or two of the other language is a name or a quotation; more is a request in both.
    if all >= 3 && spanish_marks >= 2 && english * 5 <= spanish_marks {
        Some(Language::Spanish)
    } else if all >= 3 && english >= 2 && spanish * 5 <= english && !marked {
        Some(Language::English)
    } else {
        None
    }
}

/// How many words are English, Spanish and there at all.
fn count(text: &str) -> (usize, usize, usize) {
    let is =
        |word: &Word<'_>, list: &[&str]| word.text.len() <= 12 && list.contains(&fold(word.text).as_str());
    let mut counts = (0, 0, 0);
    for word in words(text).filter(|word| word.text.contains(char::is_alphabetic)) {
        counts.0 += usize::from(is(&word, ENGLISH));
        counts.1 += usize::from(is(&word, SPANISH));
        counts.2 += 1;
    }
    counts
}

/// `text` without its fenced code.
fn without_code(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for fence in fences(text) {
        kept.push_str(&text[from..fence.start]);
        from = fence.end;
    }
    kept.push_str(&text[from..]);
    kept
}
