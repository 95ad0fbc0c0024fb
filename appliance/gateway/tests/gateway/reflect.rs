//! The Omni-Loop seen from outside.

use std::sync::Arc;

use sarai_wire::adapter::{Adapter, Apply};
use sarai_wire::engine::Role;
use serde_json::json;

use crate::engine::answers;
use crate::world::world;

#[test]
fn a_draft_with_an_error_is_revised() {
    let world = world(answers(&[("", 0.9), ("Paris it is.", 0.95)]), None);
    let body = world.client.chat(&json!({})).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Paris it is.");
    let omni = &body["omni_loop"];
    assert_eq!(
        (&omni["iterations"], &omni["corrected"]),
        (&json!(2), &json!(true))
    );
    assert_eq!(omni["timings"]["iterations"][1]["phase"], "revision");
    let reasoning = body["choices"][0]["message"]["reasoning_content"]
        .as_str()
        .unwrap();
    assert!(reasoning.contains("The answer is empty."), "{reasoning}");
    // The empty draft took no tokens.
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 0);
    let revision = &world.primary.asked()[1];
    let roles: Vec<Role> = revision.messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
    assert_eq!(revision.messages[0], world.primary.asked()[0].messages[0]);
}

#[test]
fn no_answer_scored_below_the_draft_is_returned() {
    let world = world(
        answers(&[("Paris it is.", 0.94), ("Lyon it is.", 0.3), ("Nice it is.", 0.2)]),
        None,
    );
    let body = world.client.chat(&json!({"reasoning_effort": "high"})).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Paris it is.");
    assert_eq!(
        (&body["omni_loop"]["iterations"], &body["omni_loop"]["stopped"]),
        (&json!(3), &json!("limit"))
    );
    assert_eq!(body["usage"]["completion_tokens"], 9);
    assert_eq!(body["usage"]["completion_tokens_details"]["reasoning_tokens"], 6);
    let reasoning = body["choices"][0]["message"]["reasoning_content"]
        .as_str()
        .unwrap();
    assert!(reasoning.contains("Lyon it is.") && reasoning.contains("Nice it is."));
    assert!(!reasoning.contains("Paris it is."));
}

#[test]
fn the_effort_bounds_the_iterations_and_nothing_exceeds_three() {
    let unsure = [("One.", 0.3), ("Two.", 0.3), ("Three.", 0.3), ("Four.", 0.3)];
    // In a clean draft there is nothing to mend but on the client's own wish.
    for (effort, iterations) in [
        ("none", 1),
        ("minimal", 1),
        ("low", 1),
        ("medium", 1),
        ("high", 3),
    ] {
        let world = world(answers(&unsure), None);
        let body = world.client.chat(&json!({"reasoning_effort": effort})).json();
        assert_eq!(body["omni_loop"]["iterations"], iterations, "{effort}");
        assert_eq!(world.primary.asked().len(), iterations, "{effort}");
    }
}

#[test]
fn high_effort_reflects_where_medium_is_content() {
    let world = world(answers(&[("Paris it is.", 0.9)]), None);
    assert_eq!(world.client.chat(&json!({})).json()["omni_loop"]["iterations"], 1);
    let high = world.client.chat(&json!({"reasoning_effort": "high"})).json();
    assert_eq!(high["omni_loop"]["iterations"], 2);
    assert_eq!(high["omni_loop"]["stopped"], "unchanged");
}

#[test]
fn the_critique_speaks_the_language_of_the_request() {
    let world = world(answers(&[("", 0.9), ("París.", 0.95)]), None);
    let question = "¿Cuál es la capital de Francia?";
    world
        .client
        .chat(&json!({"messages": [{"role": "user", "content": question}]}));
    assert!(
        world.primary.asked()[1].messages[2]
            .content
            .contains("está vacía")
    );
}

#[test]
fn a_revision_asks_for_the_adapter_of_its_draft_and_the_answer_says_whose_it_is() {
    let [old, new] = ["a", "b"].map(|digit| Adapter {
        digest: digit.repeat(64),
        version: format!("night-{digit}"),
    });
    let first = Apply::Rather {
        digest: Some(old.digest.clone()),
    };
    // Put to use while the draft is written; by the time of the revision, the one before is not there any more.
    let script = move |request: &sarai_wire::engine::Generate, talk: &mut crate::engine::Talk| {
        if request.apply.is_in_use() {
            talk.adapt(&old);
            talk.answer("", 0.9);
        } else {
            talk.adapt(&new);
            talk.answer("Paris it is.", 0.95);
        }
    };
    let world = world(Arc::new(script), None);
    let body = world.client.chat(&json!({})).json();
    assert_eq!(body["choices"][0]["message"]["content"], "Paris it is.");
    let asked: Vec<Apply> = world
        .primary
        .asked()
        .into_iter()
        .map(|asked| asked.apply)
        .collect();
    assert_eq!(asked, [Apply::InUse, first]);
    assert_eq!(
        body["omni_loop"]["adapter"],
        json!({"digest": "bbbbbbbbbbbb", "version": "night-b"})
    );
    assert_eq!(body["system_fingerprint"], "fp_0123456789ab_bbbbbbbbbbbb");
    // Another request begins anew, and no client chooses.
    let wished = json!({"apply": {"which": "exactly", "digest": null}, "adapter": "a"});
    let refused = world.client.chat(&wished);
    assert_eq!(refused.status, 400);
    world.client.chat(&json!({}));
    assert_eq!(world.primary.asked()[2].apply, Apply::InUse);
}
