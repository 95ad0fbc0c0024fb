//! The gateway as a client on the network sees it: where to ask, whom to trust, as whom.
//!
//! It trusts the one certificate it was given and no other, follows no redirect and uses no proxy.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};

use crate::args::ServerOptions;
use crate::discover;
use crate::failure::Failure;

/// Longest response that is not streamed, bytes.
const MAX_BODY: u64 = 16 * 1024 * 1024;
/// Longest wait for the connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A response whose body has not been read.
pub type Response = ureq::http::Response<ureq::Body>;

/// Where to ask, whom to trust, as whom.
pub struct Target {
    url: String,
    ca: String,
    key: String,
}

impl Target {
    /// From the options and the environment; address and certificate else from the control socket.
    pub fn find(options: &ServerOptions, socket: Option<&Path>) -> Result<Self, Failure> {
        // The key first: without it nothing else matters, and only the admin can make one.
        let key = options.key.clone().filter(|key| !key.is_empty()).ok_or_else(|| {
            Failure::usage(
                "no key: set SARAI_KEY (`. ./client.env`) or give --key; make one with: sarai keys add NAME",
            )
        })?;
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Failure::usage("the key holds characters no key has"));
        }
        let mut client = match (&options.url, &options.ca) {
            (Some(_), Some(_)) => None,
            _ => Some(discover::connect(socket).map_err(|failure| Failure {
                message: format!("no --url and --ca given, and {}", failure.message),
                ..failure
            })?),
        };
        let url = match (&options.url, &mut client) {
            (Some(url), _) => url.clone(),
            (None, Some(client)) => client
                .status()?
                .urls
                .into_iter()
                .next()
                .ok_or_else(|| Failure::not_ready("the appliance has no address yet"))?,
            (None, None) => return Err(Failure::usage("no --url given")),
        };
        let ca = match (&options.ca, &mut client) {
            (Some(path), _) => discover::read_certificate(path)?,
            (None, Some(client)) => discover::certificate(client)?,
            (None, None) => return Err(Failure::usage("no --ca given")),
        };
        Ok(Self {
            url: base(&url)?,
            ca,
            key,
        })
    }

    /// Posts to this path. `what` is asked for, in the text of a refusal.
    pub fn post(&self, path: &str, body: &Value, what: &str, timeout: Duration) -> Result<Response, Failure> {
        let roots: Vec<Certificate<'static>> = parse_pem(self.ca.as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if roots.is_empty() {
            return Err(Failure::failed("read the certificate to trust: it is damaged"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(timeout))
            .user_agent(concat!("sarai/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let url = format!("{}{path}", self.url);
        let response = agent
            .post(&url)
            .header("Authorization", format!("Bearer {}", self.key))
            .send_json(body)
            .map_err(|e| unreachable_failure(&self.url, &e, timeout))?;
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response, what))
        }
    }
}

/// The address without what clients add: `https://host[:port]`, also from one that ends in `/v1` as SDKs want it.
fn base(url: &str) -> Result<String, Failure> {
    let trimmed = url.trim_end_matches('/');
    let trimmed = trimmed.strip_suffix("/v1").unwrap_or(trimmed);
    let rest = trimmed.strip_prefix("https://").unwrap_or_default();
    if rest.is_empty() || rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(Failure::usage(format!(
            "{url:?} is no address of an appliance: https://HOST[:PORT]"
        )));
    }
    Ok(trimmed.to_owned())
}

fn unreachable_failure(url: &str, error: &ureq::Error, timeout: Duration) -> Failure {
    match error {
        ureq::Error::Io(e) if e.kind() == std::io::ErrorKind::ConnectionRefused => {
            Failure::not_ready(format!("nobody answers at {url}: connection refused"))
        }
        ureq::Error::Timeout(_) => Failure::not_ready(format!(
            "no answer from {url} in time ({} s; --timeout changes that)",
            timeout.as_secs()
        )),
        ureq::Error::HostNotFound => Failure::not_ready(format!("the name in {url} is not known")),
        error => {
            let text = error.to_string();
            let hint = if text.to_ascii_lowercase().contains("certificate") {
                ": it is not the appliance whose certificate you trust, or SARAI_CA is out of date (sarai ca)"
            } else {
                ""
            };
            Failure::failed(format!("ask {url}: {text}{hint}"))
        }
    }
}

/// An answer that is no success, in the gateway's own words.
fn refusal(response: Response, what: &str) -> Failure {
    let status = response.status().as_u16();
    let later = response
        .headers()
        .get("retry-after")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let body = read_body(response).unwrap_or_default();
    let said = serde_json::from_str::<Envelope>(&body)
        .ok()
        .and_then(|b| b.error)
        .map(ApiError::text);
    let said = said.unwrap_or_else(|| format!("HTTP status {status}"));
    match status {
        401 => Failure::refused(format!("the key is not accepted: {said}")),
        429 | 503 => {
            let later = later.map_or(String::new(), |s| format!(" (try again in {s} s)"));
            Failure::not_ready(format!("the appliance cannot answer now: {said}{later}"))
        }
        _ => Failure::refused(format!("{what} was refused ({status}): {said}")),
    }
}

/// The whole body, within a bound.
pub fn read_body(response: Response) -> Result<String, Failure> {
    response
        .into_body()
        .into_with_config()
        .limit(MAX_BODY)
        .read_to_string()
        .map_err(|e| Failure::failed(format!("read the answer: {e}")))
}

/// The failure for an answer that is no JSON of the expected shape.
pub fn not_understood(error: &serde_json::Error) -> Failure {
    Failure::failed(format!("understand the answer: {error}"))
}

/// The body of an error.
#[derive(Debug, Deserialize)]
struct Envelope {
    error: Option<ApiError>,
}

/// An error in the gateway's words.
#[derive(Debug, Deserialize)]
pub struct ApiError {
    message: Option<String>,
    code: Option<Value>,
}

impl ApiError {
    /// For a person.
    pub fn text(self) -> String {
        let message = self.message.unwrap_or_else(|| "no reason given".to_owned());
        match self.code {
            Some(Value::String(code)) => format!("{message} [{code}]"),
            _ => message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_as_people_write_them() {
        assert_eq!(base("https://10.0.0.7:8443/").unwrap(), "https://10.0.0.7:8443");
        assert_eq!(base("https://sarai.local/v1/").unwrap(), "https://sarai.local");
        for wrong in ["http://10.0.0.7", "10.0.0.7", "https://", "https://a b", ""] {
            assert!(base(wrong).is_err(), "{wrong:?}");
        }
    }
}
