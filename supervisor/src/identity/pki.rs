//! The machine's certificate authority and the server certificates it signs: P-256, readable by every client.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const DAY: i64 = 24 * 3600;
/// Life of the authority, days: ten years.
const AUTHORITY_DAYS: i64 = 3652;
/// Life of a server certificate, days; some clients refuse more than 825.
const SERVER_DAYS: i64 = 824;
/// Days before its end at which a server certificate is replaced.
const RENEW_DAYS: i64 = 30;

/// What can go wrong with certificates. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key or certificate could not be made.
    #[error("make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// Stored bytes are no authority.
    #[error("read the certificate authority: {0}")]
    Damaged(String),
}

/// What the server's certificate stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// Host name without a domain.
    pub hostname: String,
    /// Addresses clients can reach from elsewhere.
    pub addresses: BTreeSet<IpAddr>,
}

/// From when to when a certificate holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// First moment.
    pub from: Timestamp,
    /// Last moment.
    pub until: Timestamp,
}

impl Validity {
    /// Whether a new certificate is due: near its end, or the clock went back before its beginning.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> bool {
        now < self.from || after(now, RENEW_DAYS) > self.until
    }
}

/// Moves a moment by days, stopping at the ends of time.
fn after(at: Timestamp, days: i64) -> Timestamp {
    at.saturating_add(SignedDuration::from_secs(days * DAY))
        .unwrap_or(at)
}

/// Whole seconds after 1970; rcgen counts from a date.
fn since(at: Timestamp) -> Duration {
    Duration::from_secs(u64::try_from(at.as_second()).unwrap_or(0))
}

/// A fresh P-256 key.
pub fn make_key() -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?)
}

/// A key as it is kept on disk.
pub fn key_from_bytes(bytes: &[u8]) -> Result<KeyPair, PkiError> {
    let text = std::str::from_utf8(bytes).map_err(|e| PkiError::Damaged(e.to_string()))?;
    KeyPair::from_pem(text).map_err(|e| PkiError::Damaged(e.to_string()))
}

/// The certificate authority: its key, its certificate.
pub struct Authority {
    key_pem: String,
    pem: String,
    der: Vec<u8>,
    until: Timestamp,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes one. It holds from `oldest` (what the machine's clock can never be below) or `now`, whichever is
    /// earlier, because a first boot may happen with a wrong clock in either direction.
    pub fn make(now: Timestamp, oldest: Timestamp) -> Result<Self, PkiError> {
        let key = make_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = name("SARAi appliance CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.not_before = date_time_ymd(1970, 1, 1) + since(after(now.min(oldest), -1));
        params.not_after = date_time_ymd(1970, 1, 1) + since(after(now, AUTHORITY_DAYS));
        let pem = params.self_signed(&key)?.pem();
        Self::from_parts(&key.serialize_pem(), &pem)
    }

    /// As it is kept: one file with key and certificate, so that neither can be there without the other.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{}{}", self.key_pem, self.pem).into_bytes()
    }

    /// Reads what [`Authority::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PkiError> {
        let text = std::str::from_utf8(bytes).map_err(|e| PkiError::Damaged(e.to_string()))?;
        let at = text
            .find("-----BEGIN CERTIFICATE-----")
            .ok_or_else(|| PkiError::Damaged("it holds no certificate".to_owned()))?;
        Self::from_parts(&text[..at], &text[at..])
    }

    fn from_parts(key_pem: &str, pem: &str) -> Result<Self, PkiError> {
        let damaged = |e: &dyn std::fmt::Display| PkiError::Damaged(e.to_string());
        let key = KeyPair::from_pem(key_pem).map_err(|e| damaged(&e))?;
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).map_err(|e| damaged(&e))?;
        let der = block.contents;
        let until = {
            let (_, certificate) = X509Certificate::from_der(&der).map_err(|e| damaged(&e))?;
            if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
                return Err(PkiError::Damaged(
                    "its key and its certificate do not belong together".to_owned(),
                ));
            }
            Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|e| damaged(&e))?
        };
        let issuer = Issuer::from_ca_cert_pem(pem, key).map_err(|e| damaged(&e))?;
        Ok(Self {
            key_pem: key_pem.to_owned(),
            pem: pem.to_owned(),
            der,
            until,
            issuer,
        })
    }

    /// The certificate for clients.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.pem
    }

    /// SHA-256 of the certificate, colon-separated upper-case hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let hex: Vec<String> = Sha256::digest(&self.der)
            .iter()
            .map(|byte| format!("{byte:02X}"))
            .collect();
        hex.join(":")
    }

    /// Whether it ends within `days`.
    #[must_use]
    pub fn ends_within(&self, now: Timestamp, days: i64) -> bool {
        after(now, days) > self.until
    }

    /// Every name and address a certificate for `names` holds.
    #[must_use]
    pub fn wanted(&self, names: &Names) -> BTreeSet<String> {
        alternatives(names).iter().filter_map(text_of).collect()
    }

    /// Signs a server certificate; returns the chain.
    pub fn issue(
        &self,
        key: &KeyPair,
        names: &Names,
        now: Timestamp,
    ) -> Result<(String, Validity), PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = name(&names.hostname);
        params.subject_alt_names = alternatives(names);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let validity = Validity {
            from: after(now, -1),
            until: after(now, SERVER_DAYS).min(self.until),
        };
        params.not_before = date_time_ymd(1970, 1, 1) + since(validity.from);
        params.not_after = date_time_ymd(1970, 1, 1) + since(validity.until);
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok((format!("{}{}", certificate.pem(), self.pem), validity))
    }

    /// Names and validity of a chain, if this authority signed it for `key`.
    #[must_use]
    pub fn examine(&self, chain: &[u8], key: &KeyPair) -> Option<(BTreeSet<String>, Validity)> {
        let mut blocks = x509_parser::pem::Pem::iter_from_buffer(chain);
        let (server, ca) = (blocks.next()?.ok()?, blocks.next()?.ok()?);
        if ca.contents != self.der || blocks.next().is_some() {
            return None;
        }
        let (_, server) = X509Certificate::from_der(&server.contents).ok()?;
        let (_, authority) = X509Certificate::from_der(&self.der).ok()?;
        server.verify_signature(Some(authority.public_key())).ok()?;
        if server.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return None;
        }
        let names = server
            .subject_alternative_name()
            .ok()??
            .value
            .general_names
            .iter();
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(text) => Some((*text).to_owned()),
            GeneralName::IPAddress(bytes) => address(bytes).map(|address| address.to_string()),
            _ => None,
        });
        let moment = |at: i64| Timestamp::from_second(at).ok();
        let validity = Validity {
            from: moment(server.validity().not_before.timestamp())?,
            until: moment(server.validity().not_after.timestamp())?,
        };
        Some((names.collect(), validity))
    }
}

/// Names and addresses of a certificate. A host name that is no DNS name (a developer's machine) is left out rather
/// than refused.
fn alternatives(names: &Names) -> Vec<SanType> {
    let texts = [
        names.hostname.clone(),
        format!("{}.local", names.hostname),
        "localhost".to_owned(),
    ];
    let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses: BTreeSet<IpAddr> = names.addresses.iter().copied().chain(own).collect();
    let texts = texts
        .into_iter()
        .filter_map(|text| text.try_into().ok())
        .map(SanType::DnsName);
    texts
        .chain(addresses.into_iter().map(SanType::IpAddress))
        .collect()
}

fn text_of(name: &SanType) -> Option<String> {
    match name {
        SanType::DnsName(text) => Some(text.as_str().to_owned()),
        SanType::IpAddress(address) => Some(address.to_string()),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::OrganizationName, "SARAi");
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-03-01T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().unwrap()
    }

    fn names() -> Names {
        Names {
            hostname: "kitchen".into(),
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
}
