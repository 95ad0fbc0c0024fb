//! How well the engine does with an adapter, or without: how likely it finds what was held out and general texts, and how
//! many questions it answers right. Asked of the engine that serves, one request at a time, behind everybody else.

use std::fs::File;
use std::time::Duration;

use sarai_reflection::{Begun, Failure, FailureKind, Out, Piece, Refused, Source};
use sarai_wire::adapter::{Apply, is_digest};
use sarai_wire::engine::{Generate, Message, Role, Score};
use sarai_wire::night::{Likelihood, MeasureOrder, Measured};
use tokio::time::Instant;

use super::examples::{self, GateExample};
use super::suite::{self, Suite};
use crate::engine::{Patience, Pin, Trouble};
use crate::house::House;

/// Whose requests these are, for the engine's queue. No key has such a name.
const CLIENT: &str = "the night";
/// How long the engine is waited for: a long text is read without a word.
const PATIENCE: Patience = Patience {
    hello: Duration::from_secs(5),
    silence: Duration::from_secs(300),
    probe: Some((Duration::from_secs(5), Duration::from_secs(5))),
};
/// How often a request is tried again.
const AGAIN: u32 = 5;
/// The pause before the first time; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// How often it is looked whether people's requests are in the house.
const LOOK: Duration = Duration::from_millis(25);
/// How often one request is given up for people's.
const GIVEN_UP: u32 = 3;
/// Which part of its time is spent waiting for people's requests to end; after that it goes on beside them.
const COURTESY: u32 = 2;

/// Measures the primary engine with the order's adapter on the gate's `examples` and on what ships with the gateway. The
/// future is dropped when the night ends.
///
/// # Errors
/// Why nothing was measured; fits after "failed to".
pub async fn measure(house: &House, order: MeasureOrder, examples: File) -> Result<Measured, String> {
    if !is_digest(&order.base)
        || order
            .adapter
            .as_deref()
            .is_some_and(|adapter| !is_digest(adapter))
    {
        return Err("read the order: a digest has no 64 lower-case hex digits".to_owned());
    }
    let began = Instant::now();
    let within = Duration::from_secs(order.within_s.into());
    let mut measuring = Measuring {
        house,
        order: &order,
        courtesy: within / COURTESY,
    };
    let Ok(measured) = tokio::time::timeout(within, measuring.run(examples)).await else {
        return Err(format!("measure the engine within {} s", order.within_s));
    };
    let measured = Measured {
        seconds: began.elapsed().as_secs_f64(),
        ..measured?
    };
    house.metrics.night.measured(&measured);
    tracing::info!(
        adapter = order.adapter.as_deref().unwrap_or("none"),
        held_out = measured.held_out.mean(),
        general = measured.general.mean(),
        asked = measured.asked,
        right = measured.right,
        seconds = measured.seconds.round(),
        "measured the engine"
    );
    Ok(measured)
}

/// One measurement.
struct Measuring<'a> {
    house: &'a House,
    order: &'a MeasureOrder,
    /// How long it may still wait for people.
    courtesy: Duration,
}

/// How often something may still be tried again.
struct Again {
    tries: u32,
    pause: Duration,
}

impl Again {
    fn new() -> Self {
        Self {
            tries: AGAIN,
            pause: PAUSE,
        }
    }

    /// Waits for the next time, and says whether there is one.
    async fn come(&mut self) -> bool {
        if self.tries == 0 {
            return false;
        }
        self.tries -= 1;
        tokio::time::sleep(self.pause).await;
        self.pause *= 2;
        true
    }
}

/// What the engine is asked.
enum Ask {
    Score(Score),
    Answer(Generate),
}

/// What it says.
enum Said {
    /// Negative log-likelihood and tokens of a text.
    Scored(f64, u64),
    /// Its answer.
    Answer(String),
}

impl Measuring<'_> {
    async fn run(&mut self, examples: File) -> Result<Measured, String> {
        let reading = tokio::task::spawn_blocking(move || examples::read(&examples));
        let examples = reading
            .await
            .map_err(|e| format!("read the gate's examples: {e}"))?;
        let examples = examples.map_err(|error| error.to_string())?;
        let Suite { questions, texts, .. } =
            suite::suite().map_err(|error| format!("read the questions of the night: {error}"))?;
        self.check_base().await?;
        let mut measured = Measured {
            held_out: Likelihood::default(),
            general: Likelihood::default(),
            asked: 0,
            right: 0,
            seconds: 0.0,
        };
        for (number, GateExample { messages, target }) in examples.into_iter().enumerate() {
            let id = format!("held-out-{}", number + 1);
            self.add(&mut measured.held_out, &id, messages, target).await?;
        }
        for text in texts {
            self.add(
                &mut measured.general,
                &text.id,
                question(&text.ask),
                text.answer.clone(),
            )
            .await?;
        }
        for asked in questions {
            if let Some(answer) = self.answer(&asked.id, question(&asked.ask)).await? {
                measured.asked += 1;
                measured.right += u32::from(asked.is_right(&answer));
            }
        }
        // It may have been started anew meanwhile, with another model.
        self.check_base().await?;
        Ok(measured)
    }

    /// Whether the engine runs the model that the order means.
    async fn check_base(&self) -> Result<(), String> {
        let mut again = Again::new();
        loop {
            match self.house.primary.info(PATIENCE.hello).await {
                Ok(info) if info.digest == self.order.base => return Ok(()),
                Ok(_) => {
                    return Err(
                        "measure the primary engine: it runs another model than the one ordered".to_owned(),
                    );
                }
                Err(trouble) => {
                    if !again.come().await {
                        return Err(trouble.to_string());
                    }
                }
            }
        }
    }

    /// Adds a text that answers a conversation. One that no context holds is left out.
    async fn add(
        &mut self,
        to: &mut Likelihood,
        id: &str,
        messages: Vec<Message>,
        text: String,
    ) -> Result<(), String> {
        let score = Score {
            id: format!("night-{id}"),
            client: CLIENT.to_owned(),
            messages,
            text,
            apply: self.apply(),
        };
        if let Some(Said::Scored(nll, tokens)) = self.ask(&Ask::Score(score)).await? {
            to.nll += nll;
            to.tokens += tokens;
            to.texts += 1;
        }
        Ok(())
    }

    /// The greedy answer; `None` where no context holds the question.
    async fn answer(&mut self, id: &str, messages: Vec<Message>) -> Result<Option<String>, String> {
        let generate = Generate {
            id: format!("night-{id}"),
            client: CLIENT.to_owned(),
            messages,
            max_tokens: Some(suite::ANSWER_TOKENS),
            apply: self.apply(),
            // The most likely token at each step.
            ..Generate::default()
        };
        match self.ask(&Ask::Answer(generate)).await? {
            Some(Said::Answer(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    fn apply(&self) -> Apply {
        Apply::Exactly {
            digest: self.order.adapter.clone(),
        }
    }

    /// What the engine says, which is asked again when it could not; `None` when what is asked is longer than the context
    /// that it was started with, so with every adapter alike.
    async fn ask(&mut self, ask: &Ask) -> Result<Option<Said>, String> {
        let mut again = Again::new();
        let mut given_up = 0;
        loop {
            self.wait_for_people().await;
            let said = tokio::select! {
                biased;
                said = self.once(ask) => said,
                () = self.people_come(), if given_up < GIVEN_UP => {
                    // Dropped, the request is cancelled.
                    given_up += 1;
                    continue;
                }
            };
            let trouble = match said {
                Ok(said) => return Ok(Some(said)),
                Err(trouble) => trouble,
            };
            if is_too_long(&trouble) && self.context_is_whole().await {
                return Ok(None);
            }
            if !again.come().await {
                return Err(trouble.to_string());
            }
        }
    }

    async fn once(&self, ask: &Ask) -> Result<Said, Trouble> {
        let engine = &self.house.primary;
        match ask {
            Ask::Score(score) => {
                let tokens = engine.score(score.clone(), PATIENCE).await?;
                let nll: f64 = tokens.iter().map(|token| -f64::from(token.logprob)).sum();
                if !nll.is_finite() {
                    return Err(Trouble::Protocol("a likelihood that is no number".to_owned()));
                }
                Ok(Said::Scored(nll, tokens.len() as u64))
            }
            Ask::Answer(generate) => {
                let mut answer = Answer::default();
                let pin = Pin::default();
                engine
                    .generate(generate.clone(), PATIENCE, None, &pin, &mut answer)
                    .await?;
                let with = answer.source.and_then(|source| source.adapter);
                if with.map(|adapter| adapter.digest) != self.order.adapter {
                    return Err(Trouble::Protocol("it answered with another adapter".to_owned()));
                }
                Ok(Said::Answer(answer.text))
            }
        }
    }

    /// Whether people's requests are in the house.
    fn people(&self) -> bool {
        self.house.metrics.chats.get() > 0
    }

    /// Waits until people's requests have ended, as long as it may.
    async fn wait_for_people(&mut self) {
        while self.people() && !self.courtesy.is_zero() {
            let from = Instant::now();
            tokio::time::sleep(LOOK).await;
            self.courtesy = self.courtesy.saturating_sub(from.elapsed());
        }
    }

    /// Resolves once somebody has to be given way to.
    async fn people_come(&self) {
        if self.courtesy.is_zero() {
            std::future::pending::<()>().await;
        }
        while !self.people() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Whether the engine has the context that it was started with. One that is smaller for the moment says nothing of how
    /// long a text is.
    async fn context_is_whole(&self) -> bool {
        let info = self.house.primary.info(PATIENCE.hello).await;
        info.is_ok_and(|info| info.context >= info.configured)
    }
}

fn is_too_long(trouble: &Trouble) -> bool {
    let kind = FailureKind::ContextLength;
    matches!(trouble, Trouble::Request(Failure { kind: had, .. }) if *had == kind)
}

fn question(ask: &str) -> Vec<Message> {
    vec![Message {
        role: Role::User,
        content: ask.to_owned(),
    }]
}

/// Takes an answer in.
#[derive(Default)]
struct Answer {
    source: Option<Source>,
    text: String,
}

impl Out for Answer {
    async fn began(&mut self, begun: Begun) -> Result<(), Refused> {
        self.source = Some(begun.source);
        Ok(())
    }

    async fn piece(&mut self, piece: Piece) -> Result<(), Refused> {
        /// Far more than the answer's tokens can be.
        const MOST: usize = 64 * 1024;
        if self.text.len() + piece.text.len() > MOST {
            return Err(Refused::TooLong);
        }
        self.text.push_str(&piece.text);
        Ok(())
    }

    async fn restart(&mut self, _reason: &str) -> Result<(), Refused> {
        Err(Refused::TooLate)
    }
}
