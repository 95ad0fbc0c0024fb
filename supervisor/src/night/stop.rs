//! How a night that runs is ended from outside.

use tokio::sync::watch;

/// The end that whoever runs a night listens to.
pub struct Stop(watch::Receiver<Option<String>>);

/// The end that whoever wants it ended keeps.
pub struct Stopper(watch::Sender<Option<String>>);

/// A pair of both.
#[must_use]
pub fn pair() -> (Stopper, Stop) {
    let (to, from) = watch::channel(None);
    (Stopper(to), Stop(from))
}

impl Stopper {
    /// Has it end; the first reason counts. It fits after "failed to".
    pub fn stop(&self, why: &str) {
        self.0.send_if_modified(|wanted| {
            let first = wanted.is_none();
            if first {
                *wanted = Some(why.to_owned());
            }
            first
        });
    }
}

impl Stop {
    /// Returns once the night is to end, with the reason.
    pub async fn wanted(&mut self) -> String {
        match self.0.wait_for(Option::is_some).await.map(|why| why.clone()) {
            Ok(Some(why)) => why,
            // Nobody is left who could want it.
            _ => std::future::pending().await,
        }
    }

    /// Work, unless the night is to end before it is done.
    ///
    /// # Errors
    /// Why the night is to end.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Result<T, String> {
        tokio::select! {
            done = work => Ok(done),
            why = self.wanted() => Err(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_ends_what_runs_and_what_begins_after_it() {
        let (stopper, mut stop) = pair();
        assert_eq!(stop.unless(async { 5 }).await, Ok(5));
        stopper.stop("go on: it was turned off");
        stopper.stop("go on: another reason");
        let endless = std::future::pending::<()>();
        assert_eq!(
            stop.unless(endless).await,
            Err("go on: it was turned off".to_owned())
        );
        assert_eq!(stop.wanted().await, "go on: it was turned off");
        drop(stopper);
        let late = tokio::time::timeout(std::time::Duration::from_millis(50), stop.wanted()).await;
        assert_eq!(late.unwrap(), "go on: it was turned off");
    }
}
