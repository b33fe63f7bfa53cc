//! Whether the mail server takes us. No mail is sent.

use workers::handoff::Email;

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(handoff) = &context.handoff else {
        return Finding::not_configured();
    };
    match Email::new(&handoff.smtp).try_out().await {
        Ok(()) => Finding::pass("the mail server of SMTP_HOST takes user name and password"),
        // The reason has codes and no words of the server.
        Err(error) => Finding::fail(format!(
            "{error}: look at SMTP_HOST and SMTP_PORT for the connection, SMTP_TLS for its encryption, \
             SMTP_USERNAME and SMTP_PASSWORD for the authentication"
        )),
    }
}
