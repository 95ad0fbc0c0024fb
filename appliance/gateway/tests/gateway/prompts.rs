//! The Omni-Loop speaks with the words of the file it was given, or with its own.

use std::io::{Seek, Write};
use std::os::fd::AsRawFd;

use sarai_wire::birth::{FromGateway, PromptsStart};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::engine::answers;
use crate::world::{World, world_of};

const TEXT: &str = include_str!("../../../reflection/prompts/omni-loop.prompts");

/// A gateway that is told of `attested` and gets `given`.
fn world(attested: &str, given: &str) -> World {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(given.as_bytes()).unwrap();
    file.rewind().unwrap();
    let sha256 = Sha256::digest(attested.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let start = PromptsStart {
        id: "omni-loop".into(),
        version: "7".into(),
        sha256,
    };
    let script = answers(&[("", 0.9), ("Paris it is.", 0.95)]);
    world_of(script, None, &[file.as_raw_fd()], |to| to.prompts = Some(start))
}

/// How the critique of an empty draft begins.
fn critique(world: &World) -> String {
    assert_eq!(world.client.chat(&json!({})).status, 200);
    world.primary.asked()[1].messages[2].content.clone()
}

#[test]
fn the_critique_is_in_the_words_of_the_verified_file() {
    let text = TEXT.replacen("Your last answer", "What you just said", 1);
    let world = world(&text, &text);
    let FromGateway::Prompts {
        id, version, refused, ..
    } = &world.prompts
    else {
        panic!("{:?}", world.prompts);
    };
    assert_eq!(
        (id.as_str(), version.as_str(), refused),
        ("omni-loop", "7", &None)
    );
    assert!(critique(&world).starts_with("What you just said has these problems:\n- "));
}

#[test]
fn a_file_that_is_not_what_was_attested_is_not_used_and_that_is_said() {
    let world = world(TEXT, &TEXT.replacen("Your last answer", "Your lost answer", 1));
    let FromGateway::Prompts {
        id,
        refused: Some(refused),
        ..
    } = &world.prompts
    else {
        panic!("{:?}", world.prompts);
    };
    assert_eq!(id, "built-in");
    assert!(refused.starts_with("wrong-digest: "), "{refused}");
    assert!(critique(&world).starts_with("Your last answer has these problems:\n- "));
}
