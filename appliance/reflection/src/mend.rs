//! Mending by hand: what checkers can correct themselves, without a model.

use crate::checkers::{Checker, Finding, Repair, Subject};
use crate::confidence::sound;
use crate::generate::Finish;
use crate::judge::{findings, nothing_new};

/// Most corrections one after the other; each must leave less wrong than it found.
const ROUNDS: usize = 8;
/// A correction that leaves this little less wrong is none.
const LEAST_GAIN: f64 = 1e-6;

/// A mended answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Mended {
    /// Its text.
    pub text: String,
    /// What is still wrong with it.
    pub findings: Vec<Finding>,
}

/// Applies the rewrites that `found` offers, one after the other, as long as each leaves less wrong and nothing new.
/// `None` when none does.
pub fn mend(checkers: &[Box<dyn Checker>], subject: &Subject<'_>, found: &[Finding]) -> Option<Mended> {
    let mut best: Option<Mended> = None;
    for _ in 0..ROUNDS {
        let before = best.as_ref().map_or(found, |mended| &mended.findings);
        let Some(next) = before
            .iter()
            .find_map(|finding| rewrite(checkers, subject, finding, before))
        else {
            break;
        };
        best = Some(next);
    }
    best
}

fn rewrite(
    checkers: &[Box<dyn Checker>],
    subject: &Subject<'_>,
    finding: &Finding,
    before: &[Finding],
) -> Option<Mended> {
    let Some(Repair::Rewrite(text)) = &finding.repair else {
        return None;
    };
    let after = findings(
        checkers,
        &Subject {
            text,
            // What was rewritten ends where its writer wanted.
            finish: Finish::Stop,
            ..*subject
        },
    );
    (sound(&after) > sound(before) + LEAST_GAIN && nothing_new(&after, before)).then(|| Mended {
        text: text.clone(),
        findings: after,
    })
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
    fn nothing_wrong_is_nothing_to_mend() {
        assert_eq!(mended(&[Box::new(Without("a", ',', ""))], "One"), None);
    }
}
