//! One merge from its files to its model, as the supervisor orders it.

use std::fs::File;
use std::ops::ControlFlow;
use std::time::Duration;

use sarai_wire::bounds::training::THREADS;
use sarai_wire::merge::{MergeOutcome, MergeStart, Merging};
use sarai_wire::training::FromTrainer;
use sha2::{Digest as _, Sha256};

use super::{Order, merge};
use crate::Error;
use crate::lora_file;
use crate::training::control::Control;
use crate::training::output::{self, OutputError};
use crate::training::{hex, unhex};

/// Time between two looks at whether it may go on, should nobody say so.
const LOOK: Duration = Duration::from_secs(3600);

/// What a merge reads and writes.
#[derive(Debug)]
pub struct Files {
    /// The base model.
    pub base: File,
    /// The adapter.
    pub adapter: File,
    /// The merged model.
    pub output: File,
}

/// Why there is no merged model. Texts fit after "failed to".
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// What is given as a digest is none.
    #[error("merge: a digest must be 64 lower-case hex digits")]
    Digest,
    /// The number of threads.
    #[error("merge: threads is {found}, must be {least} to {most}", least = THREADS.start(), most = THREADS.end())]
    Threads {
        /// What was given.
        found: u32,
    },
    /// Base or adapter.
    #[error(transparent)]
    Content(#[from] Error),
    /// The merged model's file.
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Merges, and says how far it is; last [`FromTrainer::Merged`] or [`FromTrainer::Stopped`].
///
/// # Errors
/// Why there is no merged model; what is in its file is of no use.
pub fn session(
    start: &MergeStart,
    files: &Files,
    control: &Control,
    tell: &mut dyn FnMut(FromTrainer),
) -> Result<(), MergeError> {
    if !THREADS.contains(&start.threads) {
        return Err(MergeError::Threads { found: start.threads });
    }
    let digests = (unhex(&start.base), unhex(&start.adapter));
    let (Some(_), Some(expected)) = digests else {
        return Err(MergeError::Digest);
    };
    let adapter = lora_file::bytes(&files.adapter, lora_file::MAX_BYTES)?;
    let found: [u8; 32] = Sha256::digest(&adapter).into();
    if found != expected {
        let (found, expected) = (hex(&found), &start.adapter);
        let why = format!("its SHA-256 is {found}, not {expected}");
        return Err(Error::AdapterFile(why).into());
    }
    let order = Order {
        base: &files.base,
        base_digest: &start.base,
        adapter: &adapter,
        adapter_digest: &start.adapter,
        threads: start.threads as usize,
    };
    let mut watch = |written, all| {
        control.count();
        tell(FromTrainer::Merging(Merging { written, all }));
        while control.paused() && !control.stopping() {
            control.wait(LOOK);
        }
        if control.stopping() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let mut merged = None;
    let written = output::write(&files.output, |to| {
        merged = Some(merge(order, to, &mut watch)?);
        Ok(())
    });
    let last = match (written, merged) {
        (Ok(written), Some(merged)) => FromTrainer::Merged(MergeOutcome {
            tensors: merged.tensors as u64,
            lost: merged.lost,
            size: written.size,
            sha256: written.sha256,
        }),
        (Err(OutputError::Content(Error::Stopped)), _) => FromTrainer::Stopped {
            step: 0,
            saved: false,
        },
        (Err(error), _) => return Err(error.into()),
        // What wrote the file is what merged.
        (Ok(_), None) => return Err(Error::Stopped.into()),
    };
    tell(last);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _, Write as _};
    use std::sync::Arc;
    use std::sync::mpsc;

    use super::*;
    use crate::learner::Learner as _;
    use crate::made_up::Shape;
    use crate::model::{Architecture, Base, LoraConfig, LoraModel, write_adapter};

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn sha256(bytes: &[u8]) -> String {
        hex(&Sha256::digest(bytes).into())
    }

    /// A base and an adapter that adds something, each with its digest in the order.
    fn work() -> (MergeStart, Vec<u8>, Vec<u8>) {
        let mut base = Vec::new();
        Shape::tiny(Architecture::Llama).write(&mut base).unwrap();
        let mapped = Arc::new(Base::map(&file(&base)).unwrap());
        let model = LoraModel::new(&mapped, LoraConfig::default(), 1).unwrap();
        let parameters: Vec<f32> = model.initial(1).iter().map(|value| value + 0.01).collect();
        let mut adapter = Vec::new();
        write_adapter(&model, &parameters, &mut adapter).unwrap();
        let start = MergeStart {
            base: sha256(&base),
            adapter: sha256(&adapter),
            threads: 2,
        };
        (start, base, adapter)
    }

    fn files(base: &[u8], adapter: &[u8]) -> Files {
        Files {
            base: file(base),
            adapter: file(adapter),
            output: tempfile::tempfile().unwrap(),
        }
    }

    fn written(files: &Files) -> Vec<u8> {
        let (mut output, mut bytes) = (&files.output, Vec::new());
        output.rewind().unwrap();
        output.read_to_end(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_said_is_what_is_in_the_file_and_the_file_is_the_merge() {
        let (start, base, adapter) = work();
        let files = files(&base, &adapter);
        let mut said = Vec::new();
        let control = Control::default();
        session(&start, &files, &control, &mut |message| said.push(message)).unwrap();
        let bytes = written(&files);
        let Some(FromTrainer::Merged(outcome)) = said.pop() else {
            panic!("{said:?}")
        };
        assert_eq!(
            (outcome.size, outcome.sha256),
            (bytes.len() as u64, sha256(&bytes))
        );
        assert!(outcome.tensors == 14 && outcome.lost < 0.03, "{}", outcome.lost);
        let all = bytes.len() as u64;
        assert_eq!(
            said.last(),
            Some(&FromTrainer::Merging(Merging { written: all, all }))
        );
        assert_eq!(control.rows(), said.len() as u64);
        let mut by_hand = Vec::new();
        let order = Order {
            base: &files.base,
            base_digest: &start.base,
            adapter: &adapter,
            adapter_digest: &start.adapter,
            threads: 1,
        };
        merge(order, &mut by_hand, &mut |_, _| ControlFlow::Continue(())).unwrap();
        assert!(bytes == by_hand);
    }

    #[test]
    fn it_stands_still_and_ends_as_it_is_told() {
        let (start, base, adapter) = work();
        let control = Arc::new(Control::default());
        control.pause(true);
        let (to, from) = mpsc::channel();
        let working = Arc::clone(&control);
        let thread = std::thread::spawn(move || {
            let files = files(&base, &adapter);
            session(&start, &files, &working, &mut |message| to.send(message).unwrap())
        });
        assert!(matches!(from.recv(), Ok(FromTrainer::Merging(_))));
        let still = from.recv_timeout(Duration::from_millis(200));
        assert_eq!(still, Err(mpsc::RecvTimeoutError::Timeout));
        control.stop();
        assert_eq!(
            from.recv(),
            Ok(FromTrainer::Stopped {
                step: 0,
                saved: false
            })
        );
        thread.join().unwrap().unwrap();
    }

    #[test]
    fn what_is_not_as_attested_or_out_of_bounds_is_refused() {
        let (start, base, adapter) = work();
        let refused = |start: &MergeStart, adapter: &[u8]| {
            let files = files(&base, adapter);
            let end = session(start, &files, &Control::default(), &mut |_| {});
            end.unwrap_err().to_string()
        };
        let mut other = adapter.clone();
        let last = other.len() - 40;
        other[last] ^= 1;
        assert!(refused(&start, &other).starts_with("use the adapter: its SHA-256 is"));
        let many = MergeStart {
            threads: 65,
            ..start.clone()
        };
        assert_eq!(refused(&many, &adapter), "merge: threads is 65, must be 1 to 64");
        let wrong = MergeStart {
            base: "x".into(),
            ..start
        };
        assert!(refused(&wrong, &adapter).contains("64 lower-case hex digits"));
    }
}
