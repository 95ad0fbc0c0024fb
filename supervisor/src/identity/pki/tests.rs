use super::*;

const NOW: &str = "2026-03-01T12:00:00Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn names() -> Names {
    Names {
        hostname: "kitchen".into(),
        announced: None,
        addresses: ["192.168.7.9".parse().unwrap(), "2001:db8::7".parse().unwrap()].into(),
    }
}

fn parse(chain: &str) -> Vec<Vec<u8>> {
    x509_parser::pem::Pem::iter_from_buffer(chain.as_bytes())
        .map(|p| p.unwrap().contents)
        .collect()
}

#[test]
fn the_server_certificate_names_the_machine_and_chains_to_the_authority() {
    let authority = Authority::make(now(), now()).unwrap();
    let key = make_key().unwrap();
    let (chain, validity) = authority.issue(&key, &names(), now()).unwrap();
    let ders = parse(&chain);
    assert_eq!(ders.len(), 2);
    let (_, server) = X509Certificate::from_der(&ders[0]).unwrap();
    let (_, ca) = X509Certificate::from_der(&ders[1]).unwrap();
    server.verify_signature(Some(ca.public_key())).unwrap();
    assert!(ca.is_ca() && !server.is_ca());
    assert_eq!(
        server.public_key().subject_public_key.data.as_ref(),
        key.public_key_raw()
    );
    let san = server.subject_alternative_name().unwrap().unwrap();
    let text: Vec<String> = san.value.general_names.iter().map(ToString::to_string).collect();
    for wanted in [
        "kitchen)",
        "kitchen.local)",
        "localhost)",
        "(c0:a8:07:09)",
        "(7f:00:00:01)",
    ] {
        assert!(
            text.iter().any(|name| name.contains(wanted)),
            "{wanted} in {text:?}"
        );
    }
    assert_eq!(text.len(), 7, "{text:?}");
    let days = (server.validity().not_after.timestamp() - server.validity().not_before.timestamp()) / DAY;
    assert!(days <= 825, "{days}");
    assert_eq!(
        server.validity().not_after.timestamp(),
        validity.until.as_second()
    );
    assert!(server.validity().not_before.timestamp() <= now().as_second() - DAY);
}

#[test]
fn an_authority_comes_back_from_its_file_and_signs_with_the_same_key() {
    let authority = Authority::make(now(), now()).unwrap();
    let again = Authority::from_bytes(&authority.to_bytes()).unwrap();
    assert_eq!(again.fingerprint(), authority.fingerprint());
    assert_eq!(again.fingerprint().len(), 32 * 3 - 1);
    let (chain, _) = again.issue(&make_key().unwrap(), &names(), now()).unwrap();
    let ders = parse(&chain);
    let original = parse(authority.certificate_pem());
    assert_eq!(ders[1], original[0]);
}

#[test]
fn a_damaged_or_mixed_up_authority_is_refused() {
    let (one, two) = (
        Authority::make(now(), now()).unwrap(),
        Authority::make(now(), now()).unwrap(),
    );
    let mixed = format!("{}{}", one.key_pem, two.pem);
    assert!(matches!(
        Authority::from_bytes(mixed.as_bytes()),
        Err(PkiError::Damaged(_))
    ));
    let bytes = one.to_bytes();
    for cut in (0..bytes.len() - 30).step_by(37) {
        assert!(Authority::from_bytes(&bytes[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn a_clock_that_was_wrong_at_first_boot_leaves_a_usable_authority() {
    let stamp: Timestamp = "2025-11-01T00:00:00Z".parse().unwrap();
    let future: Timestamp = "2033-01-01T00:00:00Z".parse().unwrap();
    let authority = Authority::make(future, stamp).unwrap();
    let der = &parse(authority.certificate_pem())[0];
    let (_, ca) = X509Certificate::from_der(der).unwrap();
    assert!(ca.validity().not_before.timestamp() < stamp.as_second());
    assert!(!authority.ends_within(now(), 90));
}

#[test]
fn a_certificate_on_disk_is_known_again_and_a_strangers_is_not() {
    let authority = Authority::make(now(), now()).unwrap();
    let key = make_key().unwrap();
    let (chain, validity) = authority.issue(&key, &names(), now()).unwrap();
    let examined = authority.examine(chain.as_bytes(), &key).unwrap();
    assert_eq!(examined, (authority.wanted(&names()), validity));
    let other = Authority::make(now(), now()).unwrap();
    assert!(other.examine(chain.as_bytes(), &key).is_none());
    assert!(
        authority
            .examine(chain.as_bytes(), &make_key().unwrap())
            .is_none()
    );
    assert!(authority.examine(b"garbage", &key).is_none());
    assert!(
        authority
            .examine(&chain.as_bytes()[..chain.len() / 2], &key)
            .is_none()
    );
    let forged = other.issue(&key, &names(), now()).unwrap().0;
    let mixed = forged.replace(&other.pem, &authority.pem);
    assert!(authority.examine(mixed.as_bytes(), &key).is_none());
}

#[test]
fn a_certificate_is_due_near_its_end_and_when_the_clock_goes_back() {
    let authority = Authority::make(now(), now()).unwrap();
    let (_, validity) = authority.issue(&make_key().unwrap(), &names(), now()).unwrap();
    assert!(!validity.due(now()));
    assert!(validity.due(after(now(), SERVER_DAYS - RENEW_DAYS + 1)));
    assert!(validity.due(after(now(), -2)));
}
