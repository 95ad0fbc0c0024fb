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
    /// Another one, under which the local network is told of it.
    pub announced: Option<String>,
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
    let announced = names.announced.iter().map(|name| format!("{name}.local"));
    let own = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let addresses: BTreeSet<IpAddr> = names.addresses.iter().copied().chain(own).collect();
    let texts = texts
        .into_iter()
        .chain(announced)
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
mod tests;
