//! Who may see what: the visitor's secret, which binds a session.

use std::convert::Infallible;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use store::sessions::SecretHash;

/// 128 bits in base64url.
const MIN_SECRET_LEN: usize = 22;

/// Longer ones are nobody's.
const MAX_SECRET_LEN: usize = 128;

/// What came in `Authorization`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Credentials {
    /// Nothing.
    None,
    /// A secret, hashed.
    Secret(SecretHash),
    /// Something that no session can be bound to.
    IllFormed,
}

impl Credentials {
    /// Whether they open a session that is bound to this hash.
    pub(crate) fn open(&self, bound: Option<&[u8]>) -> bool {
        matches!(self, Self::Secret(secret) if secret.opens(bound))
    }

    fn of_header(value: &[u8]) -> Self {
        let secret = std::str::from_utf8(value)
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, secret)| secret.trim());
        match secret {
            Some(secret) if is_secret(secret) => Self::Secret(SecretHash::of(secret)),
            _ => Self::IllFormed,
        }
    }
}

fn is_secret(text: &str) -> bool {
    (MIN_SECRET_LEN..=MAX_SECRET_LEN).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

impl<S: Sync> FromRequestParts<S> for Credentials {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(parts
            .headers
            .get(header::AUTHORIZATION)
            .map_or(Self::None, |value| Self::of_header(value.as_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_22_to_128_characters_of_base64url() {
        let formed = |header: &str| {
            matches!(
                Credentials::of_header(header.as_bytes()),
                Credentials::Secret(_)
            )
        };
        assert!(formed(&format!("Bearer {}", "aA0_-".repeat(5))));
        assert!(formed(&format!("bearer {}", "a".repeat(128))));
        for bad in [
            "",
            "Bearer",
            "Bearer ",
            "Basic YWJjOmRlZg",
            &format!("Bearer {}", "a".repeat(21)),
            &format!("Bearer {}", "a".repeat(129)),
            &format!("Bearer {}=", "a".repeat(24)),
            &format!("Bearer {} {}", "a".repeat(22), "b".repeat(22)),
        ] {
            assert!(!formed(bad), "{bad}");
        }
    }
}
