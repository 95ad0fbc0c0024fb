use proptest::prelude::*;

use super::*;

fn scrub(text: &str) -> (String, Vec<&'static str>) {
    let mut found = BTreeMap::new();
    let text = Scrubber::new(true).scrub(text, &mut found);
    (text, found.into_keys().collect())
}

#[test]
fn every_rule_compiles_and_has_a_name_of_its_own() {
    let scrubber = Scrubber::new(true);
    let names: std::collections::BTreeSet<_> = scrubber.names().collect();
    assert_eq!(names.len(), PATTERNS.len() + 1);
    assert_eq!(Scrubber::new(false).names().count(), PATTERNS.len());
}

/// Texts of secrets, made so that no scanner of this repository takes them for real ones.
fn secrets() -> Vec<(&'static str, String)> {
    let body = |letters: &str| letters.repeat(8);
    vec![
        (
            "pem",
            format!(
                "-----BEGIN {0}-----\nMIIabc\n+/Q==\n-----END {0}-----",
                "PRIVATE KEY"
            ),
        ),
        (
            "pem",
            "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk".to_owned(),
        ),
        ("json_web_token", format!("eyJ{0}.{0}.{0}", "aB3dE6gH9")),
        ("api_key", format!("sk-sarai-{}", body("aB3dE"))),
        ("api_key", format!("ghp_{}", body("a1B2c"))),
        ("api_key", format!("AKIA{}", "ABCD".repeat(4))),
        ("api_key", format!("xoxb-{}", body("12-ab"))),
        (
            "authorization",
            format!("Authorization: Bearer {}", "a1b2c3d4e5f6g7h8.x"),
        ),
        ("url_password", "postgres://admin:hunter2@db.local/x".to_owned()),
        ("url_password", "https://:hunter2@host/".to_owned()),
        ("password", "password: hunter2".to_owned()),
        ("password", "The password is Hunter22".to_owned()),
        ("password", "contraseña = Perro_99".to_owned()),
        ("password", "mi clave es Gato-2024".to_owned()),
        ("password", "\"api_key\": \"abc123\"".to_owned()),
        ("password", "PIN: 4711".to_owned()),
        ("card_number", "4111 1111 1111 1111".to_owned()),
        ("card_number", "5500-0055-5555-5559".to_owned()),
        ("iban", "ES91 2100 0418 4502 0005 1332".to_owned()),
        ("long_token", "0123456789abcdef".repeat(2)),
        ("long_token", body("aB3d-")),
        ("email", "ana.perez@example.com".to_owned()),
    ]
}

#[test]
fn each_kind_of_secret_is_found_by_its_rule_wherever_it_stands() {
    for (rule, secret) in secrets() {
        for text in [
            secret.clone(),
            format!("Hola, usa {secret} por favor."),
            format!("x\n{secret}\ny"),
            format!("(«{secret}»)"),
        ] {
            let (clean, found) = scrub(&text);
            assert!(
                found.contains(&rule),
                "{rule}: {text:?} became {clean:?} by {found:?}"
            );
            let told = format!("[{}]", rule.to_uppercase());
            assert!(clean.contains(&told), "{clean}");
        }
    }
}

#[test]
fn the_secret_goes_and_what_stands_around_it_stays() {
    for (text, clean) in [
        (
            "see postgres://admin:hunter2@db.local/x",
            "see postgres://admin:[URL_PASSWORD]@db.local/x",
        ),
        ("password: hunter2, thanks", "password: [PASSWORD], thanks"),
        (
            "Mi contraseña es Perro99 y ya",
            "Mi contraseña es [PASSWORD] y ya",
        ),
        ("pay 4111111111111111 now", "pay [CARD_NUMBER] now"),
    ] {
        assert_eq!(scrub(text).0, clean);
    }
}

#[test]
fn what_is_no_secret_stays() {
    for text in [
        "The password is wrong, and the token is valid.",
        "La contraseña es incorrecta; la clave es practicar.",
        "How do I reset my password?",
        "Call 4111 1111 1111 1112 or 555 123 4567.",
        "The key idea: https://example.com/a:b@c is odd",
        "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft",
        "supercalifragilisticexpialidocious_and_much_longer_names",
        "0000000000000000",
        "12345678901234567890123456789012345",
        "bearer of good news and more of them",
        "¿Qué hora es? 12:30@casa",
    ] {
        assert_eq!(scrub(text), (text.to_owned(), Vec::new()));
    }
    assert_eq!(
        Scrubber::new(false).scrub("a@example.com", &mut BTreeMap::new()),
        "a@example.com"
    );
}

#[test]
fn an_answer_that_was_nothing_but_a_secret_says_nothing_any_more() {
    let scrubber = Scrubber::new(false);
    for (text, says) in [
        ("[PEM]", false),
        ("  [API_KEY]. [PASSWORD]!", false),
        ("It is [PEM]", true),
    ] {
        assert_eq!(scrubber.says_something(text), says, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn no_secret_survives_among_any_words(
        before in "[a-z ,.¿?ñá\\n]{0,40}[ \\n]",
        after in "[ \\n][a-z ,.¿?ñá\\n]{0,40}",
        at in any::<prop::sample::Index>(),
    ) {
        let all = secrets();
        let (_, secret) = &all[at.index(all.len())];
        let (clean, _) = scrub(&format!("{before}{secret}{after}"));
        // Of each secret the part that makes it one.
        for part in ["MIIabc", "b3Blb", "aB3d", "a1B2c", "ABCDABCD", "12-ab", "a1b2c3", "hunter2", "Hunter22", "Perro_99",
            "Gato-2024", "abc123", "4711", "1111 1111", "0055-5555", "2100 0418", "0123456789abcdef", "ana.perez"] {
            prop_assert!(!clean.contains(part), "{} in {:?}", part, clean);
        }
    }

    #[test]
    fn any_text_is_survived_and_scrubbing_once_more_changes_nothing(text in "\\PC{0,200}") {
        let (once, _) = scrub(&text);
        prop_assert_eq!(scrub(&once).0, once);
    }
}
