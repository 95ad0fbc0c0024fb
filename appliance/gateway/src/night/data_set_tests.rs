use super::*;

fn order() -> DataSetOrder {
    DataSetOrder {
        since: Some("2026-01-02T03:04:05Z".into()),
        base: "0a".repeat(32),
        length: 512,
        choice: ChoiceSettings::default(),
    }
}

#[test]
fn examples_are_as_long_as_the_trainer_takes_them() {
    let most = *bounds::training::SEQUENCE_LENGTH.end();
    assert_eq!(most as usize, sarai_trainer::training::data::MAX_TOKENS);
    assert_eq!(
        sarai_wire::night::MAX_DATA_SET,
        sarai_trainer::training::data::MAX_BYTES
    );
}

#[test]
fn an_order_is_held_to_its_bounds() {
    let kept = rules(&order()).unwrap();
    assert_eq!((kept.least, kept.replay, kept.emails), (10, 0.5, false));
    assert_eq!(kept.since, Some("2026-01-02T03:04:05Z".parse().unwrap()));
    let changes: [&dyn Fn(&mut DataSetOrder); 7] = [
        &|order| order.since = Some("yesterday".into()),
        &|order| order.base = "0A".repeat(32),
        &|order| order.length = 15,
        &|order| order.length = 4097,
        &|order| order.choice.least = 0,
        &|order| order.choice.replay = 1.5,
        &|order| order.choice.replay = f64::NAN,
    ];
    for change in changes {
        let mut order = order();
        change(&mut order);
        assert!(matches!(rules(&order), Err(No::Fail(_))), "{order:?}");
    }
}

#[test]
fn what_the_engine_says_must_be_what_the_trainer_takes() {
    let encoded = |tokens: &[u32], answer| Encoded {
        tokens: tokens.to_vec(),
        answer,
        vocabulary: 10,
    };
    check(&encoded(&[1, 2, 9], 2), 3, Some(10)).unwrap();
    for (encoded, most, vocabulary) in [
        (encoded(&[1, 2, 9], 2), 2, None),
        (encoded(&[1, 2, 9], 0), 3, None),
        (encoded(&[1, 2, 9], 3), 3, None),
        (encoded(&[1, 2, 10], 2), 3, None),
        (encoded(&[1, 2, 9], 2), 3, Some(11)),
        (encoded(&[], 0), 3, None),
    ] {
        assert!(check(&encoded, most, vocabulary).is_err(), "{encoded:?}");
    }
}

#[test]
fn too_little_that_is_left_is_no_night() {
    let written = |train, held_out| Written {
        examples: Examples {
            train,
            held_out,
            long: 5,
            ..Examples::default()
        },
        ..Written::default()
    };
    written(8, 2).check(10).unwrap();
    for (train, held_out, why) in [
        (0, 20, "nothing to learn is left: 5 of"),
        (20, 0, "held out"),
        (8, 1, "9 examples are left, at least 10 are needed"),
    ] {
        let Err(No::Skip(reason)) = written(train, held_out).check(10) else {
            panic!("{train} {held_out}")
        };
        assert!(reason.contains(why), "{reason}");
    }
}
