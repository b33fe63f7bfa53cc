//! What a person is given when they were forgotten: for programs, for people, and signed.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::privacy::{Erased, Outside, OutsideState, OutsideSystem, RequestedBy, Scope};

use super::secret::PrivacySecret;

/// What the receipt says. Its JSON is what is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `growth-chat erasure 1`.
    pub format: String,
    /// The request's id, which is the ledger entry's.
    pub request_id: String,
    /// How much went.
    pub scope: Scope,
    /// The sessions.
    pub session_ids: Vec<String>,
    /// The hash of the address, if the wish named one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email_hash: Option<String>,
    /// Who wished it.
    pub requested_by: RequestedBy,
    /// When, as RFC 3339 in UTC.
    pub requested_at: String,
    /// When it went.
    pub erased_at: String,
    /// Rows that went, by table.
    pub erased: Erased,
    /// What became of it outside.
    pub outside: Vec<Outside>,
    /// How many conversations, in which others left contact details, name the address: an operator decides.
    #[serde(default, skip_serializing_if = "is_none")]
    pub of_others: i64,
    /// Until when dumps may hold it, and what is done about them.
    pub backups: String,
}

impl Statement {
    /// The name of the form.
    pub const FORMAT: &str = "growth-chat erasure 1";
}

/// Why a receipt is not one of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotGenuine {
    /// It is not a receipt.
    #[error("this is not a receipt of growth-chat")]
    Form,
    /// It was changed, or signed by somebody else.
    #[error("the signature does not fit: the receipt was changed")]
    Signature,
    /// It is sound, and was not signed with the configured secret.
    #[error("the receipt is sound, but was not signed with this PRIVACY_SECRET")]
    Signer,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks like this")]
const fn is_none(number: &i64) -> bool {
    *number == 0
}

/// What a receipt is, so that nothing can be added to one that is signed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Receipt {
    statement: Statement,
    text: String,
    signed: String,
    algorithm: String,
    public_key: String,
    signature: String,
}

const ALGORITHM: &str = "Ed25519";

/// Signs a statement: the statement, the public half of the key, and the signature.
pub fn sign(statement: &Statement, secret: &PrivacySecret) -> Option<Value> {
    let signed = serde_json::to_string(statement).ok()?;
    let key = secret.signing_key()?;
    let text = text(statement);
    Some(json!({
        "statement": statement,
        "text": text,
        "signed": signed,
        "algorithm": ALGORITHM,
        "public_key": STANDARD.encode(key.public_key()),
        "signature": STANDARD.encode(key.sign(signed.as_bytes())),
    }))
}

/// The same without a signature, where no `PRIVACY_SECRET` is configured. It says so.
pub fn unsigned(statement: &Statement) -> Value {
    let text = format!(
        "{}This receipt is not signed: no PRIVACY_SECRET is set.\n",
        text(statement)
    );
    json!({"statement": statement, "text": text, "signature": null})
}

/// Verifies a receipt: what it says is what was signed, by the configured secret.
pub fn verify(receipt: &Value, secret: &PrivacySecret) -> Result<Statement, NotGenuine> {
    let receipt = Receipt::deserialize(receipt).map_err(|_| NotGenuine::Form)?;
    let bytes = |text: &str| STANDARD.decode(text).map_err(|_| NotGenuine::Signature);
    let public_key = bytes(&receipt.public_key)?;
    UnparsedPublicKey::new(&ED25519, &public_key)
        .verify(receipt.signed.as_bytes(), &bytes(&receipt.signature)?)
        .map_err(|_| NotGenuine::Signature)?;
    let statement: Statement =
        serde_json::from_str(&receipt.signed).map_err(|_| NotGenuine::Form)?;
    let says_the_same = receipt.statement == statement
        && receipt.text == text(&statement)
        && receipt.algorithm == ALGORITHM;
    if !says_the_same {
        return Err(NotGenuine::Signature);
    }
    let ours = secret.signing_key();
    if ours.is_none_or(|ours| ours.public_key().as_ref() != public_key) {
        return Err(NotGenuine::Signer);
    }
    Ok(statement)
}

/// The same for people.
fn text(statement: &Statement) -> String {
    let mut text = String::new();
    // Writing to a string can't fail.
    let mut line = |line: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{line}");
    };
    line(format_args!("Receipt of an erasure"));
    line(format_args!(
        "Request {}, made {} by the {}",
        statement.request_id,
        statement.requested_at,
        statement.requested_by.as_str()
    ));
    line(format_args!("Erased {}", statement.erased_at));
    line(format_args!(
        "{}",
        match statement.scope {
            Scope::Conversation =>
                "What was said. Contact details that were left, and what was given to people, are not part of it.",
            Scope::Person =>
                "What was said, the contact details that were left, and what was given to people.",
        }
    ));
    if statement.session_ids.is_empty() {
        line(format_args!("Conversations: none was found"));
    } else {
        line(format_args!(
            "Conversations: {}",
            statement.session_ids.join(", ")
        ));
    }
    for (table, rows) in &statement.erased.0 {
        line(format_args!("  {table}: {rows} deleted or cleared"));
    }
    for outside in &statement.outside {
        let system = match outside.system {
            OutsideSystem::Slack => "The message in Slack",
            OutsideSystem::Crm => "The record in the CRM",
            OutsideSystem::Email => "The e-mail that was sent",
            OutsideSystem::Endpoint => "What an endpoint of the company was told",
        };
        let state = match outside.state {
            OutsideState::Done => "is deleted",
            OutsideState::Pending => "is being deleted",
            OutsideState::Remains => "could not be deleted",
        };
        match &outside.error {
            Some(error) => line(format_args!("  {system} {state}: {error}.")),
            None => line(format_args!("  {system} {state}.")),
        }
    }
    if statement.of_others > 0 {
        line(format_args!(
            "The address is named in {} conversations in which others left their contact details: what becomes of them is decided apart.",
            statement.of_others
        ));
    }
    line(format_args!("{}", statement.backups));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(of: &str) -> PrivacySecret {
        let variable = ("PRIVACY_SECRET".to_owned(), of.repeat(32));
        PrivacySecret::read(&mut store::settings::Settings::new([variable])).unwrap()
    }

    fn statement() -> Statement {
        Statement {
            format: Statement::FORMAT.to_owned(),
            request_id: "r-1".to_owned(),
            scope: Scope::Person,
            session_ids: vec!["s-1".to_owned()],
            email_hash: None,
            requested_by: RequestedBy::Operator,
            requested_at: "2026-11-21T10:00:00Z".to_owned(),
            erased_at: "2026-11-21T10:00:01Z".to_owned(),
            erased: Erased([("messages".to_owned(), 4)].into()),
            outside: vec![Outside {
                system: OutsideSystem::Slack,
                reference: json!({"channel": "C1", "ts": "1.2"}),
                state: OutsideState::Done,
                error: None,
            }],
            of_others: 0,
            backups: "Dumps are forgotten again when one is restored.".to_owned(),
        }
    }

    #[test]
    fn a_receipt_is_genuine_with_the_secret_that_signed_it_and_no_other() {
        let receipt = sign(&statement(), &secret("a")).unwrap();
        assert_eq!(verify(&receipt, &secret("a")), Ok(statement()));
        assert_eq!(verify(&receipt, &secret("b")), Err(NotGenuine::Signer));
        assert_eq!(verify(&json!({}), &secret("a")), Err(NotGenuine::Form));
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let receipt = sign(&statement(), &secret("a")).unwrap();
        for pointer in [
            "/statement/erased/messages",
            "/text",
            "/signed",
            "/signature",
        ] {
            let mut changed = receipt.clone();
            let value = changed.pointer_mut(pointer).unwrap();
            *value = match value {
                Value::Number(_) => json!(5),
                _ => json!(format!("{}!", value.as_str().unwrap())),
            };
            assert!(verify(&changed, &secret("a")).is_err(), "{pointer}");
        }
    }

    #[test]
    fn nothing_can_be_added_to_what_is_signed() {
        let receipt = sign(&statement(), &secret("a")).unwrap();
        for within in ["", "/statement"] {
            let mut more = receipt.clone();
            let fields = more.pointer_mut(within).unwrap().as_object_mut().unwrap();
            fields.insert("note".to_owned(), json!("and in the CRM"));
            assert!(verify(&more, &secret("a")).is_err(), "{within}");
        }
        let mut changed = receipt;
        changed["algorithm"] = json!("none");
        assert!(verify(&changed, &secret("a")).is_err());
    }

    #[test]
    fn a_receipt_that_is_not_signed_says_so() {
        let receipt = unsigned(&statement());
        let text = receipt["text"].as_str().unwrap();
        assert!(text.contains("not signed"), "{text}");
        assert_eq!(verify(&receipt, &secret("a")), Err(NotGenuine::Form));
    }
}
