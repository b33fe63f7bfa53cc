//! The calls to Slack: its Web API by the bot's token, and the incoming webhook.
//!
//! Nothing here repeats a call; the job decides when to try again. Arguments that are written go as
//! JSON, arguments of methods that only read as a form, which all of them take.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use reqwest::{Response, StatusCode, header};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    error::{Call, Fault, SlackError},
    message::Message,
};
use crate::{
    clients::{Failure, http},
    config::SlackConfig,
};

/// One call, from the request to the end of the answer. A job has room for several.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A page of 200 messages with all their blocks is well below this.
const ANSWER_LIMIT: usize = 8 * 1024 * 1024;
/// Messages of a page: what Slack recommends at most.
const PAGE: &str = "200";
/// Channels of a page, and the most pages that are looked through for a channel's name.
const CHANNELS_PAGE: &str = "1000";
const CHANNEL_PAGES: usize = 10;
/// The longest name of a person that is taken from Slack, in characters.
const LONGEST_NAME: usize = 80;

/// Where a message is: what Slack calls it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The channel's id.
    pub channel: String,
    /// The message's name in it.
    pub ts: String,
}

/// Where a message is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `SLACK_CHANNEL`.
    Channel,
    /// The thread of this message.
    Thread(Place),
    /// The same, and shown in the channel as well.
    ThreadAndChannel(Place),
}

/// A message as Slack shows it, as far as we look at it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    pub(super) ts: String,
    pub(super) bot_id: Option<String>,
    pub(super) metadata: Value,
    pub(super) blocks: Value,
}

/// Some messages, and where the next ones begin.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) messages: Vec<Seen>,
    pub(super) next: Option<String>,
}

/// Who the token speaks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The workspace's id.
    pub team_id: String,
    /// The bot's user.
    pub user_id: String,
}

/// The client. A clone shares its connections and what it has learned.
#[derive(Debug, Clone)]
pub struct SlackClient {
    http: reqwest::Client,
    config: SlackConfig,
    /// The id of the configured channel, once Slack has told it.
    channel_id: Arc<OnceLock<String>>,
}

impl SlackClient {
    /// A client that uses these connections.
    pub fn new(config: &SlackConfig, http: reqwest::Client) -> Self {
        Self {
            http,
            config: config.clone(),
            channel_id: Arc::default(),
        }
    }

    /// `chat.postMessage`.
    pub async fn post(&self, to: &Destination, message: &Message) -> Result<Place, SlackError> {
        let mut arguments = message.arguments();
        let channel = match to {
            Destination::Channel => self.channel_id.get().unwrap_or(&self.config.channel),
            Destination::Thread(place) | Destination::ThreadAndChannel(place) => {
                arguments["thread_ts"] = json!(place.ts);
                &place.channel
            }
        };
        arguments["channel"] = json!(channel);
        if matches!(to, Destination::ThreadAndChannel(_)) {
            arguments["reply_broadcast"] = json!(true);
        }
        let place: Place = read(
            Call::PostMessage,
            self.write(Call::PostMessage, &arguments).await?,
        )?;
        if *to == Destination::Channel {
            // The second one to learn it has learned the same.
            let _ = self.channel_id.set(place.channel.clone());
        }
        Ok(place)
    }

    /// `chat.update`: the message is as new afterwards.
    pub async fn update(&self, place: &Place, message: &Message) -> Result<(), SlackError> {
        let mut arguments = message.arguments();
        arguments["channel"] = json!(place.channel);
        arguments["ts"] = json!(place.ts);
        self.write(Call::Update, &arguments).await?;
        Ok(())
    }

    /// `chat.delete`. Returns false if the message is not there.
    pub async fn delete(&self, place: &Place) -> Result<bool, SlackError> {
        match self.write(Call::Delete, &json!(place)).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_one_of(&["message_not_found"]) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `views.open`: shows a modal to whoever the trigger is of, within three seconds of it.
    pub async fn open_view(&self, trigger_id: &str, view: &Value) -> Result<(), SlackError> {
        let arguments = json!({"trigger_id": trigger_id, "view": view});
        self.write(Call::OpenView, &arguments).await?;
        Ok(())
    }

    /// `auth.test`: whether the token is good, and whose it is.
    pub async fn identity(&self) -> Result<Identity, SlackError> {
        #[derive(Deserialize)]
        struct Answer {
            team_id: String,
            user_id: String,
        }
        let answer = self.ask(Call::AuthTest, &[]).await?;
        let Answer { team_id, user_id } = read(Call::AuthTest, answer)?;
        Ok(Identity { team_id, user_id })
    }

    /// `users.info`: the name of somebody in the workspace as others see it. Bounded, on one line.
    pub async fn user_name(&self, user_id: &str) -> Result<String, SlackError> {
        let answer = self.ask(Call::UserInfo, &[("user", user_id)]).await?;
        let user = &answer["user"];
        let names = [
            &user["profile"]["display_name"],
            &user["profile"]["real_name"],
            &user["real_name"],
            &user["name"],
        ];
        let names = names.into_iter().filter_map(Value::as_str);
        names
            .map(|name| super::text::line(name, LONGEST_NAME))
            .find(|name| !name.is_empty())
            .ok_or(SlackError::new(Call::UserInfo, Fault::Malformed))
    }

    /// The id of the configured channel, which the methods that look at messages need. `None`: there is
    /// no channel of that name, or the bot does not see it.
    pub(super) async fn channel_id(&self) -> Result<Option<String>, SlackError> {
        if let Some(id) = self.channel_id.get() {
            return Ok(Some(id.clone()));
        }
        let configured = &self.config.channel;
        let id = match configured.strip_prefix('#') {
            Some(name) => self.find_channel(name).await?,
            None => Some(configured.clone()),
        };
        if let Some(id) = &id {
            let _ = self.channel_id.set(id.clone());
        }
        Ok(id)
    }

    async fn find_channel(&self, name: &str) -> Result<Option<String>, SlackError> {
        #[derive(Deserialize)]
        struct Listed {
            id: String,
            name: String,
        }
        let mut cursor = String::new();
        for _ in 0..CHANNEL_PAGES {
            let arguments = [
                ("types", "public_channel,private_channel"),
                ("exclude_archived", "true"),
                ("limit", CHANNELS_PAGE),
                ("cursor", &cursor),
            ];
            let mut answer = self.ask(Call::Channels, &arguments).await?;
            let channels: Vec<Listed> = read(Call::Channels, answer["channels"].take())?;
            if let Some(found) = channels.into_iter().find(|channel| channel.name == name) {
                return Ok(Some(found.id));
            }
            match next_cursor(&answer) {
                Some(next) => cursor = next,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// `conversations.history`: messages between two times (Slack's form), the newest first.
    pub(super) async fn history(
        &self,
        channel: &str,
        oldest: &str,
        latest: Option<&str>,
        cursor: Option<&str>,
    ) -> Result<Page, SlackError> {
        let arguments = [
            ("channel", channel),
            ("oldest", oldest),
            ("latest", latest.unwrap_or_default()),
            ("inclusive", "true"),
            ("include_all_metadata", "true"),
            ("limit", PAGE),
            ("cursor", cursor.unwrap_or_default()),
        ];
        page(Call::History, self.ask(Call::History, &arguments).await?)
    }

    /// `conversations.replies`: a thread, the oldest first; its first message is among them.
    pub(super) async fn replies(
        &self,
        thread: &Place,
        cursor: Option<&str>,
    ) -> Result<Page, SlackError> {
        let arguments = [
            ("channel", thread.channel.as_str()),
            ("ts", &thread.ts),
            ("include_all_metadata", "true"),
            ("limit", PAGE),
            ("cursor", cursor.unwrap_or_default()),
        ];
        page(Call::Replies, self.ask(Call::Replies, &arguments).await?)
    }

    /// Posts by the incoming webhook, into the channel that it was made for. Nobody learns what the
    /// message is called.
    pub async fn post_by_webhook(&self, message: &Message) -> Result<(), SlackError> {
        let request = self
            .http
            .post(self.config.webhook_url.expose_secret())
            .json(&message.webhook_payload());
        let (status, body) = self.send(Call::Webhook, request).await?;
        let text = String::from_utf8_lossy(&body);
        match (status, text.trim()) {
            (StatusCode::OK, "ok") => Ok(()),
            (StatusCode::OK, _) => Err(SlackError::new(Call::Webhook, Fault::Malformed)),
            (_, text) => Err(SlackError::webhook(status.as_u16(), text)),
        }
    }

    /// Calls a method that changes something.
    async fn write(&self, call: Call, arguments: &Value) -> Result<Value, SlackError> {
        let request = self.request(call).json(arguments);
        self.answer(call, request).await
    }

    /// Calls a method that only reads. Empty arguments are left out.
    async fn ask(&self, call: Call, arguments: &[(&str, &str)]) -> Result<Value, SlackError> {
        let request = self
            .request(call)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form(arguments));
        self.answer(call, request).await
    }

    fn request(&self, call: Call) -> reqwest::RequestBuilder {
        let url = format!("{}/{}", self.config.base_url, call.name());
        self.http
            .post(url)
            .bearer_auth(self.config.bot_token.expose_secret())
    }

    async fn answer(
        &self,
        call: Call,
        request: reqwest::RequestBuilder,
    ) -> Result<Value, SlackError> {
        let (status, body) = self.send(call, request).await?;
        if status != StatusCode::OK {
            return Err(SlackError::new(call, Fault::Status(status.as_u16())));
        }
        let answer: Value =
            serde_json::from_slice(&body).map_err(|_| SlackError::new(call, Fault::Malformed))?;
        match (answer["ok"].as_bool(), answer["error"].as_str()) {
            (Some(true), _) => Ok(answer),
            (Some(false), Some(code)) => Err(SlackError::code(call, code)),
            _ => Err(SlackError::new(call, Fault::Malformed)),
        }
    }

    /// The status and the body. A 429 is an error already, because it says when to come back.
    async fn send(
        &self,
        call: Call,
        request: reqwest::RequestBuilder,
    ) -> Result<(StatusCode, bytes::Bytes), SlackError> {
        let response = http::send("slack", call.name(), request.timeout(TIMEOUT))
            .await
            .map_err(|error| SlackError::new(call, fault(&error)))?;
        let status = response.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let wait = http::retry_after(response.headers());
            let error = SlackError::new(call, Fault::Status(status.as_u16()));
            return Err(error.with_retry_after(wait));
        }
        let body = read_body(call, response).await?;
        Ok((status, body))
    }
}

fn form(arguments: &[(&str, &str)]) -> String {
    let given = arguments.iter().filter(|(_, value)| !value.is_empty());
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(given)
        .finish()
}

async fn read_body(call: Call, response: Response) -> Result<bytes::Bytes, SlackError> {
    let body = http::read_body("slack", response, ANSWER_LIMIT).await;
    body.map_err(|error| {
        let fault = match error.failure() {
            Failure::Timeout => Fault::Timeout,
            Failure::MalformedResponse => Fault::Malformed,
            _ => Fault::ConnectionLost,
        };
        SlackError::new(call, fault)
    })
}

fn fault(error: &reqwest::Error) -> Fault {
    if error.is_connect() {
        Fault::Connect
    } else if error.is_timeout() {
        Fault::Timeout
    } else if error.is_builder() {
        Fault::Unsendable
    } else {
        Fault::ConnectionLost
    }
}

fn read<T: serde::de::DeserializeOwned>(call: Call, answer: Value) -> Result<T, SlackError> {
    serde_json::from_value(answer).map_err(|_| SlackError::new(call, Fault::Malformed))
}

fn page(call: Call, mut answer: Value) -> Result<Page, SlackError> {
    let next = next_cursor(&answer);
    let messages = read(call, answer["messages"].take())?;
    Ok(Page { messages, next })
}

fn next_cursor(answer: &Value) -> Option<String> {
    let cursor = answer["response_metadata"]["next_cursor"].as_str()?;
    (!cursor.is_empty()).then(|| cursor.to_owned())
}
