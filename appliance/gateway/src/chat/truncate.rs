//! Leaving out the oldest turns of a conversation that does not fit, where the client said that this may be.
//!
//! Whole rounds go, the oldest first: a question and what was answered to it. System messages stay, and so do the last
//! question and what follows it. How long what is left is, the engine says that will read it.

use std::future::Future;
use std::ops::Range;

use sarai_reflection::{Speaker, Turn};
use sarai_wire::engine::Counted;
use serde::Serialize;

/// The `truncated` member of a response's `omni_loop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Truncated {
    /// Turns that were left out.
    pub turns_dropped: usize,
    /// Tokens of what was left.
    pub prompt_tokens: u32,
    /// Tokens that the context holds.
    pub context: u32,
}

/// What came of a conversation.
#[derive(Debug, PartialEq, Eq)]
pub enum Fit {
    /// It fits as it is.
    Whole,
    /// It fits without its oldest turns.
    Cut(Vec<Turn>, Truncated),
    /// What must stay is too long.
    TooLong(Counted),
}

/// Cuts `turns` until they fit, with room for an answer of at most `max_tokens`.
///
/// # Errors
/// Those of `count`.
pub async fn fit<E, F>(
    turns: &[Turn],
    max_tokens: Option<u32>,
    count: impl Fn(Vec<Turn>) -> F,
) -> Result<Fit, E>
where
    F: Future<Output = Result<Counted, E>>,
{
    let fits = |counted: &Counted| {
        counted.tokens.saturating_add(room(max_tokens, counted.context)) <= counted.context
    };
    let counted = count(turns.to_vec()).await?;
    // Without a need, room for the answer is the client's own matter.
    if counted.tokens < counted.context {
        return Ok(Fit::Whole);
    }
    let rounds = rounds(turns);
    let cut = |gone: usize, counted: Counted| {
        let left = without(turns, &rounds[..gone]);
        let told = Truncated {
            turns_dropped: turns.len() - left.len(),
            prompt_tokens: counted.tokens,
            context: counted.context,
        };
        Fit::Cut(left, told)
    };
    let mut high = rounds.len();
    if high == 0 {
        return Ok(Fit::TooLong(counted));
    }
    let mut best = count(without(turns, &rounds)).await?;
    if best.tokens >= best.context {
        return Ok(Fit::TooLong(best));
    }
    if fits(&best) {
        // The fewest that are enough: `low` are too few, `high` are enough.
        let mut low = 0;
        while high - low > 1 {
            let middle = low.midpoint(high);
            let counted = count(without(turns, &rounds[..middle])).await?;
            if fits(&counted) {
                (high, best) = (middle, counted);
            } else {
                low = middle;
            }
        }
    }
    Ok(cut(high, best))
}

/// Tokens left for the answer: a quarter of the context, or fewer where fewer are wanted.
fn room(max_tokens: Option<u32>, context: u32) -> u32 {
    (context / 4).min(max_tokens.unwrap_or(u32::MAX)).max(1)
}

/// The rounds before the last question, oldest first, as ranges of turns; system messages within them stay.
fn rounds(turns: &[Turn]) -> Vec<Range<usize>> {
    let end = turns
        .iter()
        .rposition(|turn| turn.speaker == Speaker::User)
        .unwrap_or(0);
    let mut rounds: Vec<Range<usize>> = Vec::new();
    for (at, turn) in turns[..end].iter().enumerate() {
        match (turn.speaker, rounds.last_mut()) {
            (Speaker::System, _) => {}
            (Speaker::Assistant, Some(round)) => round.end = at + 1,
            (Speaker::User | Speaker::Assistant, _) => rounds.push(at..at + 1),
        }
    }
    rounds
}

fn without(turns: &[Turn], rounds: &[Range<usize>]) -> Vec<Turn> {
    let stays = |(at, turn): &(usize, &Turn)| {
        turn.speaker == Speaker::System || !rounds.iter().any(|round| round.contains(at))
    };
    turns
        .iter()
        .enumerate()
        .filter(stays)
        .map(|(_, turn)| turn.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    /// One letter a speaker, its case aside; the text is its place.
    fn turns(speakers: &str) -> Vec<Turn> {
        let speaker = |letter| match letter {
            's' => Speaker::System,
            'u' => Speaker::User,
            _ => Speaker::Assistant,
        };
        speakers
            .chars()
            .enumerate()
            .map(|(at, letter)| Turn::new(speaker(letter), at.to_string()))
            .collect()
    }

    /// Fits at ten tokens a turn; also how often it was counted.
    fn cut(turns: &[Turn], max_tokens: Option<u32>, context: u32) -> (Fit, usize) {
        let asked = Cell::new(0);
        let count = |left: Vec<Turn>| {
            asked.set(asked.get() + 1);
            let tokens = u32::try_from(left.len()).unwrap() * 10;
            std::future::ready(Ok::<_, Infallible>(Counted { tokens, context }))
        };
        let future = fit(turns, max_tokens, count);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        (runtime.block_on(future).unwrap(), asked.get())
    }

    fn left(fit: &Fit) -> Vec<String> {
        match fit {
            Fit::Cut(turns, _) => turns.iter().map(|turn| turn.text.clone()).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_fits_stays_whole_and_is_counted_once() {
        assert_eq!(cut(&turns("suau"), None, 41), (Fit::Whole, 1));
        assert_eq!(cut(&turns("suau"), Some(1000), 41), (Fit::Whole, 1));
    }

    #[test]
    fn the_oldest_rounds_go_whole_and_only_as_many_as_must() {
        // 90 tokens; a quarter of 80 is for the answer, so 60 may stay.
        let (fit, _) = cut(&turns("suauauaua"), None, 80);
        assert_eq!(left(&fit), ["0", "5", "6", "7", "8"]);
        let Fit::Cut(_, told) = fit else { panic!("whole") };
        assert_eq!(
            (told.turns_dropped, told.prompt_tokens, told.context),
            (4, 50, 80)
        );
        // A short answer needs less room.
        assert_eq!(left(&cut(&turns("suauauaua"), Some(5), 80).0).len(), 7);
    }

    #[test]
    fn system_messages_and_the_last_question_always_stay() {
        assert_eq!(left(&cut(&turns("suasuasu"), None, 50).0), ["0", "3", "6", "7"]);
        assert_eq!(left(&cut(&turns("auaauu"), None, 15).0), ["5"]);
        // With room for one token, if there is no more.
        assert_eq!(left(&cut(&turns("uau"), None, 11).0), ["2"]);
        let (fit, _) = cut(&turns("suasu"), None, 30);
        assert_eq!(
            fit,
            Fit::TooLong(Counted {
                tokens: 30,
                context: 30
            })
        );
        assert!(matches!(cut(&turns("u"), None, 10).0, Fit::TooLong(_)));
        assert!(matches!(cut(&turns("aa"), None, 10).0, Fit::TooLong(_)));
    }

    #[test]
    fn a_long_conversation_is_counted_few_times() {
        let (fit, asked) = cut(&turns(&"ua".repeat(1000)), None, 400);
        assert_eq!(left(&fit).len(), 30);
        assert!(asked <= 13, "{asked}");
    }

    proptest! {
        #[test]
        fn what_is_left_is_an_end_of_the_conversation_and_fits(
            speakers in "[sua]{1,40}", context in 1_u32..400, most in proptest::option::of(1_u32..100),
        ) {
            let all = turns(&speakers);
            match cut(&all, most, context).0 {
                Fit::Whole => prop_assert!(all.len() * 10 < context as usize),
                Fit::TooLong(counted) => prop_assert!(counted.tokens >= context),
                Fit::Cut(left, told) => {
                    prop_assert!(told.prompt_tokens < context && told.turns_dropped > 0);
                    prop_assert_eq!(left.len() + told.turns_dropped, all.len());
                    let talk = |turns: &[Turn]| -> Vec<Turn> {
                        turns.iter().filter(|turn| turn.speaker != Speaker::System).cloned().collect()
                    };
                    prop_assert!(talk(&all).ends_with(&talk(&left)));
                    let systems = |turns: &[Turn]| turns.iter().filter(|turn| turn.speaker == Speaker::System).count();
                    prop_assert_eq!(systems(&left), systems(&all));
                    let last = all.iter().rfind(|turn| turn.speaker == Speaker::User).unwrap();
                    prop_assert!(left.contains(last));
                }
            }
        }
    }
}
