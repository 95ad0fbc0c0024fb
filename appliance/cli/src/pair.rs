//! What a new client needs: where the machine is, which certificate to trust, and a key of its own. As text, as JSON,
//! and as a QR code.
//!
//! The code holds `sarai://pair?v=1&url=…&host=…&ca=…&key=…`: an address, the machine's name on the local network (if it
//! is announced), the SHA-256 of the certificate authority's certificate in base64url, and the key's secret. A client
//! fetches the certificate from the server itself, whose chain ends with it, and takes it only if the hash is that one.

use std::fmt::Write;

use sarai_wire::control::{Reply, Request, Status};
use serde_json::json;

use crate::control::{self, Client};
use crate::failure::Failure;
use crate::text::{Paint, clean};
use crate::{discover, qr};

/// Beginning of the names of keys that nobody named.
const UNNAMED: &str = "client";

/// Makes a key and shows everything that goes with it.
pub fn run(mut client: Client, name: Option<String>, json: bool) -> Result<(), Failure> {
    let status = client.status()?;
    // Everything that can be missing, before a key is made that nobody was shown.
    let place = Place::of(&status)?;
    let certificate = discover::certificate(&mut client)?;
    let name = match name {
        Some(name) => name,
        None => free_name(&mut client)?,
    };
    let secret = match client.request(&Request::KeysAdd { name: name.clone() })? {
        Reply::Key { secret, .. } => secret,
        other => return Err(control::unexpected(&other)),
    };
    let uri = place.uri(&secret);
    if json {
        return crate::print_json(&json!({
            "name": name,
            "key": secret,
            "url": place.url,
            "urls": status.urls,
            "host": place.host,
            "ca_fingerprint": place.fingerprint,
            "ca": certificate,
            "uri": uri,
        }));
    }
    let paint = Paint::stdout();
    let mut out = place.text(&name, &secret, paint);
    out.push('\n');
    out.push_str(&qr::render(&uri, paint.is_on())?);
    crate::print(&out)
}

/// A name that no key has.
fn free_name(client: &mut Client) -> Result<String, Failure> {
    let keys = match client.request(&Request::KeysList)? {
        Reply::Keys { keys } => keys,
        other => return Err(control::unexpected(&other)),
    };
    let free = (1..)
        .map(|n: u32| format!("{UNNAMED}-{n}"))
        .find(|name| keys.iter().all(|key| key.name != *name));
    // There are more numbers than keys.
    free.ok_or_else(|| Failure::failed("find a name for the key"))
}

/// Where the machine is, and how it is known to be the one.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    url: String,
    /// Address and port.
    authority: String,
    host: Option<String>,
    /// Colon-separated upper-case hex.
    fingerprint: String,
    hash: [u8; 32],
}

impl Place {
    fn of(status: &Status) -> Result<Self, Failure> {
        let local = |url: &&String| url.contains("//127.") || url.contains("//[::1]");
        let url = status.urls.iter().find(|url| !local(url)).or(status.urls.first());
        let url =
            url.ok_or_else(|| Failure::not_ready("the machine has no address yet; see: sarai status"))?;
        let authority = url.strip_prefix("https://").unwrap_or(url);
        // An IPv6 address has colons of its own, within brackets.
        let has_port = authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.ends_with(']'));
        let authority = if has_port {
            authority.to_owned()
        } else {
            format!("{authority}:443")
        };
        let fingerprint = status
            .ca_fingerprint
            .clone()
            .ok_or_else(|| Failure::not_ready("the machine has no certificate yet; see: sarai status"))?;
        let hash = bytes_of(&fingerprint)
            .ok_or_else(|| Failure::failed("understand the supervisor: its fingerprint is none"))?;
        Ok(Self {
            url: url.clone(),
            authority,
            host: status.announced.clone(),
            fingerprint,
            hash,
        })
    }

    fn uri(&self, secret: &str) -> String {
        let mut uri = format!("sarai://pair?v=1&url={}", escaped(&self.url));
        if let Some(host) = &self.host {
            let _ = write!(uri, "&host={}", escaped(host));
        }
        let _ = write!(uri, "&ca={}&key={}", base64url(&self.hash), escaped(secret));
        uri
    }

    fn text(&self, name: &str, secret: &str, paint: Paint) -> String {
        let mut out = String::new();
        let mut fact = |name: &str, value: &str| {
            out.push_str(&paint.dim(&format!("{name:<13}")));
            out.push_str(&clean(value, false));
            out.push('\n');
        };
        fact("client", name);
        fact("address", &self.url);
        if let Some(host) = &self.host {
            let port = self.authority.rsplit_once(':').map_or("443", |(_, port)| port);
            let port = if port == "443" {
                String::new()
            } else {
                format!(":{port}")
            };
            fact("", &format!("https://{host}{port}"));
        }
        fact("key", &format!("{secret}  (shown this once)"));
        fact("certificate", &self.fingerprint);
        out.push_str("\nGet the certificate, and compare its fingerprint with the one above:\n\n");
        for line in self.fetching() {
            let _ = writeln!(out, "    {}", clean(&line, false));
        }
        out
    }

    /// Commands that fetch the certificate from the server: the last of its chain.
    fn fetching(&self) -> [String; 3] {
        [
            format!(
                "openssl s_client -connect {} -showcerts </dev/null 2>/dev/null |",
                self.authority
            ),
            "  awk '/BEGIN CERT/ {n++} n == 2; /END CERT/ && n == 2 {exit}' >sarai-ca.crt".to_owned(),
            "openssl x509 -in sarai-ca.crt -noout -fingerprint -sha256".to_owned(),
        ]
    }
}

/// The 32 bytes of a fingerprint.
fn bytes_of(fingerprint: &str) -> Option<[u8; 32]> {
    let bytes: Option<Vec<u8>> = fingerprint
        .split(':')
        .map(|pair| {
            let digits = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect();
    bytes?.try_into().ok()
}

/// RFC 4648, section 5, without padding.
fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut out = String::new();
    for part in bytes.chunks(3) {
        let at = |n: usize| u32::from(part.get(n).copied().unwrap_or(0));
        let group = at(0) << 16 | at(1) << 8 | at(2);
        for n in 0..=part.len() {
            let digit = group >> (18 - 6 * n) & 63;
            out.push(char::from(ALPHABET[digit as usize]));
        }
    }
    out
}

/// For a value in a query (RFC 3986): what separates values, and what is no URI character, is escaped.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' | b'/' => {
                out.push(char::from(byte));
            }
            other => {
                let _ = write!(out, "%{other:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> Place {
        let fingerprint = ["AB"; 32].join(":");
        Place {
            url: url.to_owned(),
            authority: url.trim_start_matches("https://").to_owned(),
            host: Some("sarai.local".to_owned()),
            hash: bytes_of(&fingerprint).unwrap(),
            fingerprint,
        }
    }

    #[test]
    fn a_uri_holds_everything_and_nothing_breaks_it() {
        assert_eq!(
            place("https://10.0.0.7:8443").uri("sk-1"),
            "sarai://pair?v=1&url=https://10.0.0.7:8443&host=sarai.local&ca=q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s&key=sk-1"
        );
        assert!(
            place("https://[fd00::1]")
                .uri("a&b=c")
                .contains("url=https://%5Bfd00::1%5D&host")
        );
        assert!(place("https://x").uri("a&b=c").ends_with("key=a%26b%3Dc"));
    }

    #[test]
    fn base64url_is_that_of_the_standard() {
        for (bytes, wanted) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64url(bytes.as_bytes()), wanted);
        }
        assert_eq!(base64url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn fingerprints_are_32_bytes() {
        assert_eq!(bytes_of(&["0F"; 32].join(":")), Some([15; 32]));
        for wrong in [
            "",
            "AA:BB",
            &["0F"; 33].join(":"),
            &["+F"; 32].join(":"),
            &["G0"; 32].join(":"),
        ] {
            assert_eq!(bytes_of(wrong), None, "{wrong}");
        }
    }
}
