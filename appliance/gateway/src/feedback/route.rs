//! `POST /v1/feedback`: `{"completion_id", "score", "correction"?, "comment"?}`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode};
use axum::{Extension, Json};
use sarai_feedback::keeper::Refused;
use sarai_feedback::{Given, Invalid, JudgeError, Judgment};
use serde::Serialize;
use serde_json::{Map, Value};

use super::NotKept;
use crate::body;
use crate::errors::ApiError;
use crate::house::{House, new_id};
use crate::json;
use crate::params::{Params, missing, out_of_range, wrong_type};
use crate::routes::{Client, expect_json};

/// What the client is told. The same request again is answered with the same.
#[derive(Debug, Serialize)]
pub struct Kept {
    id: String,
    object: &'static str,
    /// Unix seconds.
    created: i64,
    completion_id: String,
    score: f64,
    correction: Option<String>,
    comment: Option<String>,
}

/// The route.
pub async fn give(
    State(house): State<Arc<House>>,
    Extension(Client(client)): Extension<Client>,
    request: Request<Body>,
) -> Result<Json<Kept>, ApiError> {
    let given = take(&house, client, request).await;
    let kind = match &given {
        Ok((_, Given { repeated: true, .. })) => "repeated",
        Ok((
            _,
            Given {
                replaced: Some(_), ..
            },
        )) => "changed",
        Ok(_) => "new",
        Err(error) if error.status == StatusCode::TOO_MANY_REQUESTS => "limited",
        Err(error) if error.status.is_server_error() => "failed",
        Err(_) => "refused",
    };
    house.metrics.feedback(kind);
    given.map(|(kept, _)| Json(kept))
}

async fn take(house: &House, client: String, request: Request<Body>) -> Result<(Kept, Given), ApiError> {
    let (parts, body) = request.into_parts();
    if let Err(error) = expect_json(&parts.headers) {
        body::linger(body);
        return Err(error);
    }
    let (completion_id, judgment) = {
        let Ok(_upload) = house.uploads.try_acquire() else {
            body::linger(body);
            return Err(ApiError::unavailable(
                "busy",
                "Too many requests are being read.",
                2,
            ));
        };
        let bytes = body::read(body, house.limits.body, house.limits.body_time).await?;
        parse(json::object(&bytes)?)?
    };
    let given = house
        .feedback
        .judge(client, completion_id.clone(), judgment.clone(), new_id("fb-"))
        .await
        .map_err(refusal)?;
    // Where the very same was there already, nothing is new.
    if let Some(of) = &given.of
        && house.primary.runs(&of.digest)
    {
        house
            .quality
            .judged(of.adapter.as_deref(), judgment.verdict(), given.replaced);
    }
    let Judgment {
        score,
        correction,
        comment,
    } = judgment;
    let kept = Kept {
        id: given.id.clone(),
        object: "feedback",
        created: given.time.as_second(),
        completion_id,
        score,
        correction,
        comment,
    };
    Ok((kept, given))
}

/// Reads the body's members.
fn parse(body: Map<String, Value>) -> Result<(String, Judgment), ApiError> {
    let mut params = Params(body);
    let completion_id = text(&mut params, "completion_id")?.ok_or_else(|| missing("completion_id"))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if completion_id.is_empty() || completion_id.len() > 64 || !completion_id.chars().all(plain) {
        return Err(out_of_range("completion_id", "the `id` of an answer"));
    }
    let score = params
        .number("score", 0.0, 1.0)?
        .ok_or_else(|| missing("score"))?;
    let correction = text(&mut params, "correction")?;
    let comment = text(&mut params, "comment")?;
    if let Some(name) = params.0.keys().next() {
        let shown: String = name.chars().take(64).collect();
        let message = format!("`{shown}` is not a parameter of feedback.");
        return Err(ApiError::param(shown, "unknown_parameter", message));
    }
    let judgment = Judgment::new(score, correction, comment).map_err(|invalid| invalid_value(&invalid))?;
    Ok((completion_id, judgment))
}

fn text(params: &mut Params, name: &str) -> Result<Option<String>, ApiError> {
    match params.take(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "a string")),
    }
}

fn invalid_value(Invalid { field, why }: &Invalid) -> ApiError {
    ApiError::param(*field, "invalid_value", format!("`{field}`: {why}."))
}

fn refusal(not_kept: NotKept) -> ApiError {
    let refused = match not_kept {
        NotKept::Disabled => {
            let message = "Feedback is turned off here; the admin may turn it on.";
            return ApiError::new(StatusCode::NOT_FOUND, "feedback_disabled", message);
        }
        NotKept::TooFast(seconds) => {
            let message = format!("Too much feedback from this key; try again in {seconds} s.");
            return ApiError {
                retry_after: Some(seconds),
                ..ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", message)
            };
        }
        NotKept::Refused(refused) => refused,
    };
    if refused.is_full() {
        let message = "The appliance's disk is full: the feedback was not kept.";
        return ApiError::new(StatusCode::INSUFFICIENT_STORAGE, "disk_full", message);
    }
    match refused {
        Refused::Judge(JudgeError::Unknown) => ApiError {
            status: StatusCode::NOT_FOUND,
            ..ApiError::param(
                "completion_id",
                "completion_not_found",
                "No answer with this id may be judged with this key. An answer can be judged for two days, by the key \
                 it was given to, unless it was asked for with `store` false, is very long, or was to be forgotten.",
            )
        },
        Refused::Judge(JudgeError::TooOften) => ApiError::new(
            StatusCode::CONFLICT,
            "judged_too_often",
            "This answer was judged too often; the last judgment stays.",
        ),
        Refused::Judge(JudgeError::Invalid(invalid)) => ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "record_too_large",
            format!(
                "The feedback is too long together with its answer: {}.",
                invalid.why
            ),
        ),
        Refused::Busy => ApiError::unavailable("busy", "Too much feedback is waiting to be kept.", 2),
        // What is wrong with the files is in the admin's log.
        Refused::Away(_) | Refused::Judge(JudgeError::Journal(_)) | Refused::Store(_) => {
            ApiError::unavailable(
                "feedback_unavailable",
                "Feedback cannot be kept now; the admin's log has more.",
                5,
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refused(body: &Value) -> (String, &'static str) {
        let error = parse(body.as_object().unwrap().clone()).unwrap_err();
        (error.param.unwrap_or_default(), error.code)
    }

    #[test]
    fn each_member_is_taken_or_refused_by_its_name() {
        let (id, judgment) = parse(
            json!({"completion_id": "chatcmpl-1", "score": 1, "correction": null, "comment": "x"})
                .as_object()
                .unwrap()
                .clone(),
        )
        .unwrap();
        assert_eq!((id.as_str(), judgment.score), ("chatcmpl-1", 1.0));
        assert_eq!(judgment.comment.as_deref(), Some("x"));
        for (body, param, code) in [
            (json!({}), "completion_id", "missing_required_parameter"),
            (
                json!({"completion_id": "c"}),
                "score",
                "missing_required_parameter",
            ),
            (
                json!({"completion_id": 7, "score": 1}),
                "completion_id",
                "invalid_type",
            ),
            (
                json!({"completion_id": "a b", "score": 1}),
                "completion_id",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c".repeat(65), "score": 1}),
                "completion_id",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c", "score": "1"}),
                "score",
                "invalid_type",
            ),
            (
                json!({"completion_id": "c", "score": 1.01}),
                "score",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c", "score": -0.01}),
                "score",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c", "score": 1, "correction": []}),
                "correction",
                "invalid_type",
            ),
            (
                json!({"completion_id": "c", "score": 1, "correction": "x".repeat(70_000)}),
                "correction",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c", "score": 1, "comment": "x".repeat(9_000)}),
                "comment",
                "invalid_value",
            ),
            (
                json!({"completion_id": "c", "score": 1, "stars": 5}),
                "stars",
                "unknown_parameter",
            ),
        ] {
            assert_eq!(refused(&body), (param.to_owned(), code), "{body}");
        }
    }
}
