//! Mending by hand: what checkers can correct themselves, without a model.

use crate::checkers::{Checker, Finding, Repair, Subject};
use crate::confidence::sound;
use crate::generate::Finish;
use crate::judge::{findings, nothing_new};

/// Most corrections one after the other; each must leave less wrong than it found.
const ROUNDS: usize = 8;
/// Most corrections tried in all.
const TRIALS: usize = 12;
/// How much of an answer's end tells whether it is still there, letters and digits.
const END: usize = 24;
/// A correction that leaves this little less wrong is none.
const LEAST_GAIN: f64 = 1e-6;

/// A mended answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Mended {
    /// Its text.
    pub text: String,
    /// What is still wrong with it.
    pub findings: Vec<Finding>,
    /// Whether it is whole: it is where its end was taken away or replaced, and otherwise as whole as it was.
    pub finish: Finish,
}

/// Applies the rewrites that `found` offers, one after the other, as long as each leaves less wrong and nothing new.
/// `None` when none does.
pub fn mend(checkers: &[Box<dyn Checker>], subject: &Subject<'_>, found: &[Finding]) -> Option<Mended> {
    let mut best: Option<Mended> = None;
    // Several findings may offer the same correction, and each trial runs every checker.
    let mut tried: Vec<String> = Vec::new();
    for _ in 0..ROUNDS {
        let before = best.as_ref().map_or(found, |mended| &mended.findings);
        let offers = before.iter().filter_map(|finding| match &finding.repair {
            Some(Repair::Rewrite(text)) => Some(text),
            _ => None,
        });
        let mut next = None;
        for text in offers {
            if tried.len() == TRIALS || tried.contains(text) {
                continue;
            }
            tried.push(text.clone());
            next = rewrite(checkers, subject, text, before);
            if next.is_some() {
                break;
            }
        }
        match next {
            Some(next) => best = Some(next),
            None => break,
        }
    }
    best
}

fn rewrite(
    checkers: &[Box<dyn Checker>],
    subject: &Subject<'_>,
    text: &str,
    before: &[Finding],
) -> Option<Mended> {
    let finish = if keeps_end(subject.text, text) {
        subject.finish
    } else {
        Finish::Stop
    };
    let after = findings(
        checkers,
        &Subject {
            text,
            finish,
            ..*subject
        },
    );
    (sound(&after) > sound(before) + LEAST_GAIN && nothing_new(&after, before)).then(|| Mended {
        text: text.to_owned(),
        findings: after,
        finish,
    })
}

/// Whether the end of `before`, where a limit may have cut it, still stands in `after`, whatever its case and marks.
fn keeps_end(before: &str, after: &str) -> bool {
    let letters = |c: &char| c.is_alphanumeric();
    let folded = |c: char| c.to_lowercase();
    let mut end: Vec<char> = before
        .chars()
        .rev()
        .filter(letters)
        .take(END)
        .flat_map(folded)
        .collect();
    end.reverse();
    let end: String = end.into_iter().collect();
    let after: String = after.chars().filter(letters).flat_map(folded).collect();
    after.contains(&end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Place;
    use crate::critique::Language;

    /// Wants none of one character, and takes it out.
    struct Without(&'static str, char, &'static str);

    impl Checker for Without {
        fn name(&self) -> &'static str {
            self.0
        }

        fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
            if !subject.text.contains(self.1) {
                return Vec::new();
            }
            vec![Finding {
                checker: self.0,
                place: Place::Whole,
                sentence: format!("There is a {}.", self.1),
                weight: 0.5,
                repair: Some(Repair::Rewrite(subject.text.replace(self.1, self.2))),
            }]
        }
    }

    fn mended(checkers: &[Box<dyn Checker>], text: &str) -> Option<String> {
        let subject = Subject {
            request: &[],
            text,
            finish: Finish::Stop,
            language: Language::English,
        };
        let found = findings(checkers, &subject);
        mend(checkers, &subject, &found).map(|mended| mended.text)
    }

    #[test]
    fn corrections_follow_one_another() {
        let both: Vec<Box<dyn Checker>> =
            vec![Box::new(Without("a", ',', "")), Box::new(Without("b", '!', "."))];
        assert_eq!(mended(&both, "One, two!"), Some("One two.".into()));
    }

    #[test]
    fn a_correction_that_breaks_something_else_is_not_made() {
        let fight: Vec<Box<dyn Checker>> =
            vec![Box::new(Without("a", ',', "!")), Box::new(Without("b", '!', ","))];
        assert_eq!(mended(&fight, "One, two"), None);
    }

    #[test]
    fn what_keeps_a_cut_end_is_still_cut() {
        for (before, after, kept) in [
            ("One. Two and thr", "One.", false),
            ("One. Two and thr", "ONE. TWO AND THR", true),
            ("```\nfn main() { pri", "```\nfn main() { pri\n```", true),
            ("It is 41 and", "It is 42.", false),
        ] {
            assert_eq!(keeps_end(before, after), kept, "{after}");
        }
    }

    #[test]
    fn nothing_wrong_is_nothing_to_mend() {
        assert_eq!(mended(&[Box::new(Without("a", ',', ""))], "One"), None);
    }
}
