//! A visitor's message as it is posted: our own small form, and the one of the AI SDK's default
//! chat transport, which carries the client's whole history. Ours is the truth, so of that history
//! only the last message of the visitor is read.

use axum::http::HeaderMap;
use serde::{Deserialize, Serialize, de::IgnoredAny};
use serde_json::{error::Category, value::RawValue};
use store::ids::{Entropy, MessageId, SessionId, new_message_id, new_session_id};
use utoipa::ToSchema;

use crate::problem::{Code, Problem};

/// The longest message, in characters (01-product, limits).
pub(crate) const MAX_CHARACTERS: usize = 4_000;

/// The largest body in our form, in bytes.
pub(crate) const MAX_BODY: usize = 16 * 1024;

/// The largest body in the SDK's form, in bytes.
pub(crate) const MAX_SDK_BODY: usize = 1024 * 1024;

/// Longer addresses are not kept: they are context, no reason to refuse a message.
const MAX_PAGE_URL: usize = 2_048;

/// The longest language tag that is registered is shorter.
const MAX_LOCALE: usize = 35;

/// What to do when a turn of the session is queued or running.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnBusy {
    /// Answer this message after the others.
    #[default]
    Enqueue,
    /// Stop the running turn and every queued one, then answer this message.
    Interrupt,
    /// Refuse this message with 409.
    Reject,
}

/// What the client wants answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wish {
    /// The message.
    Answer,
    /// The last message, again. The answer that is to be replaced may be named.
    AnswerAgain(Option<MessageId>),
}

/// Which form a body has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Our own.
    Ours,
    /// The AI SDK's.
    Sdk,
}

/// A message that can be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) form: Form,
    pub(crate) session_id: SessionId,
    pub(crate) id: MessageId,
    pub(crate) text: String,
    pub(crate) page_url: Option<String>,
    pub(crate) locale: Option<String>,
    pub(crate) on_busy: OnBusy,
    pub(crate) wish: Wish,
}

/// A body of `POST /chat`.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "documents the two forms; each is read by itself")]
pub(crate) enum ChatBody {
    /// Our form, at most 16 KiB.
    Ours(OurBody),
    /// The form of the AI SDK's `DefaultChatTransport`, at most 1 MiB.
    Sdk(SdkBody),
}

/// A message in our form.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct OurBody {
    /// 1 to 64 characters of `A-Z a-z 0-9 _ -`, minted by the client; an unknown one creates the
    /// session. Without one a session is created that only the returned stream can see.
    session_id: Option<String>,
    /// The text, at most 4,000 characters.
    #[schema(max_length = 4000)]
    message: String,
    /// Names the message: the same id with the same text joins the same turn. The header
    /// `Idempotency-Key` does the same.
    message_id: Option<String>,
    /// The page that the visitor is on.
    page_url: Option<String>,
    /// The visitor's language, as BCP 47.
    locale: Option<String>,
    /// What to do when a turn is queued or running.
    #[serde(default)]
    on_busy: Option<OnBusy>,
}

/// A message in the AI SDK's form.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SdkBody {
    /// The session's id.
    id: String,
    /// `UIMessage`s; the last one of the role `user` is the message, the others are not read.
    #[schema(value_type = Vec<SdkMessage>)]
    messages: Vec<Box<RawValue>>,
    /// `submit-message` or `regenerate-message`.
    trigger: Option<Trigger>,
    /// The answer that is to be replaced.
    #[serde(rename = "messageId")]
    message_id: Option<String>,
    /// The page that the visitor is on.
    page_url: Option<String>,
    /// The visitor's language, as BCP 47.
    locale: Option<String>,
    /// What to do when a turn is queued or running.
    #[serde(default)]
    on_busy: Option<OnBusy>,
}

/// Why the AI SDK posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Trigger {
    SubmitMessage,
    RegenerateMessage,
}

/// The AI SDK's `UIMessage`, as far as it is read.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SdkMessage {
    /// The message's id.
    id: Option<String>,
    /// `user`, `assistant` or `system`.
    role: String,
    /// The message's parts; those of the type `text` are read.
    parts: Vec<SdkPart>,
}

/// A part of a [`SdkMessage`].
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub(crate) struct SdkPart {
    /// `text`, or anything else.
    #[serde(rename = "type")]
    kind: String,
    /// The text of a text part.
    text: Option<String>,
}

#[derive(Deserialize)]
struct Probe {
    messages: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct RoleOnly {
    role: String,
}

/// Reads a message. `entropy` names what the client left unnamed.
pub(crate) fn read(
    body: &[u8],
    headers: &HeaderMap,
    entropy: &dyn Entropy,
) -> Result<Message, Problem> {
    let probe: Probe = parse_object(body)?;
    let message = if probe.messages.is_some() {
        read_sdk(parse(body)?, headers, entropy)?
    } else if body.len() > MAX_BODY {
        return Err(Problem::new(Code::BodyTooLarge));
    } else {
        read_ours(parse(body)?, headers, entropy)?
    };
    check_text(&message.text)?;
    Ok(message)
}

fn read_ours(
    body: OurBody,
    headers: &HeaderMap,
    entropy: &dyn Entropy,
) -> Result<Message, Problem> {
    let session_id = match body.session_id {
        Some(id) => id.parse().map_err(|_| invalid_id("session_id"))?,
        None => new_session_id(entropy),
    };
    Ok(Message {
        form: Form::Ours,
        session_id,
        id: message_id(body.message_id.as_deref(), headers, entropy)?,
        text: body.message,
        page_url: page_url(body.page_url)?,
        locale: locale(body.locale)?,
        on_busy: body.on_busy.unwrap_or_default(),
        wish: Wish::Answer,
    })
}

fn read_sdk(body: SdkBody, headers: &HeaderMap, entropy: &dyn Entropy) -> Result<Message, Problem> {
    let last = body
        .messages
        .iter()
        .rev()
        .find(|message| {
            serde_json::from_str::<RoleOnly>(message.get())
                .is_ok_and(|message| message.role == "user")
        })
        .ok_or_else(|| {
            Problem::with_detail(Code::InvalidBody, "messages holds no message of the user")
        })?;
    let last: SdkMessage = parse(last.get().as_bytes())?;
    let texts: Vec<String> = last
        .parts
        .into_iter()
        .filter(|part| part.kind == "text")
        .filter_map(|part| part.text)
        .collect();
    let wish = match body.trigger {
        Some(Trigger::RegenerateMessage) => Wish::AnswerAgain(
            body.message_id
                .map(|id| id.parse().map_err(|_| invalid_id("messageId")))
                .transpose()?,
        ),
        _ => Wish::Answer,
    };
    Ok(Message {
        form: Form::Sdk,
        session_id: body.id.parse().map_err(|_| invalid_id("id"))?,
        id: message_id(last.id.as_deref(), headers, entropy)?,
        text: texts.join("\n"),
        page_url: page_url(body.page_url)?,
        locale: locale(body.locale)?,
        on_busy: body.on_busy.unwrap_or_default(),
        wish,
    })
}

fn message_id(
    in_body: Option<&str>,
    headers: &HeaderMap,
    entropy: &dyn Entropy,
) -> Result<MessageId, Problem> {
    if let Some(id) = in_body {
        return id.parse().map_err(|_| invalid_id("the message's id"));
    }
    let Some(key) = headers.get("idempotency-key") else {
        return Ok(new_message_id(entropy));
    };
    // The header's draft standard writes the key in quotes; most clients do not.
    key.to_str()
        .ok()
        .map(|key| key.trim().trim_matches('"'))
        .and_then(|key| key.parse().ok())
        .ok_or_else(|| invalid_id("Idempotency-Key"))
}

fn page_url(page_url: Option<String>) -> Result<Option<String>, Problem> {
    let page_url = page_url.filter(|url| url.len() <= MAX_PAGE_URL && !url.is_empty());
    if page_url.as_ref().is_some_and(|url| url.contains('\0')) {
        return Err(Problem::new(Code::InvalidText));
    }
    Ok(page_url)
}

fn locale(locale: Option<String>) -> Result<Option<String>, Problem> {
    let Some(locale) = locale.filter(|locale| !locale.is_empty()) else {
        return Ok(None);
    };
    let legal = locale.len() <= MAX_LOCALE
        && locale
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if legal {
        Ok(Some(locale))
    } else {
        Err(Problem::with_detail(
            Code::InvalidBody,
            "locale must be a language tag such as en or de-DE",
        ))
    }
}

fn check_text(text: &str) -> Result<(), Problem> {
    if text.contains('\0') {
        return Err(Problem::new(Code::InvalidText));
    }
    if text.trim().is_empty() {
        return Err(Problem::new(Code::EmptyMessage));
    }
    if text.chars().count() > MAX_CHARACTERS {
        return Err(Problem::with_detail(
            Code::MessageTooLong,
            "A message has at most 4,000 characters",
        ));
    }
    Ok(())
}

/// Reads a body that must be an object: a list would be read as the fields in their order.
pub(crate) fn parse_object<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') {
        return parse(body);
    }
    Err(match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(_) => Problem::with_detail(Code::InvalidBody, "The body must be an object"),
        Err(error) => unreadable(&error),
    })
}

fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(json).map_err(|error| {
        let problem = unreadable(&error);
        // Some values of another type than the documented one are called bad syntax.
        match problem.code() {
            Code::InvalidJson if serde_json::from_slice::<serde_json::Value>(json).is_ok() => {
                problem.with_code(Code::InvalidBody)
            }
            _ => problem,
        }
    })
}

/// Says where, but not what: the parser's own words repeat the input.
fn unreadable(error: &serde_json::Error) -> Problem {
    let code = match error.classify() {
        Category::Data => Code::InvalidBody,
        Category::Syntax | Category::Eof | Category::Io => Code::InvalidJson,
    };
    Problem::with_detail(
        code,
        format!(
            "The body can't be read at line {}, column {}",
            error.line(),
            error.column()
        ),
    )
}

fn invalid_id(name: &'static str) -> Problem {
    Problem::with_detail(
        Code::InvalidId,
        format!("{name} must have 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'"),
    )
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
