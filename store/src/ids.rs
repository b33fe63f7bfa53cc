//! Names of things: session, message and turn ids, and where new ones come from.

use std::{
    fmt::{self, Debug},
    str::FromStr,
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

/// The longest id a client may mint, in bytes.
pub const MAX_ID_LEN: usize = 64;

/// An id is empty, longer than [`MAX_ID_LEN`] or not of `[A-Za-z0-9_-]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 1 to 64 characters of A-Z, a-z, 0-9, '_' and '-'")]
pub struct BadId;

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The id as it stands in a URL or a row.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
                if (1..=MAX_ID_LEN).contains(&text.len()) && text.bytes().all(legal) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(BadId)
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;

            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque_id!(
    /// A session's id, minted by the client.
    SessionId
);
opaque_id!(
    /// A message's id: the visitor's is minted by the client, the answer's by us.
    MessageId
);

opaque_id!(
    /// A handoff's id, minted by us.
    HandoffId
);

/// A turn: the session and the turn's number in it (1, 2, …).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TurnKey {
    /// The session that the turn belongs to.
    pub session_id: SessionId,
    /// Its number, from 1.
    pub turn: i32,
}

impl fmt::Display for TurnKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.session_id, self.turn)
    }
}

/// A turn is not named as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a turn is named by its session's id and its number in it, such as SESSION/3")]
pub struct BadTurn;

impl FromStr for TurnKey {
    type Err = BadTurn;

    /// Reads what [`Display`](fmt::Display) writes.
    fn from_str(text: &str) -> Result<Self, BadTurn> {
        let (session_id, turn) = text.rsplit_once('/').ok_or(BadTurn)?;
        let digits = turn.bytes().all(|byte| byte.is_ascii_digit());
        let turn = turn.parse().ok().filter(|turn| digits && *turn > 0);
        Ok(Self {
            session_id: session_id.parse().map_err(|_| BadTurn)?,
            turn: turn.ok_or(BadTurn)?,
        })
    }
}

/// A source of randomness for new ids and secrets.
pub trait Entropy: Debug + Send + Sync + 'static {
    /// Sixteen unpredictable bytes.
    fn bytes(&self) -> [u8; 16];
}

/// Entropy as it is handed around.
pub type SharedEntropy = Arc<dyn Entropy>;

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that draws randomness"
    )]
    fn bytes(&self) -> [u8; 16] {
        uuid::Uuid::new_v4().into_bytes()
    }
}

/// A new session id of 122 random bits.
pub fn new_session_id(entropy: &dyn Entropy) -> SessionId {
    SessionId(URL_SAFE_NO_PAD.encode(entropy.bytes()))
}

/// A new message id of 122 random bits.
pub fn new_message_id(entropy: &dyn Entropy) -> MessageId {
    MessageId(URL_SAFE_NO_PAD.encode(entropy.bytes()))
}

/// A new handoff id of 122 random bits.
pub fn new_handoff_id(entropy: &dyn Entropy) -> HandoffId {
    HandoffId(URL_SAFE_NO_PAD.encode(entropy.bytes()))
}

/// A new id of a wish to be forgotten, of 122 random bits.
pub fn new_request_id(entropy: &dyn Entropy) -> String {
    URL_SAFE_NO_PAD.encode(entropy.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_read_as_it_is_written() {
        let key: TurnKey = "s-1_A/12".parse().unwrap();
        assert_eq!((key.session_id.as_str(), key.turn), ("s-1_A", 12));
        assert_eq!(key.to_string(), "s-1_A/12");
        for wrong in [
            "",
            "s",
            "/1",
            "s/",
            "s/0",
            "s/-1",
            "s/+1",
            "s/x",
            "s/1/2",
            "s/99999999999",
        ] {
            assert_eq!(wrong.parse::<TurnKey>(), Err(BadTurn), "{wrong}");
        }
    }
}
