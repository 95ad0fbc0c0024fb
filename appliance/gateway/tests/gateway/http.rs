//! A plain HTTP/1.1 client over TLS, with every byte in the test's hand.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use serde_json::Value;

#[derive(Clone)]
pub struct Client {
    pub address: SocketAddr,
    pub tls: Arc<ClientConfig>,
    pub key: Option<String>,
}

/// Trust in this authority alone, offering this protocol.
pub fn tls(authority: &CertificateDer<'static>, protocol: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Arc::new(config)
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// The error's code, after a check of its shape.
    pub fn error_code(&self) -> String {
        let error = &self.json()["error"];
        assert!(
            !error["message"].as_str().unwrap().is_empty() && error["type"].is_string(),
            "{error}"
        );
        assert!(error.get("param").is_some(), "{error}");
        error["code"].as_str().unwrap().to_owned()
    }
}

pub struct Connection {
    pub stream: BufReader<StreamOwned<ClientConnection, TcpStream>>,
}

impl Client {
    pub fn without_key(&self) -> Self {
        Self {
            key: None,
            ..self.clone()
        }
    }

    pub fn with_key(&self, key: &str) -> Self {
        Self {
            key: Some(key.into()),
            ..self.clone()
        }
    }

    pub fn connect(&self) -> io::Result<Connection> {
        let mut tcp = TcpStream::connect(self.address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(40)))?;
        tcp.set_write_timeout(Some(Duration::from_secs(40)))?;
        let name = "localhost".try_into().unwrap();
        let mut tls = ClientConnection::new(Arc::clone(&self.tls), name).map_err(io::Error::other)?;
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Connection {
            stream: BufReader::new(StreamOwned::new(tls, tcp)),
        })
    }

    /// The head of a request, without its last line.
    pub fn head(&self, method: &str, path: &str) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\n");
        if let Some(key) = &self.key {
            head += &format!("authorization: Bearer {key}\r\n");
        }
        head
    }

    pub fn get(&self, path: &str) -> Reply {
        self.send(&format!("{}\r\n", self.head("GET", path)))
    }

    /// Sends raw text and reads one reply.
    pub fn send(&self, text: &str) -> Reply {
        let mut connection = self.connect().unwrap();
        connection.write(text.as_bytes()).unwrap();
        connection.reply().unwrap()
    }

    /// JSON to another route than that of chats.
    pub fn post_to(&self, path: &str, body: &Value) -> Reply {
        let body = body.to_string();
        let head = self.head("POST", path);
        self.send(&format!(
            "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub fn post(&self, body: impl AsRef<[u8]>) -> Reply {
        let mut connection = self.connect().unwrap();
        self.post_on(&mut connection, body.as_ref());
        connection.reply().unwrap()
    }

    pub fn post_on(&self, connection: &mut Connection, body: &[u8]) {
        let head = self.head("POST", "/v1/chat/completions");
        let head = format!(
            "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        connection.write(&[head.as_bytes(), body].concat()).unwrap();
    }

    /// A chat with these members besides model and messages.
    pub fn chat(&self, more: &Value) -> Reply {
        self.post(chat(more))
    }

    /// The same as a stream.
    pub fn stream(&self, more: &Value) -> Stream {
        let mut more = more.clone();
        more["stream"] = true.into();
        let mut connection = self.connect().unwrap();
        self.post_on(&mut connection, chat(&more).as_bytes());
        let (status, headers) = connection.head().unwrap();
        Stream {
            connection,
            status,
            headers,
            rest: Vec::new(),
        }
    }
}

/// The body of a chat with these members besides model and messages.
pub fn chat(more: &Value) -> String {
    let mut body = serde_json::json!({
        "model": "sarai", "messages": [{"role": "user", "content": "What is the capital of France?"}]
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body.to_string()
}

impl Connection {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    pub fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    pub fn head(&mut self) -> io::Result<(u16, Vec<(String, String)>)> {
        let status = self.line()?;
        let status = status
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .ok_or(io::ErrorKind::InvalidData)?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                return Ok((status, headers));
            };
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }

    /// The status that came although what was being sent could not be sent to its end. Reads without the attempt to
    /// send what is left, which the TLS stream would make first.
    pub fn status_after_failure(mut self) -> u16 {
        let StreamOwned { conn, sock } = self.stream.get_mut();
        let mut text = Vec::new();
        while !text.windows(4).any(|four| four == b"\r\n\r\n") {
            // What was already decrypted comes first; at its end the reader would block.
            let _ = conn.reader().read_to_end(&mut text);
            if conn.read_tls(sock).unwrap() == 0 {
                break;
            }
            conn.process_new_packets().unwrap();
        }
        let _ = conn.reader().read_to_end(&mut text);
        let text = String::from_utf8(text).unwrap();
        text.split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .unwrap_or_else(|| panic!("{text:?}"))
    }

    /// One chunk of a chunked body; empty at its end.
    pub fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = usize::from_str_radix(&self.line()?, 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size];
        self.stream.read_exact(&mut chunk)?;
        self.line()?;
        Ok(chunk)
    }

    pub fn reply(&mut self) -> io::Result<Reply> {
        let (status, headers) = self.head()?;
        let find = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let mut body = Vec::new();
        if let Some(length) = find("content-length") {
            body = vec![0; length.parse().unwrap()];
            self.stream.read_exact(&mut body)?;
        } else if find("transfer-encoding").is_some() {
            loop {
                let chunk = self.chunk()?;
                if chunk.is_empty() {
                    break;
                }
                body.extend(chunk);
            }
        }
        Ok(Reply {
            status,
            headers,
            body,
        })
    }
}

/// A stream of events as it comes.
pub struct Stream {
    pub connection: Connection,
    pub status: u16,
    pub headers: Vec<(String, String)>,
    rest: Vec<u8>,
}

impl Stream {
    /// The next event or comment without its prefix; `None` at the end.
    pub fn next(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.rest.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = self.rest.drain(..end + 2).collect();
                let event = String::from_utf8(event).unwrap();
                let event = event.trim_end();
                return Some(event.strip_prefix("data: ").unwrap_or(event).to_owned());
            }
            let chunk = self.connection.chunk().unwrap();
            if chunk.is_empty() {
                assert!(self.rest.is_empty(), "the stream ended within an event");
                return None;
            }
            self.rest.extend(chunk);
        }
    }

    /// The next event as JSON.
    pub fn json(&mut self) -> Value {
        let event = self.next().unwrap();
        serde_json::from_str(&event).unwrap_or_else(|e| panic!("{e}: {event}"))
    }

    /// Every event to the end, without `[DONE]`, and whether that came last.
    pub fn all(mut self) -> (Vec<Value>, bool) {
        assert_eq!(self.status, 200);
        let mut events = Vec::new();
        while let Some(event) = self.next() {
            if event == "[DONE]" {
                assert_eq!(self.next(), None);
                return (events, true);
            }
            if !event.starts_with(':') {
                events.push(serde_json::from_str(&event).unwrap());
            }
        }
        (events, false)
    }
}

/// All `delta.<field>` joined.
pub fn joined(events: &[Value], field: &str) -> String {
    events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"][field].as_str())
        .collect()
}

/// The `omni_loop` object of a stream.
pub fn omni(events: &[Value]) -> Value {
    events
        .iter()
        .find_map(|event| event.get("omni_loop"))
        .cloned()
        .unwrap()
}
