//! Whether people can be forgotten by their address, and get a receipt that proves it.

use super::{Context, Finding};

pub(super) fn probe(context: &Context) -> Finding {
    match &context.privacy {
        None => Finding::not_configured(),
        Some(config) if config.secret.is_some() => {
            Finding::pass("PRIVACY_SECRET is set: erasures by address, and signed receipts")
        }
        Some(_) => Finding::warn(
            "PRIVACY_SECRET is not set: nobody can be forgotten by their address, no backup is restored if \
             somebody was, and receipts are not signed; set it to a random text (openssl rand -hex 32) and keep it",
        ),
    }
}
