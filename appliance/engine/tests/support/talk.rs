//! A conversation with an engine, and what comes of it.

use std::os::unix::net::UnixStream;

use sarai_wire::adapter::Adapter;
use sarai_wire::engine::{Done, Error, ErrorKind, Event, Generate, Info, Request, Score, Token};
use sarai_wire::frame::{self, FrameError};

/// A connection.
pub struct Talk {
    pub stream: UnixStream,
}

/// What came of a request.
#[derive(Debug)]
pub struct Outcome {
    pub adapter: Option<Adapter>,
    pub prompt: u32,
    pub cached: u32,
    pub tokens: Vec<Token>,
    pub end: Result<Done, Error>,
}

impl Outcome {
    pub fn text(&self) -> String {
        self.tokens.iter().map(|token| token.text.as_str()).collect()
    }

    pub fn done(&self) -> &Done {
        self.end.as_ref().unwrap()
    }

    pub fn refused(&self, kind: ErrorKind) -> &str {
        let error = self.end.as_ref().unwrap_err();
        assert_eq!(error.kind, kind, "{error:?}");
        &error.message
    }
}

impl Talk {
    pub fn send(&mut self, request: Generate) {
        frame::write(&mut self.stream, &Request::Generate(request)).unwrap();
    }

    pub fn send_score(&mut self, request: &Generate, text: &str) {
        let score = Score {
            id: request.id.clone(),
            client: request.client.clone(),
            messages: request.messages.clone(),
            text: text.into(),
            apply: request.apply.clone(),
        };
        frame::write(&mut self.stream, &Request::Score(score)).unwrap();
    }

    pub fn next(&mut self) -> Event {
        frame::read(&mut self.stream).unwrap()
    }

    pub fn try_next(&mut self) -> Result<Event, FrameError> {
        frame::read(&mut self.stream)
    }

    pub fn info(&mut self) -> Info {
        frame::write(&mut self.stream, &Request::Info).unwrap();
        match self.next() {
            Event::Info(info) => info,
            other => panic!("{other:?}"),
        }
    }

    /// Reads until it has its slot.
    pub fn started(&mut self) {
        assert!(matches!(self.next(), Event::Started { .. }));
    }

    /// Reads until a token came.
    pub fn first_token(&mut self) {
        while !matches!(self.next(), Event::Token(_)) {}
    }

    /// Reads to the end.
    pub fn finish(&mut self) -> Outcome {
        let (mut prompt, mut cached, mut tokens) = (0, 0, Vec::new());
        let mut with = None;
        loop {
            match self.next() {
                Event::Started {
                    prompt_tokens,
                    cached_tokens,
                    adapter,
                } => {
                    with = adapter;
                    (prompt, cached) = (prompt_tokens, cached_tokens);
                }
                Event::Token(token) => tokens.push(token),
                Event::Done(done) => {
                    return Outcome {
                        adapter: with,
                        prompt,
                        cached,
                        tokens,
                        end: Ok(done),
                    };
                }
                Event::Error(error) => {
                    return Outcome {
                        adapter: with,
                        prompt,
                        cached,
                        tokens,
                        end: Err(error),
                    };
                }
                other @ (Event::Info(_) | Event::Scored(_) | Event::Counted(_) | Event::Encoded(_)) => {
                    panic!("{other:?}")
                }
            }
        }
    }
}
