//! Puts the routes together with what surrounds them.

use std::time::Duration;

use axum::{
    Json, Router,
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{from_fn_with_state, map_response},
    routing::{get, post},
};
use jobs::QueueFigures;
use metrics_exporter_prometheus::PrometheusHandle;
use store::{backups::BackupFigures, bus::Bus, spend::SpendFigures};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
    set_header::SetResponseHeaderLayer,
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    client::require_client,
    config::{AllowedOrigins, Environment},
    docs::Description,
    observe,
    problem::{Code, Problem, give_every_error_the_same_form, of_panic},
    routes,
    site_key::{WIDGET_TOKEN, require_widget_token},
    sse::PROTOCOL,
    state::State,
};

/// How long a browser may remember what a preflight allowed.
const PREFLIGHT_AGE: Duration = Duration::from_mins(10);

/// The API, at `/` and below `/api/v1`.
pub fn router(state: State) -> Router {
    let (chat, _) = chat_routes().split_for_parts();
    let chat = chat
        // Before the layers, which then surround it: a preflight is a method of its own.
        .method_not_allowed_fallback(method_not_allowed)
        .route_layer(from_fn_with_state(state.clone(), require_widget_token))
        .route_layer(from_fn_with_state(state.clone(), require_client))
        .layer(cors(&state.config().allowed_origins));
    let (service, _) = service_routes().split_for_parts();
    let document = document();
    let docs = Config::from("/openapi.json");
    let mut routes = chat
        .merge(service)
        .route("/openapi.json", get(move || async move { Json(document) }))
        .merge(SwaggerUi::new("/docs").config(docs));
    if state.config().environment != Environment::Production {
        routes = routes.route("/demo", get(routes::demo::get));
    }
    Router::new()
        .merge(routes.clone())
        .nest("/api/v1", routes)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(give_every_error_the_same_form))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(CatchPanicLayer::custom(of_panic))
        .layer(from_fn_with_state(state.clone(), observe::observe))
        .with_state(state)
}

/// What is served on the metrics port.
pub fn metrics_router(
    recorder: PrometheusHandle,
    queues: QueueFigures,
    spend: SpendFigures,
    backups: BackupFigures,
    bus: Bus,
) -> Router {
    let figures = routes::metrics::Figures {
        recorder,
        queues,
        spend,
        backups,
    };
    Router::new()
        .route("/metrics", get(routes::metrics::get))
        .with_state(figures)
        .route("/wake", post(routes::wake::post).with_state(bus))
        .route("/health", get(routes::health::get))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
}

/// The API's description as indented JSON, the same for the same code.
pub fn openapi() -> String {
    let mut text = document().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> utoipa::openapi::OpenApi {
    OpenApiRouter::with_openapi(Description::openapi())
        .merge(chat_routes())
        .merge(service_routes())
        .into_openapi()
}

async fn not_found() -> Problem {
    Problem::new(Code::NotFound)
}

async fn method_not_allowed() -> Problem {
    Problem::new(Code::MethodNotAllowed)
}

fn chat_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(routes::chat::post))
        .routes(routes!(routes::transcript::get))
        .routes(routes!(routes::stream::get))
        .routes(routes!(routes::cancel::post))
        .routes(routes!(routes::contact::post))
        .routes(routes!(routes::feedback::post))
        .routes(routes!(routes::close::post))
        .routes(routes!(routes::export::get))
        .routes(routes!(routes::erase::delete))
}

fn service_routes() -> OpenApiRouter<State> {
    OpenApiRouter::new()
        .routes(routes!(routes::health::get))
        .routes(routes!(routes::ready::get))
        .routes(routes!(routes::widget::get))
        .routes(routes!(routes::slack_events::post))
        .routes(routes!(routes::slack_interactions::post))
}

fn cors(origins: &AllowedOrigins) -> CorsLayer {
    let origins = match origins {
        AllowedOrigins::Any => AllowOrigin::any(),
        AllowedOrigins::These(origins) => AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok()),
        ),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::DELETE, Method::OPTIONS])
        .allow_headers([
            header::CONTENT_TYPE,
            HeaderName::from_static(WIDGET_TOKEN),
            header::AUTHORIZATION,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static(observe::TRACEPARENT),
        ])
        .expose_headers([PROTOCOL, header::RETRY_AFTER])
        .max_age(PREFLIGHT_AGE)
}
