//! `GET /chat.js`: the widget, from the committed build.

use std::sync::LazyLock;

use axum::{
    extract::RawQuery,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

static WIDGET: &[u8] = include_bytes!("../../../widget/dist/chat.js");

static ETAG: LazyLock<String> = LazyLock::new(|| {
    let hash = Sha256::digest(WIDGET);
    format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash[..16]))
});

/// For addresses that name a version: they never change.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

/// For the plain address: a new version is seen within minutes.
const MINUTES: &str = "public, max-age=300, stale-while-revalidate=86400";

/// The widget
///
/// `chat.js` is kept for a year under an address with `?v=`, for five minutes otherwise.
#[utoipa::path(
    get,
    path = "/chat.js",
    tag = "service",
    responses(
        (status = 200, description = "The widget", content_type = "text/javascript", body = String),
        (status = 304, description = "The widget is the one that `If-None-Match` names"),
    ),
)]
pub(crate) async fn get(RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let versioned = query.is_some_and(|query| query.split('&').any(|pair| pair.starts_with("v=")));
    let cache = if versioned { FOR_EVER } else { MINUTES };
    let mut response = if is_known(&headers) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let script = [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")];
        (script, WIDGET).into_response()
    };
    let answer = response.headers_mut();
    answer.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(etag) = HeaderValue::from_str(&ETAG) {
        answer.insert(header::ETAG, etag);
    }
    // Sites may load it as a module or with an integrity hash: both need CORS.
    answer.insert(
        header::ACCESS_CONTROL_ALLOW_ORIGIN,
        HeaderValue::from_static("*"),
    );
    response
}

fn is_known(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == *ETAG)
}
