//! Tokens of a chat template in an answer, and dialogues that a model goes on with by itself.

use crate::checkers::text::{READ, any_of, fences, folded_words, head};
use crate::checkers::{Checker, Finding, Place, Repair, Subject};

/// The template shows through.
#[derive(Debug, Clone, Copy, Default)]
pub struct Leaked;

/// Marks that no answer has of its own.
const MARKS: &[&str] = &[
    "<|im_end|>",
    "<|im_start|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|end|>",
    "<|assistant|>",
    "<|user|>",
    "<|system|>",
    "<|startoftext|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "</s>",
    "<s>",
    "### Assistant:",
    "### Human:",
    "### User:",
    "### Instruction:",
    "### Response:",
];
/// Beginnings of lines with which a model asks itself the next question.
const ASKING: &[&str] = &["User:", "Human:", "Usuario:", "<user>"];
/// Beginnings of lines with which it answers it.
const ANSWERING: &[&str] = &["Assistant:", "Asistente:", "<assistant>"];
/// Words of requests whose answers may speak of templates or be dialogues.
#[rustfmt::skip]
const WANTED: &[&str] = &[
    "token", "tokens", "template", "templates", "plantilla", "chatml", "prompt", "prompts", "dialogue", "dialog", "dialogo", "conversation",
    "conversacion", "script", "guion", "interview", "entrevista", "chat", "transcript", "transcripcion", "html", "xml", "role", "rol",
    "roleplay", "assistant", "asistente", "user", "usuario", "scene", "escena", "play", "story", "stories", "strikethrough", "tag", "tags",
    "etiqueta", "etiquetas",
];
/// What stands after a mark and belongs to it.
const ROLES: &[&str] = &["assistant", "user", "system"];

impl Checker for Leaked {
    fn name(&self) -> &'static str {
        "leaked_tokens"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let text = head(subject.text, READ);
        let Some((start, end)) = first_leak(subject, text) else {
            return Vec::new();
        };
        let sentence = subject.say(
            "The answer contains marks of the chat template; only the answer itself must be written.",
            "La respuesta contiene marcas de la plantilla de chat; solo debe escribirse la respuesta misma.",
        );
        vec![Finding {
            checker: self.name(),
            place: Place::Span { start, end },
            sentence,
            weight: 0.6,
            repair: without(text, start).map(Repair::Rewrite),
        }]
    }
}

/// Where the first mark is.
fn first_leak(subject: &Subject<'_>, text: &str) -> Option<(usize, usize)> {
    let mut asked = None;
    let mut wanted = || {
        *asked.get_or_insert_with(|| {
            subject
                .request
                .iter()
                .any(|turn| any_of(&folded_words(head(&turn.text, READ), 4096), WANTED))
        })
    };
    let (at, mark) = next_mark(text, 0)?;
    // What the request shows, the answer may show.
    if subject.request.iter().any(|turn| turn.text.contains(mark)) || wanted() {
        return None;
    }
    Some((at, at + mark.len()))
}

/// The first mark or turn at or after `from`, outside of code.
fn next_mark(text: &str, from: usize) -> Option<(usize, &'static str)> {
    let code = fences(text);
    let outside = |at: usize| {
        !code
            .iter()
            .any(|fence| fence.closed && fence.start < at && at < fence.end)
    };
    let marks = text[from..]
        .match_indices(['<', '[', '#'])
        .map(|(at, _)| from + at)
        .filter_map(|at| {
            let rest = &text[at..];
            let mark = MARKS.iter().find(|mark| rest.starts_with(**mark))?;
            // <s> is also struck-out text.
            let struck = match *mark {
                "<s>" => at > 0 && rest.contains("</s>"),
                "</s>" => text[..at].rfind("<s>").is_some_and(|open| open > 0),
                _ => false,
            };
            (!struck).then_some((at, *mark))
        });
    let mark = marks.into_iter().find(|(at, _)| outside(*at));
    let mut both = {
        let begins = |turns: &[&str]| {
            text.lines()
                .any(|line| turns.iter().any(|turn| line.starts_with(turn)))
        };
        let mut known = None;
        move || *known.get_or_insert_with(|| begins(ASKING) && begins(ANSWERING))
    };
    let turns = text[from..]
        .match_indices('\n')
        .map(|(at, _)| from + at + 1)
        .filter_map(|at| {
            let rest = &text[at..];
            let turn = ASKING
                .iter()
                .chain(ANSWERING)
                .find(|turn| rest.starts_with(**turn))?;
            // A name alone on its line is that of a part or an entity.
            let line = rest[turn.len()..].lines().next().unwrap_or_default();
            let speaks = turn.starts_with('<') || line.contains(char::is_alphanumeric);
            let before = text[..at].trim();
            (speaks && !before.is_empty() && (is_complete(before) || both())).then_some((at, *turn))
        });
    let turn = turns.into_iter().find(|(at, _)| outside(*at));
    match (mark, turn) {
        (Some(mark), Some(turn)) => Some(if mark.0 < turn.0 { mark } else { turn }),
        (mark, turn) => mark.or(turn),
    }
}

/// Whether `text` ends as a whole answer does.
fn is_complete(text: &str) -> bool {
    text.trim_end_matches(['"', '\'', '”', '’', '»', ')', ']', '*', '_'])
        .ends_with(['.', '!', '?', '…'])
        || text.ends_with("```")
}

/// What is left of `text` without the mark at `start` and what follows; where it begins with marks, what stands
/// between them and the next.
fn without(text: &str, start: usize) -> Option<String> {
    let before = text[..start].trim_end();
    if before.contains(|c: char| c.is_alphanumeric()) {
        return Some(before.to_owned());
    }
    let mut rest = text[start..].trim_start();
    // A template begins with a handful of marks at most.
    for _ in 0..6 {
        let mark = MARKS.iter().find(|mark| rest.starts_with(**mark))?;
        rest = rest[mark.len()..].trim_start();
        for role in ROLES {
            if let Some(after) = rest.strip_prefix(role)
                && after.starts_with(['\n', ':'])
            {
                rest = after.trim_start_matches(':').trim_start();
            }
        }
        if !MARKS.iter().any(|mark| rest.starts_with(mark)) {
            break;
        }
    }
    let end = next_mark(rest, 0).map_or(rest.len(), |(at, _)| at);
    let kept = rest[..end].trim();
    kept.contains(|c: char| c.is_alphanumeric())
        .then(|| kept.to_owned())
}
