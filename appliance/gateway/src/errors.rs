//! Errors as an OpenAI client expects them: `{"error": {"message", "type", "param", "code"}}`.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use sarai_reflection::{Failure, FailureKind};
use serde::Serialize;

/// An error for a client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What is wrong and what to do.
    pub message: String,
    /// The parameter that is wrong, if one is.
    pub param: Option<String>,
    /// A stable name of the error.
    pub code: &'static str,
    /// Seconds after which trying again makes sense.
    pub retry_after: Option<u32>,
}

/// Longest message; what a client sent is quoted in some of them.
const MAX_MESSAGE: usize = 1024;

impl ApiError {
    /// An error with this status and code.
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE {
            let end = (0..=MAX_MESSAGE)
                .rev()
                .find(|&at| message.is_char_boundary(at))
                .unwrap_or(0);
            message.truncate(end);
            message.push('…');
        }
        Self {
            status,
            message,
            param: None,
            code,
            retry_after: None,
        }
    }

    /// 400 because of the parameter `param`.
    pub fn param(param: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param.into()),
            ..Self::new(StatusCode::BAD_REQUEST, code, message)
        }
    }

    /// 503: the house is full or closing.
    pub fn unavailable(code: &'static str, message: impl Into<String>, retry_after: u32) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, code, message)
        }
    }

    /// 401.
    pub fn unauthorized(message: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message)
    }

    /// The JSON body, also the data of an error event in a stream.
    pub fn body(&self) -> String {
        let kind = if self.status.is_server_error() {
            "server_error"
        } else {
            "invalid_request_error"
        };
        let detail = Detail {
            message: &self.message,
            kind,
            param: self.param.as_deref(),
            code: self.code,
        };
        // A struct of strings always has a JSON form.
        serde_json::to_string(&Envelope { error: detail }).unwrap_or_default()
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: Detail<'a>,
}

#[derive(Serialize)]
struct Detail<'a> {
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"sarai\""),
            );
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        match failure.kind {
            FailureKind::Invalid => Self::new(StatusCode::BAD_REQUEST, "invalid_request", failure.message),
            FailureKind::ContextLength => Self::param("messages", "context_length_exceeded", failure.message),
            FailureKind::Busy => Self::unavailable("busy", failure.message, 2),
            FailureKind::Unavailable => Self::unavailable("engine_unavailable", failure.message, 2),
            FailureKind::Timeout => Self::new(StatusCode::GATEWAY_TIMEOUT, "timeout", failure.message),
            // Nobody is there to read it; the number stands in the metrics.
            FailureKind::Cancelled => Self::new(client_closed(), "cancelled", failure.message),
        }
    }
}

/// 499, by custom the status of a request whose client left.
pub fn client_closed() -> StatusCode {
    StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_is_openais() {
        let error = ApiError::param("temperature", "invalid_value", "too hot");
        let value: serde_json::Value = serde_json::from_str(&error.body()).unwrap();
        assert_eq!(
            value,
            serde_json::json!({"error": {
                "message": "too hot", "type": "invalid_request_error", "param": "temperature",
                "code": "invalid_value"
            }})
        );
    }

    #[test]
    fn a_long_message_is_cut_between_characters() {
        let error = ApiError::new(StatusCode::BAD_REQUEST, "x", "é".repeat(2000));
        assert!(error.message.len() <= MAX_MESSAGE + '…'.len_utf8());
    }

    #[test]
    fn a_refusal_tells_how_to_get_in_and_when_to_come_back() {
        let response = ApiError::unauthorized("no").into_response();
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(
            ApiError::unavailable("busy", "", 3).into_response().headers()[header::RETRY_AFTER],
            "3"
        );
    }
}
