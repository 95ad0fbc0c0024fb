//! Every route, and what comes before each: the key, the count, the id.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::body::{Frame, SizeHint};
use serde_json::json;
use tower::ServiceExt;

use crate::body::linger;
use crate::chat;
use crate::connections::{Connection, Work};
use crate::errors::{ApiError, client_closed};
use crate::feedback;
use crate::house::{House, new_id};

/// Header with the id of a request, for the admin to find it in the log.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The model name that always means whatever is served.
pub const ALIAS: &str = "sarai";

/// Name of the key a request came with.
#[derive(Debug, Clone)]
pub struct Client(pub String);

/// Id of a request.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// The routes.
pub fn router(house: Arc<House>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{*id}", get(model))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/feedback", post(feedback::route::give))
        .fallback(not_found)
        .method_not_allowed_fallback(not_allowed)
        .with_state(house)
}

/// Serves one request, whatever it is.
pub async fn handle(
    house: Arc<House>,
    connection: Arc<Connection>,
    router: Router,
    mut request: Request<Body>,
) -> Result<Response<Body>, Infallible> {
    let id = new_id("req-");
    let work = connection.work();
    let mut counted = Counted {
        house: Arc::clone(&house),
        route: route_of(request.uri().path()),
        status: None,
    };
    let response = match authorize(&house, &request) {
        Ok(client) => {
            request.extensions_mut().insert(RequestId(id.clone()));
            if let Some(client) = client {
                request.extensions_mut().insert(client);
            }
            router
                .oneshot(request)
                .await
                .unwrap_or_else(|never| match never {})
        }
        Err(error) => {
            linger(request.into_body());
            error.into_response()
        }
    };
    counted.status = Some(response.status());
    let mut response = response.map(|body| Body::new(Guarded { body, _work: work }));
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    Ok(response)
}

/// The route's name in metrics: a fixed set, whatever clients ask for.
fn route_of(path: &str) -> &'static str {
    match path {
        "/healthz" => "/healthz",
        "/readyz" => "/readyz",
        "/metrics" => "/metrics",
        "/v1/models" => "/v1/models",
        "/v1/chat/completions" => "/v1/chat/completions",
        "/v1/feedback" => "/v1/feedback",
        _ if path.starts_with("/v1/models/") => "/v1/models/{id}",
        _ => "other",
    }
}

/// Whose key a request carries; nobody's for `/healthz`, which needs none.
fn authorize(house: &House, request: &Request<Body>) -> Result<Option<Client>, ApiError> {
    if request.uri().path() == "/healthz" {
        return Ok(None);
    }
    let mut values = request.headers().get_all(header::AUTHORIZATION).iter();
    let value = match (values.next(), values.next()) {
        (Some(value), None) => value,
        (None, _) => {
            return Err(ApiError::unauthorized(
                "A key is needed: send the header `Authorization: Bearer KEY`. The admin makes keys with \
                 `sarai keys add NAME`.",
            ));
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::unauthorized(
                "The header `Authorization` came more than once.",
            ));
        }
    };
    let secret = value
        .to_str()
        .ok()
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, secret)| secret.trim());
    let Some(secret) = secret else {
        return Err(ApiError::unauthorized(
            "The header `Authorization` must be `Bearer KEY`.",
        ));
    };
    match house.credentials.current().keys.name_of(secret) {
        Some(name) => Ok(Some(Client(name.to_owned()))),
        None => Err(ApiError::unauthorized(
            "This key is not known here, or no longer.",
        )),
    }
}

/// Counts a request when it is over; one that never had a response counts as left by its client.
struct Counted {
    house: Arc<House>,
    route: &'static str,
    status: Option<StatusCode>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let status = self.status.unwrap_or_else(client_closed);
        self.house.metrics.request(self.route, status.as_u16());
    }
}

/// A response's body that keeps its connection marked as in work until it is sent.
struct Guarded {
    body: Body,
    _work: Work,
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn healthz() -> &'static str {
    "ok\n"
}

async fn readyz(State(house): State<Arc<House>>) -> Response<Body> {
    let infos = house.infos().await;
    let engines: serde_json::Map<_, _> = infos
        .iter()
        .map(|(engine, info)| {
            let state = info.as_ref().map_or(json!({"ready": false}), |info| {
                json!({
                    "ready": true, "model": info.model, "queued": info.queued, "running": info.running,
                    "context": info.context, "context_configured": info.configured,
                })
            });
            (engine.name.to_owned(), state)
        })
        .collect();
    let memory = house.ladder.now();
    let ready = infos.iter().any(|(_, info)| info.is_some()) && house.ladder.refusal().is_none();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let memory = json!({"rung": memory.rung.name(), "reason": memory.reason});
    (
        status,
        Json(json!({"ready": ready, "engines": engines, "memory": memory})),
    )
        .into_response()
}

async fn metrics(State(house): State<Arc<House>>) -> Response<Body> {
    for (engine, info) in house.infos().await {
        house.metrics.engine(engine.name, info.as_deref());
    }
    if let Some(stats) = house.audit.stats() {
        house.metrics.audit(stats.records(), stats.lost());
    }
    house.metrics.feedback_lost(house.feedback.lost());
    house.metrics.night.quality(&house.quality.sums());
    match house
        .metrics
        .text(house.connections.len(), house.connections.evicted())
    {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => {
            tracing::error!("failed to write the metrics: {error}");
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "metrics",
                "The metrics cannot be written.",
            )
            .into_response()
        }
    }
}

/// The models clients may name: what each engine runs or last said it runs, and the alias.
async fn known_models(house: &House) -> Vec<serde_json::Value> {
    let mut ids: Vec<String> = Vec::new();
    for (engine, info) in house.infos().await {
        if let Some(info) = info.or_else(|| engine.last_info()) {
            ids.push(info.model.clone());
        }
    }
    if !ids.is_empty() {
        ids.push(ALIAS.to_owned());
    }
    let mut seen = std::collections::HashSet::new();
    ids.retain(|id| seen.insert(id.clone()));
    ids.into_iter()
        .map(|id| json!({"id": id, "object": "model", "created": house.since, "owned_by": "sarai"}))
        .collect()
}

async fn models(State(house): State<Arc<House>>) -> Json<serde_json::Value> {
    Json(json!({"object": "list", "data": known_models(&house).await}))
}

async fn model(State(house): State<Arc<House>>, Path(id): Path<String>) -> Response<Body> {
    match known_models(&house)
        .await
        .into_iter()
        .find(|model| model["id"] == id.as_str())
    {
        Some(model) => Json(model).into_response(),
        None => model_not_found(&id).into_response(),
    }
}

/// 404 for a model that is not served.
pub fn model_not_found(id: &str) -> ApiError {
    ApiError {
        status: StatusCode::NOT_FOUND,
        ..ApiError::param(
            "model",
            "model_not_found",
            format!("The model {id:?} is not served here; `GET /v1/models` lists those that are."),
        )
    }
}

async fn not_found(request: Request<Body>) -> ApiError {
    let path = request.uri().path().to_owned();
    linger(request.into_body());
    ApiError::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("There is nothing at {path:?}."),
    )
}

async fn not_allowed(method: Method, request: Request<Body>) -> ApiError {
    let path = request.uri().path().to_owned();
    linger(request.into_body());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("{method} is not possible at {path:?}."),
    )
}

/// Whether a body may be read as JSON by what its headers say.
pub fn expect_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let wrong = |message: String| {
        Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            message,
        ))
    };
    if headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
    {
        return wrong("The body must not be compressed.".to_owned());
    }
    let Some(kind) = headers.get(header::CONTENT_TYPE) else {
        return Ok(());
    };
    let kind = String::from_utf8_lossy(kind.as_bytes()).to_lowercase();
    if kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim() == "application/json")
    {
        return Ok(());
    }
    wrong(format!("The body must be application/json, not {kind:?}."))
}
