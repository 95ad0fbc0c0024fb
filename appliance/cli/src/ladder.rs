//! The memory ladder for a person: where it stands, and how it came there.

use sarai_wire::control::{LadderStatus, MoveStatus};
use sarai_wire::memory::Rung;

use crate::text::{Paint, clean, duration, size};

/// Moves of the ladder that are shown; `--json` has all that are remembered.
const MOVES: usize = 5;

/// Where the ladder stands, and how it came there: a line each.
pub fn render(ladder: &LadderStatus, paint: Paint) -> Vec<String> {
    let since = duration(ladder.since_s);
    let name = ladder.rung.name();
    let stands = if ladder.rung == Rung::Normal {
        format!("{}, for {since}", paint.good(name))
    } else {
        let reason = clean(&ladder.reason, false);
        format!("{}, for {since}: {reason}", paint.bad(name))
    };
    let mut lines = vec![stands];
    if let (Some(needed), Some(high), Some(budget)) = (ladder.needed, ladder.high, ladder.budget) {
        lines.push(format!(
            "{} needed, line at {}, budget {}",
            size(needed),
            size(high),
            size(budget)
        ));
    }
    if !ladder.sensed.is_empty() {
        lines.push(format!("looks {}", clean(&ladder.sensed, false)));
    }
    let spent: Vec<String> = ladder
        .rungs
        .iter()
        .filter(|rung| rung.reached > 0 && rung.rung != Rung::Normal)
        .map(|rung| {
            format!(
                "{} {}x, {}",
                rung.rung.name(),
                rung.reached,
                duration(rung.spent_s)
            )
        })
        .collect();
    if !spent.is_empty() {
        lines.push(format!("so far {}", spent.join("; ")));
    }
    let shown = ladder.moves.len().saturating_sub(MOVES);
    lines.extend(ladder.moves[shown..].iter().map(render_move));
    lines
}

fn render_move(made: &MoveStatus) -> String {
    let doing = if made.to > made.from { "freed" } else { "took" };
    let measured = made.measured.map_or("an unknown amount".to_owned(), size);
    let trouble: String = made
        .trouble
        .iter()
        .map(|why| format!("; {}", clean(why, false)))
        .collect();
    format!(
        "{} {} -> {}: {}; {doing} {measured} ({} expected) in {} ms{trouble}",
        clean(&made.time, false),
        made.from.name(),
        made.to.name(),
        clean(&made.reason, false),
        size(made.predicted),
        made.took_ms
    )
}
