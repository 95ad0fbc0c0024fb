//! How long the checkers take for an answer of 4 kB: the median of each, and of all together.
//!
//! `cargo run --release -p sarai-reflection --example checker_bench -- [--json FILE]`; ends with 1 above 2 ms.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use sarai_reflection::checkers::{Checker, standard};
use sarai_reflection::{Finish, Language, Speaker, Subject, Turn};

/// What all checkers together may take.
const MOST: Duration = Duration::from_millis(2);
/// How often each is measured.
const TIMES: usize = 201;

/// Constraints that the answers break, so that repairs are made too.
const WISHES: &str = "Explain how a harbour works to a new sailor. Use at most 120 words and at least three bullet \
    points, no commas, in all lowercase letters, with a title. Include the words \"tide\" and \"anchor\", do not use \
    the word \"boat\", and end with \"Fair winds.\" The text below may help.\n\nText: In 1850 the harbour of Norwick \
    took 320 ships a year; by 1900 it took 1,240, said its master, \"and never a day without one\".";
const ORDINARY: &str = "What is a harbour, and why do ships need one?";

fn main() -> ExitCode {
    let mut cases: Vec<(&str, String, String)> = Vec::new();
    let prose = "The harbour, which opened in 1850, took 320 ships a year. On Monday, 3 March 1902, the boat of \
                 Mr. Ellis came in, and 12 + 30 = 42 men went ashore! Is a tide of 3.5 m high? It costs 15 % of 200, \
                 which is 30. ";
    let list =
        "- **Pilots**: they bring a ship in, for a price of 40 a day.\n- Tugs, of which there are 7.\n\n";
    cases.push(("wishes, prose", WISHES.to_owned(), fill(prose)));
    cases.push(("wishes, list", WISHES.to_owned(), fill(list)));
    cases.push(("no wishes, prose", ORDINARY.to_owned(), fill(prose)));

    let checkers = standard();
    let mut worst = Duration::ZERO;
    let mut report = Vec::new();
    for (name, asked, answer) in &cases {
        let request = [Turn::new(Speaker::User, asked.as_str())];
        let subject = Subject {
            request: &request,
            text: answer,
            finish: Finish::Stop,
            language: Language::of_request(&request),
        };
        println!("{name}: request {} B, answer {} B", asked.len(), answer.len());
        let mut medians = serde_json::Map::new();
        for checker in &checkers {
            let median = median(|| run(std::slice::from_ref(checker), &subject));
            println!("  {:<16} {:>9.1} µs", checker.name(), micros(median));
            medians.insert(checker.name().to_owned(), micros(median).into());
        }
        let total = median(|| run(&checkers, &subject));
        println!("  {:<16} {:>9.1} µs", "all", micros(total));
        worst = worst.max(total);
        report.push(serde_json::json!({ "case": name, "checkers_us": medians, "all_us": micros(total) }));
    }
    let held = worst <= MOST;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [option, file] = arguments.as_slice()
        && option == "--json"
    {
        let document = serde_json::json!({ "most_us": micros(MOST), "held": held, "cases": report });
        if let Err(e) = std::fs::write(file, format!("{document:#}\n")) {
            eprintln!("failed to write {file}: {e}");
            return ExitCode::FAILURE;
        }
    }
    if held {
        ExitCode::SUCCESS
    } else {
        eprintln!(
            "all checkers take {:.1} µs; {:.0} µs are allowed",
            micros(worst),
            micros(MOST)
        );
        ExitCode::FAILURE
    }
}

/// 4 kB of a text.
fn fill(text: &str) -> String {
    let mut out = text.repeat(4096 / text.len() + 1);
    out.truncate(out.floor_char_boundary(4096));
    out
}

fn run(checkers: &[Box<dyn Checker>], subject: &Subject<'_>) {
    for checker in checkers {
        black_box(checker.check(black_box(subject)));
    }
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let started = Instant::now();
            work();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[TIMES / 2]
}

fn micros(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e7).round() / 10.0
}
