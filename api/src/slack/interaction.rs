//! Slack's interactions: pressed buttons and submitted forms.

use serde::Deserialize;
use serde_json::Value;
use store::ids::{HandoffId, SessionId};

use super::{malformed, slack_id, text};
use crate::problem::Problem;

/// The block in which the words stand in the form; an error is shown below it.
pub(crate) const REPLY_BLOCK: &str = "reply";

/// What a person has done. The texts in it are of no log.
pub(crate) struct Interaction {
    /// What makes it the same when it comes again.
    pub(crate) id: String,
    /// Who did it.
    pub(crate) user: String,
    /// What Slack calls them, for people of the company.
    pub(crate) user_name: String,
    pub(crate) session_id: SessionId,
    pub(crate) handoff_id: HandoffId,
    pub(crate) deed: Deed,
}

/// What it was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// *Take over*.
    TakeOver(Place),
    /// *Taken*.
    TakeCare(Place),
    /// *Reply…*: a form is to be opened with this trigger.
    OpenReply(Place, String),
    /// *Hand back*.
    HandBack(Place),
    /// The form was submitted with these words.
    Say(String),
    /// The form was closed.
    StopTyping,
}

/// Where a button was pressed: Slack's channel and message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) channel: String,
    pub(crate) ts: String,
}

#[derive(Deserialize)]
struct Form {
    payload: String,
}

#[derive(Deserialize)]
struct Payload {
    #[serde(rename = "type")]
    kind: String,
    user: User,
    trigger_id: Option<String>,
    container: Option<Container>,
    #[serde(default)]
    actions: Vec<Action>,
    view: Option<View>,
}

#[derive(Deserialize)]
struct User {
    id: String,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Container {
    channel_id: Option<String>,
    message_ts: Option<String>,
}

#[derive(Deserialize)]
struct Action {
    action_id: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct View {
    id: String,
    callback_id: Option<String>,
    #[serde(default)]
    private_metadata: String,
    #[serde(default)]
    state: Value,
}

/// Reads an interaction; `None`: it is none of our business, such as a link that was followed.
pub(crate) fn read(body: &[u8]) -> Result<Option<Interaction>, Problem> {
    let form: Form = form(body).ok_or_else(malformed)?;
    let payload: Payload = serde_json::from_str(&form.payload).map_err(|_| malformed())?;
    let user_name = payload.user.name.clone().unwrap_or_default();
    match payload.kind.as_str() {
        "block_actions" => pressed(payload, user_name),
        "view_submission" | "view_closed" => form_ended(payload, user_name),
        _ => Ok(None),
    }
}

fn form(body: &[u8]) -> Option<Form> {
    let payload = url::form_urlencoded::parse(body)
        .find_map(|(name, value)| (name == "payload").then(|| value.into_owned()))?;
    Some(Form { payload })
}

fn pressed(payload: Payload, user_name: String) -> Result<Option<Interaction>, Problem> {
    let known = ["take_over", "taken", "reply", "hand_back"];
    let pressed = payload
        .actions
        .iter()
        .find(|action| known.contains(&action.action_id.as_str()));
    let Some(action) = pressed else {
        return Ok(None);
    };
    let trigger = slack_id(&payload.trigger_id.ok_or_else(malformed)?)?;
    let container = payload.container.ok_or_else(malformed)?;
    let place = Place {
        channel: slack_id(&container.channel_id.ok_or_else(malformed)?)?,
        ts: slack_id(&container.message_ts.ok_or_else(malformed)?)?,
    };
    let (session_id, handoff_id) = about(action.value.as_deref().unwrap_or_default())?;
    let deed = match action.action_id.as_str() {
        "take_over" => Deed::TakeOver(place),
        "taken" => Deed::TakeCare(place),
        "reply" => Deed::OpenReply(place, trigger.clone()),
        _ => Deed::HandBack(place),
    };
    Ok(Some(Interaction {
        id: trigger,
        user: slack_id(&payload.user.id)?,
        user_name,
        session_id,
        handoff_id,
        deed,
    }))
}

fn form_ended(payload: Payload, user_name: String) -> Result<Option<Interaction>, Problem> {
    let view = payload.view.ok_or_else(malformed)?;
    if view.callback_id.as_deref() != Some("reply") {
        return Ok(None);
    }
    let (session_id, handoff_id) = about(&view.private_metadata)?;
    let id = slack_id(&view.id)?;
    let (id, deed) = if payload.kind == "view_closed" {
        (format!("closed:{id}"), Deed::StopTyping)
    } else {
        (format!("view:{id}"), Deed::Say(typed(&view.state)))
    };
    Ok(Some(Interaction {
        id,
        user: slack_id(&payload.user.id)?,
        user_name,
        session_id,
        handoff_id,
        deed,
    }))
}

/// What was typed into the form's only field.
fn typed(state: &Value) -> String {
    let fields = state["values"][REPLY_BLOCK].as_object();
    let typed = fields.and_then(|fields| fields.values().next()?["value"].as_str());
    text::plain(typed.unwrap_or_default().trim())
}

/// What our buttons and forms carry: `<session>:<handoff>`.
fn about(value: &str) -> Result<(SessionId, HandoffId), Problem> {
    let (session_id, handoff_id) = value.split_once(':').ok_or_else(malformed)?;
    Ok((
        session_id.parse().map_err(|_| malformed())?,
        handoff_id.parse().map_err(|_| malformed())?,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::problem::Code;

    fn read_json(payload: &Value) -> Result<Option<Interaction>, Code> {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("payload", &payload.to_string());
        read(form.finish().as_bytes()).map_err(|problem| problem.code())
    }

    fn button(action: &str, value: &str) -> Value {
        json!({
            "type": "block_actions", "user": {"id": "U1", "name": "ada"}, "trigger_id": "1.2.ab",
            "container": {"type": "message", "channel_id": "C1", "message_ts": "1.0"},
            "actions": [{"action_id": action, "value": value, "type": "button"}]
        })
    }

    fn view(kind: &str, state: &Value) -> Value {
        json!({
            "type": kind, "user": {"id": "U1"},
            "view": {"id": "V1", "callback_id": "reply", "private_metadata": "s:h", "state": state}
        })
    }

    fn deed(payload: &Value) -> Deed {
        read_json(payload).unwrap().expect("it is ours").deed
    }

    #[test]
    fn each_button_is_a_deed() {
        let place = || Place {
            channel: "C1".to_owned(),
            ts: "1.0".to_owned(),
        };
        assert_eq!(deed(&button("take_over", "s:h")), Deed::TakeOver(place()));
        assert_eq!(deed(&button("taken", "s:h")), Deed::TakeCare(place()));
        assert_eq!(deed(&button("hand_back", "s:h")), Deed::HandBack(place()));
        let open = Deed::OpenReply(place(), "1.2.ab".to_owned());
        assert_eq!(deed(&button("reply", "s:h")), open);
        assert!(read_json(&button("crm_link", "")).unwrap().is_none());
    }

    #[test]
    fn a_form_says_what_was_typed_or_that_it_is_closed() {
        let typed = json!({"values": {"reply": {"text": {"type": "plain_text_input", "value": " Hi\u{0} "}}}});
        assert_eq!(
            deed(&view("view_submission", &typed)),
            Deed::Say("Hi\u{fffd}".to_owned())
        );
        assert_eq!(
            deed(&view("view_submission", &json!({}))),
            Deed::Say(String::new())
        );
        assert_eq!(deed(&view("view_closed", &json!({}))), Deed::StopTyping);
    }

    #[test]
    fn what_is_not_of_slacks_form_is_refused() {
        let mut no_trigger = button("taken", "s:h");
        no_trigger["trigger_id"] = Value::Null;
        let mut odd_user = button("taken", "s:h");
        odd_user["user"] = json!({"id": "U\u{0}"});
        for bad in [
            json!([]),
            json!({"type": "block_actions"}),
            button("taken", ""),
            button("taken", "s"),
            button("taken", "s:h:"),
            button("taken", "\u{0}:h"),
            no_trigger,
            odd_user,
            json!({"type": "view_submission", "user": {"id": "U1"}}),
        ] {
            assert_eq!(read_json(&bad).err(), Some(Code::InvalidBody), "{bad}");
        }
        for bad in ["", "payload=", "payload=%00", "other={}", "\u{ff}"] {
            let refused = read(bad.as_bytes()).err().map(|problem| problem.code());
            assert_eq!(refused, Some(Code::InvalidBody), "{bad}");
        }
    }
}
