//! Request bodies: bounded in size and time.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use http_body_util::BodyExt;

use crate::errors::ApiError;

/// How long and how much of an unwanted body is read on, so that a client that is still sending gets to see the
/// answer instead of a reset connection.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Reads a whole body of at most `most` bytes within `time`.
pub async fn read(mut body: Body, most: usize, time: Duration) -> Result<Vec<u8>, ApiError> {
    // What the client announces is refused before a byte of it is read.
    if body.size_hint().lower() > most as u64 {
        linger(body);
        return Err(too_large(most));
    }
    let collected = tokio::time::timeout(time, collect(&mut body, most)).await;
    match collected {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            if error.status == StatusCode::PAYLOAD_TOO_LARGE {
                linger(body);
            }
            Err(error)
        }
        Err(_elapsed) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "request_timeout",
            format!("The body did not arrive within {} ms.", time.as_millis()),
        )),
    }
}

async fn collect(body: &mut Body, most: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::new(
                StatusCode::BAD_REQUEST,
                "incomplete_body",
                "The body ended before its announced end.",
            )
        })?;
        // Trailers carry nothing the gateway reads.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > most {
            return Err(too_large(most));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn too_large(most: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "body_too_large",
        format!("The body is larger than the {most} bytes that are accepted."),
    )
}

/// Reads a body that nobody wants for a short while, beside the response.
pub fn linger(mut body: Body) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(tokio::time::timeout(LINGER, async move {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, |data| data.len());
            if seen > LINGER_BYTES {
                return;
            }
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_up_to_the_bound_is_read_and_one_byte_more_is_not() {
        let time = Duration::from_secs(1);
        assert_eq!(
            read(Body::from(vec![7; 100]), 100, time).await.unwrap(),
            vec![7; 100]
        );
        assert_eq!(
            read(Body::from(vec![7; 101]), 100, time)
                .await
                .unwrap_err()
                .status,
            413
        );
        assert_eq!(read(Body::empty(), 100, time).await.unwrap(), Vec::<u8>::new());
    }
}
