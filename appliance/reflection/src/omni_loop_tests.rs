//! Scripted generators drive the loop; time is paused, so limits of minutes pass at once.

use std::sync::Mutex;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::checkers::{Finding, Place, Repair, Subject, standard};
use crate::events::Unwatched;
use crate::generate::{Begun, Finish, Finished, Out, Refused, Scored, Source, Work};

/// What a scripted generator does in one iteration.
#[derive(Debug, Clone)]
enum Act {
    /// Says these words, one piece each, with this log-probability, this long apart.
    Say {
        words: String,
        logprob: f32,
        apart_ms: u64,
        cut: bool,
    },
    /// Says these words on one engine, fails, and says the second words on another.
    Switch { first: String, second: String },
    /// Says these words and then nothing, for ever.
    Hang { words: String },
    /// Fails at once.
    Fail(FailureKind),
}

fn say(words: &str, probability: f32) -> Act {
    Act::Say {
        words: words.into(),
        logprob: probability.ln(),
        apart_ms: 1,
        cut: false,
    }
}

struct Script {
    acts: Vec<Act>,
    asked: Mutex<Vec<Vec<Turn>>>,
    /// Prefix, constraint and guess of each task.
    tasks: Mutex<Vec<(String, Option<Constraint>, String)>>,
}

impl Script {
    fn new(acts: impl Into<Vec<Act>>) -> Self {
        Self {
            acts: acts.into(),
            asked: Mutex::new(Vec::new()),
            tasks: Mutex::new(Vec::new()),
        }
    }

    fn asked(&self) -> Vec<Vec<Turn>> {
        self.asked.lock().unwrap().clone()
    }
}

async fn speak<O: Out>(out: &mut O, words: &str, logprob: f32, apart_ms: u64) -> Result<u32, Failure> {
    let mut count = 0;
    for word in words.split_inclusive(' ') {
        tokio::time::sleep(Duration::from_millis(apart_ms)).await;
        let piece = Piece {
            text: word.into(),
            bytes: word.into(),
            logprob,
            top: Vec::new(),
        };
        out.piece(piece).await?;
        count += 1;
    }
    Ok(count)
}

/// Digest of every model here.
const SOURCE_DIGEST: &str = "b0a7";

fn begun(model: &str, fallback: Option<&str>) -> Begun {
    let source = Source {
        model: model.into(),
        digest: SOURCE_DIGEST.into(),
        fallback: fallback.map(Into::into),
        ..Source::default()
    };
    Begun {
        source,
        prompt_tokens: 7,
        cached_tokens: 0,
    }
}

impl Generate for Script {
    async fn generate<O: Out>(&self, task: Task<'_>, out: &mut O) -> Result<Finished, Failure> {
        self.asked.lock().unwrap().push(task.conversation.to_vec());
        self.tasks.lock().unwrap().push((
            task.prefix.to_owned(),
            task.constraint.cloned(),
            task.guess.to_owned(),
        ));
        let act = &self.acts[usize::from(task.iteration - 1)];
        let mut finish = Finish::Stop;
        let completion_tokens = match act {
            Act::Say {
                words,
                logprob,
                apart_ms,
                cut,
            } => {
                if *cut {
                    finish = Finish::Length;
                }
                out.began(begun("primary", None)).await?;
                speak(out, words, *logprob, *apart_ms).await?
            }
            Act::Switch { first, second } => {
                out.began(begun("primary", None)).await?;
                speak(out, first, -0.1, 1).await?;
                out.restart("closed").await?;
                out.began(begun("fallback", Some("closed"))).await?;
                speak(out, second, -0.01, 1).await?
            }
            Act::Hang { words } => {
                out.began(begun("primary", None)).await?;
                speak(out, words, -0.1, 1).await?;
                std::future::pending().await
            }
            Act::Fail(kind) => {
                return Err(Failure {
                    kind: *kind,
                    message: "scripted".into(),
                });
            }
        };
        Ok(Finished {
            finish,
            work: Work {
                completion_tokens,
                ..Work::default()
            },
        })
    }

    /// A text is as likely as when it was said.
    async fn score(&self, _: &[Turn], text: &str) -> Result<Vec<Scored>, Failure> {
        let said = self.acts.iter().find_map(|act| match act {
            Act::Say { words, logprob, .. } if words == text => Some(*logprob),
            Act::Switch { second, .. } if second == text => Some(-0.01),
            _ => None,
        });
        let token = |word: &str| Scored {
            bytes: word.into(),
            logprob: said.unwrap_or(-0.1),
        };
        Ok(text.split_inclusive(' ').map(token).collect())
    }
}

/// Keeps what it is told, in short form.
#[derive(Default)]
struct Notes(Vec<String>);

impl Sink for Notes {
    async fn event(&mut self, event: Event<'_>) -> Result<(), Refused> {
        self.0.push(match event {
            Event::Begun { begun, .. } => format!("begun {}", begun.source.model),
            Event::Draft(piece) => format!("draft {}", piece.text.trim()),
            Event::Critique(_) => "critique".into(),
            Event::Revision(piece) => format!("revision {}", piece.text.trim()),
            Event::Restarted { reason, .. } => format!("restarted {reason}"),
        });
        Ok(())
    }
}

fn paused<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}

fn run_with(script: &Script, settings: Settings, sink: &mut impl Sink) -> Result<Outcome, Failure> {
    let checkers = standard();
    let omni = OmniLoop {
        checkers: &checkers,
        confidence: &crate::MeanProbability,
        kind: "closed",
        constraint: None,
        prompts: &PromptSet::built_in(),
        settings,
    };
    paused(omni.run(
        &[Turn::new(Speaker::User, "What is the capital of France?")],
        script,
        sink,
    ))
}

fn run(acts: impl Into<Vec<Act>>) -> Result<Outcome, Failure> {
    run_with(&Script::new(acts), Settings::default(), &mut Unwatched)
}

#[test]
fn no_number_of_iterations_exceeds_the_limit() {
    for asked in 0..=u8::MAX {
        let iterations = Iterations::at_most(asked).get();
        assert!((1..=ITERATION_LIMIT).contains(&iterations));
    }
    assert_eq!(ITERATION_LIMIT, 3);
}

#[test]
fn a_clean_and_sure_draft_is_returned_at_once() {
    let outcome = run([say("Paris it is.", 0.9)]).unwrap();
    assert_eq!((outcome.iterations(), outcome.stopped), (1, Stopped::Confident));
    assert_eq!(outcome.answer.text, "Paris it is.");
    assert!(!outcome.corrected() && outcome.reasoning().is_none());
    assert!((outcome.confidence - 0.9).abs() < 1e-6);
}

#[test]
fn the_threshold_is_inclusive_and_can_be_set() {
    let settings = Settings {
        early_exit: 0.5,
        ..Settings::default()
    };
    let script = Script::new([say("Paris.", 0.51)]);
    assert_eq!(
        run_with(&script, settings, &mut Unwatched).unwrap().iterations(),
        1
    );
}

#[test]
fn an_unsure_draft_is_revised_and_the_better_answer_returned() {
    let script = Script::new([say("Lyon it is.", 0.4), say("Paris it is.", 0.95)]);
    let mut notes = Notes::default();
    let outcome = run_with(&script, Settings::default(), &mut notes).unwrap();
    assert_eq!(outcome.answer.text, "Paris it is.");
    assert_eq!(
        (outcome.iterations(), outcome.chosen, outcome.stopped),
        (2, 2, Stopped::Confident)
    );
    assert!(outcome.corrected());
    assert_eq!(
        notes.0,
        [
            "begun primary",
            "draft Lyon",
            "draft it",
            "draft is.",
            "critique",
            "begun primary",
            "revision Paris",
            "revision it",
            "revision is."
        ]
    );
    assert!(outcome.reasoning().unwrap().starts_with("Lyon it is."));
}

#[test]
fn the_critique_is_appended_after_the_draft_in_the_same_conversation() {
    let script = Script::new([say("Lyon.", 0.4), say("Paris?", 0.3), say("Paris.", 0.5)]);
    run_with(&script, Settings::default(), &mut Unwatched).unwrap();
    let asked = script.asked();
    assert_eq!(asked.len(), 3);
    for (before, after) in asked.iter().zip(&asked[1..]) {
        assert_eq!(&after[..before.len()], &before[..]);
        assert_eq!(after.len(), before.len() + 2);
        assert_eq!(after[before.len()].speaker, Speaker::Assistant);
        assert_eq!(after[before.len() + 1].speaker, Speaker::User);
    }
    assert_eq!(asked[1][1].text, "Lyon.");
    assert_eq!(asked[2][3].text, "Paris?");
}

#[test]
fn the_critique_names_what_was_found_in_the_language_of_the_request() {
    let script = Script::new([say("", 0.9), say("París.", 0.95)]);
    let checkers = standard();
    let omni = OmniLoop {
        checkers: &checkers,
        confidence: &crate::MeanProbability,
        kind: "closed",
        constraint: None,
        prompts: &PromptSet::built_in(),
        settings: Settings::default(),
    };
    let request = [Turn::new(Speaker::User, "¿Cuál es la capital de Francia?")];
    let outcome = paused(omni.run(&request, &script, &mut Unwatched)).unwrap();
    let critique = &script.asked()[1][2].text;
    assert!(critique.contains("La respuesta está vacía."), "{critique}");
    assert!(
        !script.asked()[1][1].text.is_empty(),
        "templates refuse empty turns"
    );
    assert_eq!(outcome.draft_error_mended(), Some(true));
}

#[test]
fn a_worse_revision_is_not_returned() {
    let outcome = run([say("Paris.", 0.8), say("Lyon.", 0.5), say("", 0.99)]).unwrap();
    assert_eq!(outcome.answer.text, "Paris.");
    assert_eq!(
        (outcome.iterations(), outcome.chosen, outcome.stopped),
        (3, 1, Stopped::Limit)
    );
    assert!(!outcome.corrected());
}

#[test]
fn a_revision_that_repeats_the_draft_ends_the_loop_and_does_not_replace_it() {
    let outcome = run([
        say("Paris it is.", 0.5),
        say("Paris  it is.", 1.0),
        say("Lyon.", 1.0),
    ])
    .unwrap();
    assert_eq!((outcome.iterations(), outcome.chosen), (2, 1));
    assert_eq!(outcome.stopped, Stopped::Unchanged);
}

#[test]
fn a_cut_draft_is_revised_and_what_remains_is_told() {
    let long = Act::Say {
        words: "Paris is the".into(),
        logprob: -0.01,
        apart_ms: 1,
        cut: true,
    };
    let outcome = run([long.clone(), long.clone(), long]).unwrap();
    assert_eq!(outcome.remaining[0].checker, "truncated");
    assert_eq!(outcome.draft_error_mended(), Some(false));
    assert_eq!(run([say("Paris.", 0.9)]).unwrap().draft_error_mended(), None);
}

#[test]
fn a_revision_that_hangs_costs_its_time_and_nothing_else() {
    let script = Script::new([
        say("Paris.", 0.5),
        Act::Hang {
            words: "No wait".into(),
        },
    ]);
    let outcome = run_with(&script, Settings::default(), &mut Unwatched).unwrap();
    assert_eq!(
        (outcome.answer.text.as_str(), outcome.stopped),
        ("Paris.", Stopped::IterationTimeout)
    );
    assert_eq!(outcome.iterations(), 2);
    assert!(
        (30_000.0..30_100.0).contains(&outcome.total_ms),
        "{}",
        outcome.total_ms
    );
    assert_eq!(outcome.steps[1].text, "No wait");
}

#[test]
fn the_deadline_cuts_what_the_iteration_timeout_allows() {
    let settings = Settings {
        deadline: Duration::from_secs(10),
        ..Settings::default()
    };
    let script = Script::new([say("Paris.", 0.5), Act::Hang { words: String::new() }]);
    let outcome = run_with(&script, settings, &mut Unwatched).unwrap();
    assert_eq!(outcome.stopped, Stopped::Deadline);
    assert!(
        (10_000.0..10_100.0).contains(&outcome.total_ms),
        "{}",
        outcome.total_ms
    );
}

#[test]
fn a_draft_that_is_cut_by_time_is_returned_as_far_as_it_came() {
    let outcome = run([Act::Hang {
        words: "Paris is".into(),
    }])
    .unwrap();
    assert_eq!(
        (outcome.answer.text.as_str(), outcome.answer.finish),
        ("Paris is", Finish::Length)
    );
    assert_eq!(outcome.stopped, Stopped::IterationTimeout);
    assert_eq!(outcome.remaining[0].checker, "truncated");
    assert_eq!(outcome.answer.work.completion_tokens, 2);
}

#[test]
fn a_draft_that_says_nothing_in_its_time_is_an_error() {
    assert_eq!(
        run([Act::Hang { words: String::new() }]).unwrap_err().kind,
        FailureKind::Timeout
    );
}

#[test]
fn a_failed_draft_is_an_error_and_a_failed_revision_is_not() {
    for kind in [
        FailureKind::Invalid,
        FailureKind::ContextLength,
        FailureKind::Busy,
        FailureKind::Unavailable,
    ] {
        assert_eq!(run([Act::Fail(kind)]).unwrap_err().kind, kind);
        let outcome = run([say("Paris.", 0.5), Act::Fail(kind)]).unwrap();
        assert_eq!(
            (outcome.answer.text.as_str(), outcome.stopped),
            ("Paris.", Stopped::Failed)
        );
    }
}

#[test]
fn an_answer_started_again_elsewhere_holds_nothing_of_the_first() {
    let switch = Act::Switch {
        first: "Ly on".into(),
        second: "Paris it is.".into(),
    };
    let script = Script::new([switch]);
    let mut notes = Notes::default();
    let outcome = run_with(&script, Settings::default(), &mut notes).unwrap();
    assert_eq!(outcome.answer.text, "Paris it is.");
    assert_eq!(outcome.answer.source.model, "fallback");
    assert_eq!(outcome.fallback.as_deref(), Some("closed"));
    assert!(notes.0.contains(&"restarted closed".to_owned()));
}

/// Takes a number of events, then refuses.
struct Leaves(usize);

impl Sink for Leaves {
    async fn event(&mut self, _: Event<'_>) -> Result<(), Refused> {
        self.0 = self.0.checked_sub(1).ok_or(Refused::Gone)?;
        Ok(())
    }
}

#[test]
fn a_client_that_leaves_ends_the_loop_at_any_event() {
    for events in 0..7 {
        let script = Script::new([say("Lyon it is.", 0.4), say("Paris it is.", 0.95)]);
        let failure = run_with(&script, Settings::default(), &mut Leaves(events)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled, "{events}");
    }
}

/// A client that never takes what it is offered.
struct Stuck;

impl Sink for Stuck {
    async fn event(&mut self, _: Event<'_>) -> Result<(), Refused> {
        std::future::pending().await
    }
}

#[test]
fn a_client_that_never_reads_cannot_outlast_the_deadline() {
    let settings = Settings {
        iteration_timeout: Duration::from_secs(5),
        ..Settings::default()
    };
    let failure = run_with(&Script::new([say("Paris.", 0.9)]), settings, &mut Stuck).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Timeout);
}

/// A checker whose findings depend on the text alone, so that any mix of scores can come up.
struct Dislikes;

impl Checker for Dislikes {
    fn name(&self) -> &'static str {
        "dislikes"
    }
    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        if !subject.text.contains('x') {
            return Vec::new();
        }
        vec![Finding {
            checker: "dislikes",
            place: Place::Whole,
            sentence: "No x.".into(),
            weight: 0.5,
            repair: None,
        }]
    }
}

fn any_act() -> impl Strategy<Value = Act> {
    let logprob = prop_oneof![
        Just(f32::NAN),
        Just(f32::INFINITY),
        Just(f32::NEG_INFINITY),
        -5.0_f32..0.5
    ];
    prop_oneof![
        6 => ("[ax ]{0,12}", logprob, 0_u64..9_000, any::<bool>())
            .prop_map(|(words, logprob, apart_ms, cut)| Act::Say { words, logprob, apart_ms, cut }),
        1 => ("[ax ]{0,6}", "[ax ]{0,6}").prop_map(|(first, second)| Act::Switch { first, second }),
        1 => "[ax ]{0,6}".prop_map(|words| Act::Hang { words }),
        1 => prop_oneof![
            Just(FailureKind::Unavailable), Just(FailureKind::Busy), Just(FailureKind::ContextLength)
        ]
        .prop_map(Act::Fail),
    ]
}

/// Wants the answer 42: corrects 41 by hand, goes on from "about", and writes "bad" anew as digits.
struct Wants42;

impl Checker for Wants42 {
    fn name(&self) -> &'static str {
        "wants"
    }

    fn check(&self, subject: &Subject<'_>) -> Vec<Finding> {
        let repair = if subject.text.contains("41") {
            Repair::Rewrite(subject.text.replace("41", "42"))
        } else if let Some(at) = subject.text.find("about") {
            Repair::Resume {
                keep: at,
                insert: "exactly ".into(),
                constraint: None,
            }
        } else if subject.text.contains("bad") {
            Repair::Constrain(Constraint::Regex("[0-9]+".into()))
        } else {
            return Vec::new();
        };
        vec![Finding {
            checker: self.name(),
            place: Place::Whole,
            sentence: "It must be 42.".into(),
            weight: 0.5,
            repair: Some(repair),
        }]
    }
}

fn run_wanting(script: &Script, settings: Settings) -> Outcome {
    let checkers: Vec<Box<dyn Checker>> = vec![Box::new(Wants42)];
    let omni = OmniLoop {
        checkers: &checkers,
        confidence: &crate::MeanProbability,
        prompts: &PromptSet::built_in(),
        kind: "arithmetic",
        constraint: None,
        settings,
    };
    let request = [Turn::new(Speaker::User, "What is 6 times 7?")];
    paused(omni.run(&request, script, &mut Unwatched)).unwrap()
}

#[test]
fn what_checkers_can_mend_asks_no_model() {
    let script = Script::new([say("It is 41.", 0.9)]);
    let outcome = run_wanting(&script, Settings::default());
    assert_eq!(
        (outcome.answer.text.as_str(), script.asked().len()),
        ("It is 42.", 1)
    );
    assert_eq!((outcome.chosen, outcome.steps[1].how), (2, How::Edited));
    assert_eq!(outcome.draft_error_mended(), Some(true));
    assert_eq!(
        outcome.answer.pieces.len(),
        1,
        "its tokens are no longer the draft's"
    );
}

#[test]
fn where_log_probabilities_are_wanted_answers_are_written_whole() {
    let settings = Settings {
        sampled: true,
        ..Settings::default()
    };
    let script = Script::new([say("It is 41.", 0.9), say("It is 42.", 0.9)]);
    let outcome = run_wanting(&script, settings);
    assert_eq!(outcome.steps[1].how, How::Critiqued);
    assert_eq!(outcome.answer.text, "It is 42.");
    assert!(outcome.answer.pieces.iter().all(|piece| piece.logprob < 0.0));
}

#[test]
fn a_sound_beginning_is_kept_and_the_rest_written_anew_to_the_same_request() {
    let script = Script::new([say("It is about forty.", 0.5), say("42.", 0.9)]);
    let settings = Settings {
        worth: Worth {
            when_clean: 0,
            when_found: 2,
        },
        ..Settings::default()
    };
    let outcome = run_wanting(&script, settings);
    assert_eq!(outcome.answer.text, "It is exactly 42.");
    assert_eq!(outcome.steps[1].how, How::Resumed);
    let asked = script.asked();
    assert_eq!(asked[0], asked[1], "judged under the original request");
    let task = script.tasks.lock().unwrap()[1].clone();
    assert_eq!(task, ("It is exactly ".into(), None, "about forty.".into()));
}

#[test]
fn what_can_be_enforced_is_enforced_and_tried_once() {
    let script = Script::new([say("bad", 0.9), say("bad too", 0.9), say("42", 0.9)]);
    let outcome = run_wanting(&script, Settings::default());
    let tasks = script.tasks.lock().unwrap().clone();
    assert_eq!(tasks[1].1, Some(Constraint::Regex("[0-9]+".into())));
    assert_eq!(tasks[2].1, None, "the same repair again would bring the same");
    assert_eq!(outcome.steps[2].how, How::Critiqued);
    assert_eq!(outcome.answer.text, "42");
}

#[test]
fn a_clean_draft_that_no_reflection_would_help_is_returned_at_once() {
    let settings = Settings {
        worth: Worth {
            when_clean: 0,
            when_found: 2,
        },
        ..Settings::default()
    };
    let outcome = run_wanting(&Script::new([say("Perhaps 42.", 0.3)]), settings);
    assert_eq!((outcome.iterations(), outcome.stopped), (1, Stopped::NotWorth));
}

/// A calibration of a model that critiques do not help.
struct Incorrigible;

impl Confidence for Incorrigible {
    fn confidence(&self, evidence: &Evidence<'_>) -> f64 {
        crate::MeanProbability.confidence(evidence)
    }

    fn critiques_help(&self, digest: &str) -> bool {
        assert_eq!(digest, SOURCE_DIGEST, "the draft's own model is asked about");
        false
    }
}

#[test]
fn a_model_that_critiques_do_not_help_is_not_criticised_unless_the_client_insists() {
    let checkers: Vec<Box<dyn Checker>> = vec![Box::new(Wants42)];
    for (insist, iterations, stopped) in [(false, 2, Stopped::NotWorth), (true, 3, Stopped::Limit)] {
        let omni = OmniLoop {
            checkers: &checkers,
            confidence: &Incorrigible,
            prompts: &PromptSet::built_in(),
            kind: "arithmetic",
            constraint: None,
            settings: Settings {
                insist,
                ..Settings::default()
            },
        };
        // What can be enforced is, all the same.
        let script = Script::new([say("bad", 0.9), say("bad too", 0.9), say("worse", 0.2)]);
        let request = [Turn::new(Speaker::User, "What is 6 times 7?")];
        let outcome = paused(omni.run(&request, &script, &mut Unwatched)).unwrap();
        assert_eq!((outcome.iterations(), outcome.stopped), (iterations, stopped));
        assert_eq!(outcome.steps[1].how, How::Constrained);
    }
}

#[test]
fn an_answer_whose_shape_the_client_prescribed_is_written_in_no_other() {
    let checkers: Vec<Box<dyn Checker>> = vec![Box::new(Wants42)];
    let wanted = Constraint::JsonObject;
    let omni = OmniLoop {
        checkers: &checkers,
        confidence: &crate::MeanProbability,
        prompts: &PromptSet::built_in(),
        kind: "arithmetic",
        constraint: Some(&wanted),
        settings: Settings::default(),
    };
    let script = Script::new([say("bad", 0.9), say("{}", 0.95)]);
    let request = [Turn::new(Speaker::User, "What is 6 times 7?")];
    let outcome = paused(omni.run(&request, &script, &mut Unwatched)).unwrap();
    let tasks = script.tasks.lock().unwrap().clone();
    assert!(tasks.iter().all(|task| task.1 == Some(Constraint::JsonObject)));
    assert_eq!(outcome.steps[1].how, How::Critiqued);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn whatever_the_generator_does_the_loop_ends_and_never_harms(
        acts in proptest::collection::vec(any_act(), 3),
        most in any::<u8>(),
        early_exit in prop_oneof![Just(f64::NAN), -1.0..2.0_f64],
        iteration_s in 1_u64..60,
        deadline_s in 1_u64..120,
        when_clean in 0_u8..4,
        when_found in 0_u8..4,
        sampled in any::<bool>(),
        insist in any::<bool>(),
    ) {
        let settings = Settings {
            iterations: Iterations::at_most(most),
            early_exit,
            iteration_timeout: Duration::from_secs(iteration_s),
            deadline: Duration::from_secs(deadline_s),
            worth: Worth { when_clean, when_found },
            sampled,
            insist,
        };
        let mut checkers = standard();
        checkers.push(Box::new(Dislikes));
        let omni = OmniLoop { checkers: &checkers, confidence: &crate::MeanProbability, prompts: &PromptSet::built_in(), kind: "closed", constraint: None, settings };
        let script = Script::new(acts);
        let request = [Turn::new(Speaker::User, "Go")];
        let (result, took) = paused(async {
            let started = Instant::now();
            (omni.run(&request, &script, &mut Unwatched).await, started.elapsed())
        });
        // Paused time moves in steps of a millisecond.
        prop_assert!(took <= settings.deadline + Duration::from_millis(2), "{took:?}");
        let asked = script.asked().len();
        prop_assert!(asked <= usize::from(ITERATION_LIMIT.min(most.max(1))));
        if let Ok(outcome) = result {
            // What checkers mend themselves asks nobody.
            prop_assert!(asked <= usize::from(outcome.iterations()));
            prop_assert!(outcome.iterations() <= ITERATION_LIMIT.min(most.max(1)));
            let draft = &outcome.steps[0];
            prop_assert!(outcome.score >= draft.score.unwrap());
            let best = outcome.steps[usize::from(outcome.chosen) - 1].clone();
            prop_assert_eq!(best.score, Some(outcome.score));
            prop_assert_eq!(best.confidence, Some(outcome.confidence));
            prop_assert_eq!(&best.text, &outcome.answer.text);
            prop_assert!(crate::judge::nothing_new(&outcome.remaining, &draft.findings));
            let spelt: String = outcome.answer.pieces.iter().map(|piece| piece.text.as_str()).collect();
            prop_assert_eq!(&spelt, &outcome.answer.text);
            prop_assert!((0.0..=1.0).contains(&outcome.confidence));
            let reasoning = outcome.steps.len() > 1;
            prop_assert_eq!(outcome.reasoning().is_some(), reasoning);
        }
    }
}
