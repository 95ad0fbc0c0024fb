//! What is extracted from the labelled requests, and what is not.
//!
//! The set is of our own making, written before the rules were run on it: half of the requests state constraints,
//! half state none, many of those on purpose close to one.

#![allow(clippy::expect_used, reason = "a set that cannot be read is a failed test")]

use sarai_reflection::checkers::constraints_of;
use sarai_reflection::{Speaker, Turn};

#[derive(serde::Deserialize)]
struct Labelled {
    request: String,
    expect: Vec<String>,
}

fn labelled() -> Vec<Labelled> {
    include_str!("labelled/requests.jsonl")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a labelled request"))
        .collect()
}

#[test]
fn stated_constraints_are_found_and_none_is_invented() {
    let set = labelled();
    let with = set.iter().filter(|item| !item.expect.is_empty()).count();
    assert!(with >= 200 && set.len() - with >= 200, "{with} of {}", set.len());

    let (mut right, mut wrong, mut missed, mut troubled) = (0_u32, 0_u32, 0_u32, 0_u32);
    for item in &set {
        let request = [Turn::new(Speaker::User, item.request.as_str())];
        let found: Vec<String> = constraints_of(&request).iter().map(ToString::to_string).collect();
        let invented: Vec<&String> = found.iter().filter(|one| !item.expect.contains(one)).collect();
        let lost: Vec<&String> = item.expect.iter().filter(|one| !found.contains(one)).collect();
        right += u32::try_from(found.len() - invented.len()).unwrap();
        wrong += u32::try_from(invented.len()).unwrap();
        missed += u32::try_from(lost.len()).unwrap();
        troubled += u32::from(item.expect.is_empty() && !found.is_empty());
        if !invented.is_empty() || !lost.is_empty() {
            println!("{:?}\n    invented {invented:?}, missed {lost:?}", item.request);
        }
    }
    let precision = f64::from(right) / f64::from(right + wrong);
    let recall = f64::from(right) / f64::from(right + missed);
    println!(
        "precision {precision:.3}, recall {recall:.3}: {right} right, {wrong} invented, {missed} missed; \
         {troubled} of {} requests without constraints got one",
        set.len() - with
    );
    assert!(precision >= 0.95, "precision {precision:.3}");
    assert!(recall >= 0.8, "recall {recall:.3}");
}
