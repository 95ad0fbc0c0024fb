//! The supervisor's part of feedback: its folder, handing its files to the admin unread, and passing on what is to be
//! forgotten. What is in the files came from the LAN.

use std::time::Duration;

use sarai_audit::folder::Series;
use sarai_wire::control::Reply;
use sarai_wire::feedback::{FILES, FeedbackStart, Forget};

use crate::app::{App, Shared};
use crate::audit::{self, Gathered};
use crate::config::is_name;
use crate::night;
use crate::service::GATEWAY;
use crate::spawn;

/// Topic of a folder that cannot be made.
const FOLDER: &str = "feedback";
/// Bytes of the disk that feedback leaves free: the logs and the audit log go on when it no longer does.
const RESERVE: u64 = 32 * 1024 * 1024;
/// Longest wait for the gateway to take what is forgotten out of its files: up to 2 GiB are read, and parts written anew.
const FORGET: Duration = Duration::from_secs(50);

fn owner(app: &Shared) -> Option<u32> {
    app.layout.separate.then_some(spawn::GATEWAY.id)
}

/// What the gateway is told of it; makes the folder, which is the gateway's own.
pub fn start(app: &Shared) -> FeedbackStart {
    let folder = app.layout.feedback();
    match audit::make_folder(&folder, owner(app)) {
        Ok(()) => app.problems.clear(FOLDER),
        Err(e) => app
            .problems
            .set(FOLDER, format!("no feedback can be kept: failed to {e}")),
    }
    FeedbackStart {
        folder,
        settings: app.config.feedback.clone(),
        reserve: RESERVE,
    }
}

/// The files, as descriptors.
///
/// # Errors
/// When a file cannot be opened, or something else stands in its place.
pub fn gather(app: &Shared) -> Gathered {
    let opened = audit::open(&app.layout.feedback(), Series(FILES), owner(app))?;
    let (files, opened) = opened.into_iter().unzip();
    Ok((Reply::Feedback { files }, opened))
}

/// Has the gateway forget.
pub async fn forget(app: &App, what: Forget) -> Reply {
    let refused = |message: String| Reply::Error { message };
    let name = match &what {
        Forget::Completion { id } => Some(id),
        Forget::Key { name } => Some(name),
        Forget::Everything => None,
    };
    if name.is_some_and(|name| !is_name(name)) {
        return refused("an id or a name is 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned());
    }
    let forgotten = app.orders.forget(GATEWAY, what, FORGET).await;
    night::admin::forget(app).await;
    match forgotten {
        Ok(forgotten) => match forgotten.trouble {
            None => Reply::Forgotten {
                records: forgotten.lines,
            },
            Some(trouble) => {
                let trouble: String = trouble.chars().take(300).collect();
                refused(format!(
                    "it is not all forgotten: failed to {trouble}; what was noted is finished when the gateway starts anew"
                ))
            }
        },
        Err(why) => refused(format!("nothing was forgotten, as far as is known: {why}")),
    }
}
