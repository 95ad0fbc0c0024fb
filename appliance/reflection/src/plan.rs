//! What the next reflection does about what was found.

use crate::checkers::{Finding, Repair};
use crate::generate::Constraint;

/// How an answer came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Written as the request asks.
    Draft,
    /// The draft, corrected by the checkers themselves.
    Edited,
    /// The sound beginning kept, the rest written anew.
    Resumed,
    /// Written anew under a constraint that the decoding enforced.
    Constrained,
    /// Written after a critique.
    Critiqued,
}

impl How {
    /// The word for it in responses and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Edited => "edited",
            Self::Resumed => "resumed",
            Self::Constrained => "constrained",
            Self::Critiqued => "critiqued",
        }
    }
}

/// A revision in which a repair is enforced while the model writes.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewriting {
    /// Bytes of the answer that stay.
    pub keep: usize,
    /// Text that follows them.
    pub insert: String,
    /// What the whole answer must match.
    pub constraint: Option<Constraint>,
}

impl Rewriting {
    /// What it is called.
    pub fn how(&self) -> How {
        if self.keep == 0 && self.insert.is_empty() {
            How::Constrained
        } else {
            How::Resumed
        }
    }
}

/// The repair that the model must carry out and that was not tried yet: of the heaviest finding, but where one says
/// that the whole is to be written anew, nothing of it is kept for another.
pub fn rewriting(text: &str, findings: &[Finding], tried: &[Rewriting]) -> Option<Rewriting> {
    let mut found: Vec<&Finding> = findings.iter().collect();
    found.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let mut repairs: Vec<Rewriting> = found
        .into_iter()
        .filter_map(|finding| match finding.repair.as_ref()? {
            Repair::Rewrite(_) => None,
            Repair::Resume {
                keep,
                insert,
                constraint,
            } => text.is_char_boundary(*keep).then(|| Rewriting {
                keep: *keep,
                insert: insert.clone(),
                constraint: constraint.clone(),
            }),
            Repair::Constrain(constraint) => Some(Rewriting {
                keep: 0,
                insert: String::new(),
                constraint: Some(constraint.clone()),
            }),
        })
        .filter(|rewriting| !tried.contains(rewriting))
        .collect();
    let anew = repairs.iter().position(|r| r.how() == How::Constrained);
    (!repairs.is_empty()).then(|| repairs.swap_remove(anew.unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Place;

    fn finding(weight: f64, repair: Option<Repair>) -> Finding {
        Finding {
            checker: "test",
            place: Place::Whole,
            sentence: String::new(),
            weight,
            repair,
        }
    }

    #[test]
    fn the_heaviest_untried_repair_comes_first() {
        let light = Repair::Resume {
            keep: 2,
            insert: " 42".into(),
            constraint: None,
        };
        let heavy = Repair::Constrain(Constraint::JsonObject);
        let findings = [
            finding(0.2, Some(light)),
            finding(0.9, Some(heavy)),
            finding(1.0, None),
            finding(0.95, Some(Repair::Rewrite("x".into()))),
        ];
        let first = rewriting("text", &findings, &[]).unwrap();
        assert_eq!(first.how(), How::Constrained);
        let second = rewriting("text", &findings, std::slice::from_ref(&first)).unwrap();
        assert_eq!((second.how(), second.keep), (How::Resumed, 2));
        assert_eq!(rewriting("text", &findings, &[first, second]), None);
    }

    #[test]
    fn what_is_to_be_written_anew_is_kept_for_nothing() {
        let go_on = Repair::Resume {
            keep: 4,
            insert: " 42".into(),
            constraint: None,
        };
        let anew = Repair::Constrain(Constraint::JsonObject);
        let findings = [finding(0.9, Some(go_on)), finding(0.6, Some(anew))];
        let first = rewriting("text", &findings, &[]).unwrap();
        assert_eq!(first.how(), How::Constrained);
        assert_eq!(
            rewriting("text", &findings, &[first]).unwrap().how(),
            How::Resumed
        );
    }

    #[test]
    fn a_place_within_a_character_is_not_kept_to() {
        let resume = Repair::Resume {
            keep: 1,
            insert: String::new(),
            constraint: None,
        };
        assert_eq!(rewriting("é", &[finding(0.5, Some(resume))], &[]), None);
    }
}
