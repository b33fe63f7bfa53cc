//! The contact: found and written by its e-mail address.
//!
//! A visitor may type the address of somebody else, and people keep contacts by hand. So of a contact
//! that was there before only empty properties are filled; whatever the visitor said stands in the
//! note. The lifecycle stage is given to contacts that have none: it never moves back.

use reqwest::Method;
use serde_json::{Map, Value, json};
use store::handoffs::Lead;
use tokio::time::Instant;

use super::{
    super::inert,
    api::{Api, Call, CallError, Effect, id},
};
use crate::handoff::SendError;

/// The longest value of a name, in characters: HubSpot takes 65,536, lists show far less.
const LONGEST_NAME: usize = 255;
/// What we read and write.
const PROPERTIES: [&str; 6] = [
    "email",
    "firstname",
    "lastname",
    "company",
    "phone",
    "lifecyclestage",
];
const LIFECYCLE_STAGE: &str = "lifecyclestage";
/// Somebody who gave us their address.
const LEAD_STAGE: &str = "lead";

/// A contact that HubSpot has.
#[derive(Debug)]
pub(super) struct Contact {
    pub(super) id: String,
    properties: Map<String, Value>,
}

/// A contact that was written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) id: String,
    /// Whether it was not there before.
    pub(super) new: bool,
    /// Its page, if HubSpot named it.
    pub(super) url: Option<String>,
    /// The properties whose values HubSpot does not take.
    pub(super) dropped: Vec<String>,
}

impl Api {
    /// The contact with an e-mail address.
    pub(super) async fn find_contact(
        &self,
        deadline: Instant,
        email: &str,
    ) -> Result<Option<Contact>, CallError> {
        let answer = self
            .call(
                deadline,
                Call {
                    what: "looking for the contact",
                    method: Method::POST,
                    // The address stands in the body: paths are logged on the way.
                    path: "/crm/v3/objects/contacts/batch/read",
                    body: Some(json!({
                        "idProperty": "email",
                        "inputs": [{ "id": email }],
                        "properties": PROPERTIES,
                    })),
                    effect: Effect::Looks,
                },
            )
            .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(CallError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = &answer["results"][0];
        Ok(id(&found["id"]).map(|id| Contact {
            id,
            properties: found["properties"].as_object().cloned().unwrap_or_default(),
        }))
    }

    /// Writes the contact, if there is anything to write. Values that HubSpot does not take are left
    /// out; without its address there is no contact.
    pub(super) async fn write_contact(
        &self,
        deadline: Instant,
        plan: Plan<'_>,
        trace_id: &str,
    ) -> Result<Written, SendError> {
        let mut properties = match plan.changes() {
            Changes::None(contact) => {
                return Ok(Written {
                    id: contact.id.clone(),
                    new: false,
                    url: None,
                    dropped: Vec::new(),
                });
            }
            Changes::These(properties) => properties,
        };
        let mut dropped = Vec::new();
        loop {
            let refused = match self
                .upsert(deadline, plan.email, &properties, trace_id)
                .await
            {
                Ok(mut written) => {
                    written.dropped = dropped;
                    return Ok(written);
                }
                Err(CallError::Invalid(error, body)) if dropped.is_empty() => {
                    let names = refused_properties(&body, &properties);
                    if names.is_empty() || names.iter().any(|name| name == "email") {
                        return Err(error);
                    }
                    names
                }
                Err(error) => return Err(error.into()),
            };
            tracing::warn!(properties = %refused.join(","), "HubSpot does not take some values of a lead");
            properties.retain(|name, _| !refused.contains(name));
            dropped = refused;
        }
    }

    async fn upsert(
        &self,
        deadline: Instant,
        email: &str,
        properties: &Map<String, Value>,
        trace_id: &str,
    ) -> Result<Written, CallError> {
        let what = "writing the contact";
        let answer = self
            .call(
                deadline,
                Call {
                    what,
                    method: Method::POST,
                    path: "/crm/v3/objects/contacts/batch/upsert",
                    body: Some(json!({
                        "inputs": [{
                            "idProperty": "email",
                            "id": email,
                            "objectWriteTraceId": trace_id,
                            "properties": properties,
                        }],
                    })),
                    effect: Effect::Writes,
                },
            )
            .await?;
        let result = &answer["results"][0];
        match id(&result["id"]) {
            Some(id) => Ok(Written {
                id,
                new: result["new"] == true,
                url: result["url"].as_str().map(ToOwned::to_owned),
                dropped: Vec::new(),
            }),
            // 207: a batch of one of which nothing was done. An error of it is like a refusal of its own.
            None if answer["errors"].is_array() => Err(partial_failure(what, answer)),
            None => Err(CallError::Failed(SendError::unknown(format!(
                "HubSpot: {what}: its answer names no contact"
            )))),
        }
    }
}

/// The failure in a 207.
fn partial_failure(what: &'static str, answer: Value) -> CallError {
    let category = answer["errors"][0]["category"].as_str().unwrap_or_default();
    let (reason, heals) = match category {
        "VALIDATION_ERROR" | "PROPERTY_DOESNT_EXIST" | "INVALID_EMAIL" => {
            ("a value is refused", false)
        }
        "MISSING_SCOPES" => ("the token may not do this", false),
        "CONFLICT" | "RATE_LIMITS" | "INTERNAL_ERROR" => ("it failed for this contact", true),
        _ => ("it failed for this contact for another reason", true),
    };
    let reason = format!("HubSpot: {what}: status 207, {reason}");
    if heals {
        CallError::Failed(SendError::healable(reason))
    } else {
        CallError::Invalid(SendError::fatal(reason), answer)
    }
}

/// What to write of a lead.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    /// The address that names the contact.
    pub(super) email: &'a str,
    pub(super) lead: &'a Lead,
    /// The contact that is there.
    pub(super) existing: Option<&'a Contact>,
    /// Whether it is one that we made: then what it says is what visitors told us.
    pub(super) ours: bool,
}

enum Changes<'a> {
    /// The contact has all of it.
    None(&'a Contact),
    /// These properties, the address among them.
    These(Map<String, Value>),
}

impl<'a> Plan<'a> {
    fn changes(&self) -> Changes<'a> {
        let mut wanted = told(self.lead);
        wanted.push((LIFECYCLE_STAGE, LEAD_STAGE.to_owned()));
        let mut properties = Map::new();
        for (name, value) in wanted {
            let has = self
                .existing
                .and_then(|contact| contact.properties.get(name))
                .and_then(Value::as_str)
                .unwrap_or_default();
            let free = has.is_empty() || (self.ours && name != LIFECYCLE_STAGE);
            if free && has != value {
                properties.insert(name.to_owned(), value.into());
            }
        }
        match self.existing {
            Some(contact) if properties.is_empty() => Changes::None(contact),
            _ => {
                // An upsert by address wants it among the properties as well.
                properties.insert("email".to_owned(), self.email.into());
                Changes::These(properties)
            }
        }
    }
}

/// What the visitor told us, by HubSpot's names.
fn told(lead: &Lead) -> Vec<(&'static str, String)> {
    let mut properties = Vec::new();
    let mut add = |name, value: &str| {
        let value = inert::line(value, LONGEST_NAME);
        if !value.is_empty() {
            properties.push((name, value));
        }
    };
    if let Some(name) = lead.name.as_deref() {
        match name.trim().rsplit_once(char::is_whitespace) {
            Some((first, last)) => {
                add("firstname", first);
                add("lastname", last);
            }
            None => add("firstname", name),
        }
    }
    for (name, value) in [("company", &lead.company), ("phone", &lead.phone)] {
        if let Some(value) = value {
            add(name, value);
        }
    }
    properties
}

/// The names of the properties that a refusal is about, of those that were sent. It names them in the
/// context of each error, or in a sentence that ends in JSON: `Property values were not valid: [{…}]`.
fn refused_properties(body: &Value, sent: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    let mut open = vec![body.clone()];
    while let Some(value) = open.pop() {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match (key.as_str(), &value) {
                        ("name" | "propertyName" | "property", Value::String(name)) => {
                            names.push(name.clone());
                        }
                        ("propertyName", Value::Array(list)) => {
                            names.extend(list.iter().filter_map(Value::as_str).map(str::to_owned));
                        }
                        ("message", Value::String(text)) => {
                            let list = text.find('[').and_then(|start| {
                                serde_json::from_str::<Value>(text[start..].trim()).ok()
                            });
                            open.extend(list);
                        }
                        _ => open.push(value),
                    }
                }
            }
            Value::Array(values) => open.extend(values),
            _ => {}
        }
    }
    names.retain(|name| sent.contains_key(name));
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead() -> Lead {
        Lead {
            name: Some("Ada King Lovelace".to_owned()),
            email: Some("ada@example.org".to_owned()),
            company: Some("=cmd()".to_owned()),
            phone: Some("+49 89 123456".to_owned()),
            ..Lead::default()
        }
    }

    fn changes(existing: Option<&Contact>, ours: bool) -> Value {
        let lead = lead();
        let plan = Plan {
            email: "ada@example.org",
            lead: &lead,
            existing,
            ours,
        };
        match plan.changes() {
            Changes::None(_) => Value::Null,
            Changes::These(properties) => properties.into(),
        }
    }

    fn contact(properties: &Value) -> Contact {
        Contact {
            id: "7".to_owned(),
            properties: properties.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn a_new_contact_is_a_lead_with_what_was_told() {
        let expected = json!({
            "email": "ada@example.org", "firstname": "Ada King", "lastname": "Lovelace",
            "company": "'=cmd()", "phone": "+49 89 123456", "lifecyclestage": "lead",
        });
        assert_eq!(changes(None, false), expected);
    }

    #[test]
    fn what_people_keep_is_not_overwritten_and_the_stage_never_moves() {
        let kept = contact(&json!({
            "email": "ada@example.org", "firstname": "Augusta", "lastname": "", "company": null,
            "phone": "1", "lifecyclestage": "customer",
        }));
        let expected =
            json!({"email": "ada@example.org", "lastname": "Lovelace", "company": "'=cmd()"});
        assert_eq!(changes(Some(&kept), false), expected);
        let ours = json!({
            "email": "ada@example.org", "firstname": "Ada King", "lastname": "Lovelace",
            "company": "'=cmd()", "phone": "+49 89 123456",
        });
        assert_eq!(changes(Some(&kept), true), ours);
    }

    #[test]
    fn a_contact_that_has_all_of_it_is_left_alone() {
        let full = contact(&json!({
            "firstname": "Ada King", "lastname": "Lovelace", "company": "'=cmd()",
            "phone": "+49 89 123456", "lifecyclestage": "lead",
        }));
        assert_eq!(changes(Some(&full), true), Value::Null);
    }

    #[test]
    fn the_properties_of_a_refusal_are_found_in_each_of_its_forms() {
        let sent = json!({"phone": "x", "company": "y", "email": "z"});
        let sent = sent.as_object().unwrap();
        for (body, names) in [
            (
                json!({"message": "Property values were not valid: [{\"isValid\":false,\"error\":\"INVALID\",\"name\":\"phone\"}]"}),
                vec!["phone"],
            ),
            (
                json!({"errors": [{"context": {"propertyName": ["company", "other"]}}]}),
                vec!["company"],
            ),
            (
                json!({"errors": [{"context": {"propertyName": "email"}}]}),
                vec!["email"],
            ),
            (json!({"message": "no [list", "errors": "phone"}), vec![]),
        ] {
            assert_eq!(refused_properties(&body, sent), names, "{body}");
        }
    }
}
