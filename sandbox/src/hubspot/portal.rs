//! What an account holds, and its rules: unique addresses, known properties, stages that only go on.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::Serialize;
use serde_json::{Map, Value, json};

/// How many contacts and how many notes are kept; the oldest go first.
const KEPT: usize = 2_000;
/// The longest value of a property, and the longest note, in characters.
const LONGEST_VALUE: usize = 65_536;
/// The properties of contacts that we know; the service has hundreds.
const PROPERTIES: [&str; 8] = [
    "email",
    "firstname",
    "lastname",
    "company",
    "phone",
    "lifecyclestage",
    "website",
    "message",
];
/// The stages of a contact, in their order.
const STAGES: [&str; 7] = [
    "subscriber",
    "lead",
    "marketingqualifiedlead",
    "salesqualifiedlead",
    "opportunity",
    "customer",
    "evangelist",
];

/// A contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contact {
    /// Its id.
    pub id: u64,
    /// Its properties.
    pub properties: BTreeMap<String, String>,
}

impl Contact {
    /// A property's value; empty: it has none.
    pub fn get(&self, property: &str) -> &str {
        self.properties.get(property).map_or("", String::as_str)
    }
}

/// A note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Its id.
    pub id: u64,
    /// Its text, as HTML.
    pub body: String,
    /// The contacts that it stands with.
    pub contacts: BTreeSet<u64>,
    /// How often it was changed.
    pub changes: u32,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Portal {
    pub(super) contacts: VecDeque<Contact>,
    pub(super) notes: VecDeque<Note>,
    /// Addresses that can never be used again.
    pub(super) blocked: BTreeSet<String>,
    /// Properties of which every value is refused.
    pub(super) refused: BTreeSet<String>,
    /// Refusals of a batch come as a 207.
    pub(super) partial: bool,
    ids: u64,
}

/// What is wrong with a value.
#[derive(Debug, Clone)]
pub(super) struct Wrong {
    property: String,
    error: &'static str,
    message: String,
}

impl Wrong {
    fn new(property: &str, error: &'static str, message: String) -> Self {
        Self {
            property: property.to_owned(),
            error,
            message,
        }
    }

    /// As the service writes it into the sentence of its refusal.
    pub(super) fn sentence(all: &[Self]) -> String {
        let list: Vec<Value> = all
            .iter()
            .map(|wrong| {
                json!({"isValid": false, "message": wrong.message, "error": wrong.error, "name": wrong.property})
            })
            .collect();
        format!("Property values were not valid: {}", Value::from(list))
    }

    /// As it writes it into the errors of a batch.
    pub(super) fn entry(&self) -> Value {
        json!({
            "status": "error", "category": "VALIDATION_ERROR", "message": self.message,
            "context": {"propertyName": [self.property]},
        })
    }
}

impl Portal {
    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        // As long as real ones: they don't fit into 32 bits.
        51_000_000_000 + self.ids
    }

    pub(super) fn by_email(&self, email: &str) -> Option<&Contact> {
        let email = email.to_lowercase();
        self.contacts
            .iter()
            .find(|contact| contact.get("email") == email)
    }

    /// Makes or changes the contact with an address; tells whether it is new.
    pub(super) fn upsert(
        &mut self,
        email: &str,
        properties: &Map<String, Value>,
    ) -> Result<(Contact, bool), Vec<Wrong>> {
        let wrong = self.wrong(email, properties);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let email = email.to_lowercase();
        let place = self
            .contacts
            .iter()
            .position(|contact| contact.get("email") == email);
        let new = place.is_none();
        let place = place.unwrap_or_else(|| {
            if self.contacts.len() == KEPT {
                self.contacts.pop_front();
            }
            let id = self.next_id();
            self.contacts.push_back(Contact {
                id,
                properties: BTreeMap::from([("email".to_owned(), email)]),
            });
            self.contacts.len() - 1
        });
        let contact = &mut self.contacts[place];
        for (name, value) in properties {
            let value = value.as_str().unwrap_or_default();
            // The address is what names it, and a stage never goes back: that is passed over.
            let back = name == "lifecyclestage" && stage(value) < stage(contact.get(name));
            if name != "email" && !back {
                contact.properties.insert(name.clone(), value.to_owned());
            }
        }
        Ok((contact.clone(), new))
    }

    fn wrong(&self, email: &str, properties: &Map<String, Value>) -> Vec<Wrong> {
        let mut wrong = Vec::new();
        if !is_email(email) || self.blocked.contains(&email.to_lowercase()) {
            let message = format!("Email address {email} is invalid");
            wrong.push(Wrong::new("email", "INVALID_EMAIL", message));
        }
        for (name, value) in properties {
            let Some(value) = value.as_str() else {
                let message = format!("{name} must be a string");
                wrong.push(Wrong::new(name, "INVALID_STRING", message));
                continue;
            };
            if !PROPERTIES.contains(&name.as_str()) {
                let message = format!("Property \"{name}\" does not exist");
                wrong.push(Wrong::new(name, "PROPERTY_DOESNT_EXIST", message));
            } else if self.refused.contains(name) {
                let message = format!("{value} is not a valid {name}");
                wrong.push(Wrong::new(name, "INVALID_VALUE", message));
            } else if value.chars().count() > LONGEST_VALUE {
                let message = format!("{name} is longer than {LONGEST_VALUE} characters");
                wrong.push(Wrong::new(name, "INVALID_LENGTH", message));
            } else if name == "lifecyclestage" && stage(value).is_none() {
                let message = format!("{value} was not one of the allowed options");
                wrong.push(Wrong::new(name, "INVALID_OPTION", message));
            }
        }
        wrong
    }

    /// Deletes a contact for good, with its notes; false: there is none.
    pub(super) fn erase(&mut self, id: u64) -> bool {
        let before = self.contacts.len();
        self.contacts.retain(|contact| contact.id != id);
        self.notes.retain(|note| !note.contacts.contains(&id));
        self.contacts.len() < before
    }

    /// Makes a note; what is wrong with it otherwise.
    pub(super) fn add_note(&mut self, body: &str, contacts: BTreeSet<u64>) -> Result<Note, Wrong> {
        check_note(body)?;
        if self.notes.len() == KEPT {
            self.notes.pop_front();
        }
        let note = Note {
            id: self.next_id(),
            body: body.to_owned(),
            contacts,
            changes: 0,
        };
        self.notes.push_back(note.clone());
        Ok(note)
    }

    /// Replaces a note's text; none: there is no such note.
    pub(super) fn change_note(&mut self, id: u64, body: &str) -> Option<Result<Note, Wrong>> {
        let note = self.notes.iter_mut().find(|note| note.id == id)?;
        Some(check_note(body).map(|()| {
            body.clone_into(&mut note.body);
            note.changes += 1;
            note.clone()
        }))
    }
}

fn check_note(body: &str) -> Result<(), Wrong> {
    if body.chars().count() <= LONGEST_VALUE {
        return Ok(());
    }
    let message = format!("hs_note_body is longer than {LONGEST_VALUE} characters");
    Err(Wrong::new("hs_note_body", "INVALID_LENGTH", message))
}

fn stage(name: &str) -> Option<usize> {
    STAGES.iter().position(|stage| *stage == name)
}

/// The service also asks whether the domain can exist; `.invalid` can't.
fn is_email(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    !local.is_empty()
        && domain.contains('.')
        && !domain.ends_with(".invalid")
        && !text.contains(|sign: char| sign.is_whitespace() || "<>,;\"()".contains(sign))
}
