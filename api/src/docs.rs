//! The API's description: what `/openapi.json` serves, `openapi` prints and `/docs` shows.

use utoipa::{
    Modify, OpenApi,
    openapi::{
        OpenApi as Document,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "growth-chat",
        description = "An embeddable AI website chat. A message is stored before it is answered; \
            the answer streams as the AI SDK's *UI message stream v1*. Every error is an RFC 9457 \
            problem with a stable `code`. All paths are also served below `/api/v1`."
    ),
    tags(
        (name = "chat", description = "A visitor's conversation"),
        (name = "slack", description = "What Slack sends: for Slack only"),
        (name = "service", description = "The service itself"),
    ),
    modifiers(&SecuritySchemes),
)]
pub(crate) struct Description;

struct SecuritySchemes;

impl Modify for SecuritySchemes {
    fn modify(&self, document: &mut Document) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(
            "widget_token",
            SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(
                "X-Widget-Token",
                "The site key. It is public.",
            ))),
        );
        components.add_security_scheme(
            "session_secret",
            SecurityScheme::Http(
                HttpBuilder::new()
                    .scheme(HttpAuthScheme::Bearer)
                    .description(Some(
                        "The visitor's secret, minted by the client: 22 to 128 characters of \
                         base64url, at least 128 random bits. The first message binds the session \
                         to it; without it the session does not exist.",
                    ))
                    .build(),
            ),
        );
    }
}
