//! What the model asks for, read strictly: every argument is typed and bounded, and one that nobody
//! knows is refused. No tool takes the id of a session: a call is about the conversation it is made in.

use serde::Deserialize;
use serde_json::Value;
use store::handoffs::{Lead, is_email, is_phone};

use super::WantedStage;

/// The longest query of `retrieve_knowledge`, in characters.
const LONGEST_QUERY: usize = 500;
/// The longest name, company or telephone number.
const LONGEST_NAME: usize = 200;
/// The longest text on need, timeline or budget.
const LONGEST_FACT: usize = 1_000;

/// A call that may be carried out.
#[derive(Clone, PartialEq)]
pub enum ToolCall {
    /// `set_stage`.
    SetStage(WantedStage),
    /// `request_handoff`.
    RequestHandoff(Box<HandoffRequest>),
    /// `retrieve_knowledge`, with the query.
    RetrieveKnowledge(String),
}

/// The arguments of `request_handoff`.
#[derive(Clone, PartialEq)]
pub struct HandoffRequest {
    /// What the conversation was about, for whoever takes over.
    pub summary: Option<String>,
    /// Why.
    pub reason: HandoffReason,
    /// What the visitor told of themselves.
    pub lead: Lead,
}

/// Why people are to take over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandoffReason {
    /// We know what they need, and can help.
    QualifiedLead,
    /// They asked for a person.
    ExplicitWish,
    /// They accepted the offer to talk to a person.
    StallAccepted,
}

/// A call that is not carried out. What the model is told holds nothing of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCall {
    /// There is no such tool.
    #[error("There is no such tool.")]
    UnknownTool,
    /// The arguments are not those of the tool's schema.
    #[error("Refused: the arguments do not fit the tool's schema.")]
    BadArguments,
    /// Some text is too long.
    #[error("Refused: an argument is too long.")]
    TooLong,
    /// The query is blank.
    #[error("Refused: the query is empty.")]
    BlankQuery,
    /// The e-mail address has not the form of one.
    #[error("Refused: this is not an e-mail address. Ask the visitor for it again.")]
    BadEmail,
    /// The telephone number has not the form of one.
    #[error("Refused: this is not a telephone number. Ask the visitor for it again.")]
    BadPhone,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetStage {
    stage: WantedStage,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RetrieveKnowledge {
    query: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestHandoff {
    reason: HandoffReason,
    #[serde(default)]
    summary: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    company: Option<String>,
    #[serde(default)]
    phone: Option<String>,
    #[serde(default)]
    need: Option<String>,
    #[serde(default)]
    timeline: Option<String>,
    #[serde(default)]
    budget: Option<String>,
}

impl ToolCall {
    /// The names of the tools.
    pub const SET_STAGE: &'static str = "set_stage";
    /// See [`Self::SET_STAGE`].
    pub const REQUEST_HANDOFF: &'static str = "request_handoff";
    /// See [`Self::SET_STAGE`].
    pub const RETRIEVE_KNOWLEDGE: &'static str = "retrieve_knowledge";

    /// Reads a call as the model made it.
    pub fn read(name: &str, arguments: &Value) -> Result<Self, BadCall> {
        match name {
            Self::SET_STAGE => {
                let wanted: SetStage = typed(arguments)?;
                Ok(Self::SetStage(wanted.stage))
            }
            Self::REQUEST_HANDOFF => {
                let request = handoff(typed(arguments)?)?;
                Ok(Self::RequestHandoff(Box::new(request)))
            }
            Self::RETRIEVE_KNOWLEDGE => {
                let wanted: RetrieveKnowledge = typed(arguments)?;
                let query = fact(Some(wanted.query), LONGEST_QUERY)?;
                Ok(Self::RetrieveKnowledge(query.ok_or(BadCall::BlankQuery)?))
            }
            _ => Err(BadCall::UnknownTool),
        }
    }
}

fn typed<'v, T: Deserialize<'v>>(arguments: &'v Value) -> Result<T, BadCall> {
    T::deserialize(arguments).map_err(|_| BadCall::BadArguments)
}

fn handoff(request: RequestHandoff) -> Result<HandoffRequest, BadCall> {
    let email = fact(request.email, LONGEST_NAME * 2)?;
    if email.as_deref().is_some_and(|email| !is_email(email)) {
        return Err(BadCall::BadEmail);
    }
    let phone = fact(request.phone, LONGEST_NAME)?;
    if phone.as_deref().is_some_and(|phone| !is_phone(phone)) {
        return Err(BadCall::BadPhone);
    }
    Ok(HandoffRequest {
        summary: fact(request.summary, LONGEST_FACT)?,
        reason: request.reason,
        lead: Lead {
            name: cut_fact(request.name, LONGEST_NAME),
            email,
            company: cut_fact(request.company, LONGEST_NAME),
            phone,
            need: cut_fact(request.need, LONGEST_FACT),
            timeline: cut_fact(request.timeline, LONGEST_FACT),
            budget: cut_fact(request.budget, LONGEST_FACT),
            message: None,
        },
    })
}

/// What a lead says, cut where it is too long: no lead is lost because somebody gave a name of ten
/// thousand characters.
fn cut_fact(text: Option<String>, longest: usize) -> Option<String> {
    let text = cleaned(&text?)?;
    if text.chars().count() <= longest {
        return Some(text);
    }
    let beginning = text.chars().take(longest - 1);
    Some(beginning.chain(['…']).collect())
}

/// A text of at most `longest` characters; a blank one is none.
fn fact(text: Option<String>, longest: usize) -> Result<Option<String>, BadCall> {
    let Some(text) = text else { return Ok(None) };
    if text.chars().count() > longest {
        return Err(BadCall::TooLong);
    }
    Ok(cleaned(&text))
}

/// The text without control characters, of which Postgres can't keep one; a blank one is none.
fn cleaned(text: &str) -> Option<String> {
    let text: String = text
        .trim()
        .chars()
        .map(|sign| if sign.is_control() { ' ' } else { sign })
        .collect();
    (!text.trim().is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(name: &str, arguments: &Value) -> BadCall {
        match ToolCall::read(name, arguments) {
            Ok(_) => panic!("{name} {arguments} was accepted"),
            Err(bad) => bad,
        }
    }

    #[test]
    fn calls_are_read_by_their_schemas() {
        let stage = ToolCall::read("set_stage", &json!({"stage": "qualify"}));
        assert!(stage == Ok(ToolCall::SetStage(WantedStage::Qualify)));
        let query = ToolCall::read(
            "retrieve_knowledge",
            &json!({"query": " audit\u{0}prices "}),
        );
        assert!(query == Ok(ToolCall::RetrieveKnowledge("audit prices".to_owned())));
        let arguments = json!({
            "reason": "qualified_lead", "name": "Ada", "email": "ada@example.org", "company": " ",
            "phone": "+49 89 12345", "need": "an audit", "timeline": null, "budget": "9,000 euros",
        });
        let Ok(ToolCall::RequestHandoff(request)) = ToolCall::read("request_handoff", &arguments)
        else {
            panic!("refused");
        };
        assert_eq!(request.reason, HandoffReason::QualifiedLead);
        assert!(
            request.lead
                == Lead {
                    name: Some("Ada".to_owned()),
                    email: Some("ada@example.org".to_owned()),
                    phone: Some("+49 89 12345".to_owned()),
                    need: Some("an audit".to_owned()),
                    budget: Some("9,000 euros".to_owned()),
                    ..Lead::default()
                }
        );
    }

    #[test]
    fn what_the_schema_does_not_know_is_refused() {
        for (name, arguments) in [
            ("set_stage", json!({"stage": "handed_off"})),
            ("set_stage", json!({"stage": 4})),
            ("set_stage", json!({})),
            (
                "set_stage",
                json!({"stage": "qualify", "session_id": "other"}),
            ),
            ("request_handoff", json!({"reason": "because"})),
            (
                "request_handoff",
                json!({"reason": "explicit_wish", "session_id": "other"}),
            ),
            (
                "request_handoff",
                json!({"reason": "explicit_wish", "name": ["Ada"]}),
            ),
            ("retrieve_knowledge", json!({"query": 1})),
            (
                "retrieve_knowledge",
                json!({"query": "x", "table": "sessions"}),
            ),
        ] {
            assert_eq!(
                refused(name, &arguments),
                BadCall::BadArguments,
                "{arguments}"
            );
        }
        assert_eq!(refused("drop_table", &json!({})), BadCall::UnknownTool);
    }

    #[test]
    fn texts_are_bounded_and_have_the_form_of_what_they_are() {
        let long = "ä".repeat(LONGEST_FACT + 1);
        let wish = |field: &str, value: &str| json!({"reason": "explicit_wish", field: value});
        for (arguments, bad) in [
            (wish("email", &long), BadCall::TooLong),
            (wish("email", "ada at example"), BadCall::BadEmail),
            (wish("phone", "any time"), BadCall::BadPhone),
        ] {
            assert_eq!(refused("request_handoff", &arguments), bad);
        }
        let query = |text: &str| refused("retrieve_knowledge", &json!({"query": text}));
        assert_eq!(query(&long), BadCall::TooLong);
        assert_eq!(query(" \n"), BadCall::BlankQuery);
    }

    #[test]
    fn a_lead_whose_name_is_too_long_is_kept_with_its_beginning() {
        let long = "ä".repeat(10_000);
        let arguments = json!({"reason": "explicit_wish", "name": long, "need": long});
        let Ok(ToolCall::RequestHandoff(request)) = ToolCall::read("request_handoff", &arguments)
        else {
            panic!("refused");
        };
        for (kept, longest) in [
            (request.lead.name, LONGEST_NAME),
            (request.lead.need, LONGEST_FACT),
        ] {
            let kept = kept.unwrap();
            assert_eq!(kept.chars().count(), longest);
            assert!(kept.starts_with('ä') && kept.ends_with("ä…"), "{kept}");
        }
    }

    #[test]
    fn what_the_model_is_told_quotes_nothing() {
        let told = refused("set_stage", &json!({"stage": "secret-word"})).to_string();
        assert!(!told.contains("secret-word"), "{told}");
    }
}
