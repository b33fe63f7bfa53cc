//! What the service answers: its paths, its batches, its refusals.

use std::collections::BTreeSet;

use axum::{
    Json,
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{
    PORTAL,
    portal::{Contact, Note, Portal, Wrong},
};

/// Objects of one batch at most.
const BATCH: usize = 100;
/// A correlation id as the service gives one with each refusal.
const CORRELATION: &str = "9a1f5b1e-5d2c-4f5e-8f43-0c4f0f5a7f11";

/// Answers a request.
pub(super) fn answer(
    portal: &mut Portal,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    if !token.is_some_and(|token| token.starts_with("Bearer pat-")) {
        let message = "Authentication credentials not found.";
        return refusal(StatusCode::UNAUTHORIZED, "INVALID_AUTHENTICATION", message);
    }
    let read = match body {
        [] => Ok(Value::Null),
        body => serde_json::from_slice::<Value>(body),
    };
    let Ok(request) = read else {
        let message = "Invalid input JSON on line 1, column 1";
        return refusal(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
    };
    let path: Vec<&str> = uri.path().split('/').skip(1).collect();
    match (method.as_str(), path.as_slice()) {
        ("GET", ["account-info", "v3", "details"]) => Json(json!({
            "portalId": PORTAL, "uiDomain": "app-eu1.hubspot.com", "accountType": "DEVELOPER_TEST",
        }))
        .into_response(),
        ("POST", ["crm", "v3", "objects", "contacts", "batch", "read"]) => {
            read_contacts(portal, &request)
        }
        ("POST", ["crm", "v3", "objects", "contacts", "batch", "upsert"]) => {
            upsert(portal, &request)
        }
        ("POST", ["crm", "v3", "objects", "contacts", "gdpr-delete"]) => erase(portal, &request),
        ("POST", ["crm", "v3", "objects", "notes"]) => add_note(portal, &request),
        ("PATCH", ["crm", "v3", "objects", "notes", id]) => change_note(portal, id, &request),
        ("POST", ["crm", "v3", "objects", "notes", "batch", "read"]) => {
            read_notes(portal, &request)
        }
        (
            "GET",
            [
                "crm",
                "v4",
                "objects",
                "contacts",
                id,
                "associations",
                "notes",
            ],
        ) => notes_of(portal, id, uri.query().unwrap_or_default()),
        (
            "PUT",
            [
                "crm",
                "v4",
                "objects",
                "notes",
                note,
                "associations",
                "default",
                "contacts",
                contact,
            ],
        ) => associate(portal, note, contact),
        _ => not_found(),
    }
}

/// A refusal as the service words it.
pub(super) fn refusal(status: StatusCode, category: &str, message: &str) -> Response {
    let body = json!({
        "status": "error", "message": message, "correlationId": CORRELATION, "category": category,
    });
    (status, Json(body)).into_response()
}

fn not_found() -> Response {
    refusal(
        StatusCode::NOT_FOUND,
        "OBJECT_NOT_FOUND",
        "resource not found",
    )
}

fn invalid(wrong: &[Wrong]) -> Response {
    let message = Wrong::sentence(wrong);
    refusal(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", &message)
}

/// The inputs of a batch, or the refusal of one that is too large or empty.
#[expect(clippy::result_large_err, reason = "a stand-in's answer, made once")]
fn inputs(request: &Value) -> Result<&[Value], Response> {
    match request["inputs"].as_array() {
        Some(inputs) if (1..=BATCH).contains(&inputs.len()) => Ok(inputs),
        _ => Err(refusal(
            StatusCode::BAD_REQUEST,
            "VALIDATION_ERROR",
            "inputs must have 1 to 100 entries",
        )),
    }
}

/// 200, or 207 if some of a batch failed.
fn batch(results: &[Value], errors: &[Value]) -> Response {
    if errors.is_empty() {
        return Json(json!({ "status": "COMPLETE", "results": results })).into_response();
    }
    let body = json!({
        "status": "COMPLETE", "results": results, "numErrors": errors.len(), "errors": errors,
    });
    (StatusCode::MULTI_STATUS, Json(body)).into_response()
}

fn read_contacts(portal: &Portal, request: &Value) -> Response {
    let inputs = match inputs(request) {
        Ok(inputs) => inputs,
        Err(refusal) => return refusal,
    };
    let wanted: Vec<&str> = request["properties"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for input in inputs {
        let name = input["id"].as_str().unwrap_or_default();
        let found = if request["idProperty"] == "email" {
            portal.by_email(name)
        } else {
            portal
                .contacts
                .iter()
                .find(|contact| contact.id.to_string() == name)
        };
        match found {
            Some(contact) => results.push(shown(contact, &wanted)),
            None => errors.push(json!({
                "status": "error", "category": "OBJECT_NOT_FOUND", "context": {"ids": [name]},
                "message": "Could not get some CONTACT objects, they may be deleted or not exist.",
            })),
        }
    }
    batch(&results, &errors)
}

/// A contact with those of its properties that were asked for.
fn shown(contact: &Contact, wanted: &[&str]) -> Value {
    let mut properties = json!({ "hs_object_id": contact.id.to_string() });
    for name in wanted {
        properties[*name] = contact
            .properties
            .get(*name)
            .map_or(Value::Null, |value| value.as_str().into());
    }
    json!({ "id": contact.id.to_string(), "properties": properties, "archived": false })
}

fn upsert(portal: &mut Portal, request: &Value) -> Response {
    let inputs = match inputs(request) {
        Ok(inputs) => inputs,
        Err(refusal) => return refusal,
    };
    let (mut results, mut errors) = (Vec::new(), Vec::new());
    for input in inputs {
        let properties = input["properties"].as_object().cloned().unwrap_or_default();
        let email = input["id"].as_str().unwrap_or_default();
        if input["idProperty"] != "email" || properties.get("email") != Some(&input["id"]) {
            let message = "an upsert by email needs the email among the properties";
            return refusal(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
        }
        match portal.upsert(email, &properties) {
            Ok((contact, new)) => {
                let mut result = shown(&contact, &["email"]);
                result["new"] = new.into();
                result["objectWriteTraceId"] = input["objectWriteTraceId"].clone();
                results.push(result);
            }
            Err(wrong) if portal.partial => errors.extend(wrong.iter().map(Wrong::entry)),
            Err(wrong) => return invalid(&wrong),
        }
    }
    batch(&results, &errors)
}

fn erase(portal: &mut Portal, request: &Value) -> Response {
    let name = request["objectId"].as_str().unwrap_or_default();
    if request["idProperty"] == "email" {
        match portal.by_email(name).map(|contact| contact.id) {
            Some(id) => {
                portal.erase(id);
            }
            // The service's own trap: what it does not have it never takes again.
            None => {
                portal.blocked.insert(name.to_lowercase());
            }
        }
        return StatusCode::NO_CONTENT.into_response();
    }
    match name.parse() {
        Ok(id) if portal.erase(id) => StatusCode::NO_CONTENT.into_response(),
        _ => not_found(),
    }
}

fn note_body(request: &Value) -> &str {
    request["properties"]["hs_note_body"]
        .as_str()
        .unwrap_or_default()
}

fn add_note(portal: &mut Portal, request: &Value) -> Response {
    if !request["properties"]["hs_timestamp"].is_string() {
        let message = "hs_timestamp is required";
        return refusal(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
    }
    let mut contacts = BTreeSet::new();
    for association in request["associations"].as_array().into_iter().flatten() {
        let to = association["to"]["id"]
            .as_str()
            .and_then(|id| id.parse::<u64>().ok());
        let known = to.filter(|id| portal.contacts.iter().any(|contact| contact.id == *id));
        let right_type = association["types"][0]["associationTypeId"] == 202;
        match known {
            Some(id) if right_type => contacts.insert(id),
            _ => {
                let message = "One or more associations are not valid";
                return refusal(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message);
            }
        };
    }
    match portal.add_note(note_body(request), contacts) {
        Ok(note) => (StatusCode::CREATED, Json(note_shown(&note))).into_response(),
        Err(wrong) => invalid(&[wrong]),
    }
}

fn change_note(portal: &mut Portal, id: &str, request: &Value) -> Response {
    let changed = id
        .parse()
        .ok()
        .and_then(|id| portal.change_note(id, note_body(request)));
    match changed {
        Some(Ok(note)) => Json(note_shown(&note)).into_response(),
        Some(Err(wrong)) => invalid(&[wrong]),
        None => not_found(),
    }
}

fn note_shown(note: &Note) -> Value {
    json!({ "id": note.id.to_string(), "properties": { "hs_note_body": note.body }, "archived": false })
}

fn read_notes(portal: &Portal, request: &Value) -> Response {
    let inputs = match inputs(request) {
        Ok(inputs) => inputs,
        Err(refusal) => return refusal,
    };
    let asked: BTreeSet<&str> = inputs
        .iter()
        .filter_map(|input| input["id"].as_str())
        .collect();
    let found = portal
        .notes
        .iter()
        .filter(|note| asked.contains(note.id.to_string().as_str()));
    batch(&found.map(note_shown).collect::<Vec<_>>(), &[])
}

/// A page of the notes of a contact: `limit`, and `after` an id.
fn notes_of(portal: &Portal, contact: &str, query: &str) -> Response {
    let parameter = |name: &str| {
        let value = query
            .split('&')
            .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|value| value.parse::<u64>().ok())
    };
    let Some(contact) = contact
        .parse()
        .ok()
        .filter(|id| portal.contacts.iter().any(|contact| contact.id == *id))
    else {
        return not_found();
    };
    let after = parameter("after").unwrap_or(0);
    let limit = usize::try_from(parameter("limit").unwrap_or(500).min(500)).unwrap_or(500);
    let ids: Vec<u64> = portal
        .notes
        .iter()
        .filter(|note| note.contacts.contains(&contact) && note.id > after)
        .map(|note| note.id)
        .collect();
    let page: Vec<Value> = ids
        .iter()
        .take(limit)
        .map(|id| json!({ "toObjectId": id, "associationTypes": [{"category": "HUBSPOT_DEFINED", "typeId": 201}] }))
        .collect();
    let mut body = json!({ "results": page });
    if ids.len() > limit {
        body["paging"] = json!({ "next": { "after": ids[limit - 1].to_string() } });
    }
    Json(body).into_response()
}

fn associate(portal: &mut Portal, note: &str, contact: &str) -> Response {
    let contact = contact
        .parse()
        .ok()
        .filter(|id| portal.contacts.iter().any(|contact| contact.id == *id));
    let note = note
        .parse::<u64>()
        .ok()
        .and_then(|id| portal.notes.iter_mut().find(|note| note.id == id));
    match (note, contact) {
        (Some(note), Some(contact)) => {
            note.contacts.insert(contact);
            Json(json!({ "status": "COMPLETE", "results": [] })).into_response()
        }
        _ => not_found(),
    }
}
