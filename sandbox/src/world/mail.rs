//! The mails that were taken, as their reader sees them.

use super::html::Html;
use crate::smtp::{ReceivedMail, Smtp};

/// Mails on a page at most.
const SHOWN: usize = 20;

/// Renders them, the newest first.
pub(super) fn render(html: &mut Html, smtp: &Smtp) {
    html.raw("<section class=\"panel\" id=\"mail\"><header><h2>Mail</h2><span class=\"quiet\">to the fallback address</span></header>");
    let mails = smtp.mails();
    if mails.is_empty() {
        html.raw("<p class=\"empty\">None. One comes when Slack and the CRM have both failed for good.</p>");
    }
    for mail in mails.iter().rev().take(SHOWN) {
        one(html, mail);
    }
    html.raw("</section>");
}

fn one(html: &mut Html, mail: &ReceivedMail) {
    html.raw("<details class=\"record\"")
        .attribute("data-key", format_args!("mail-{}", mail.number))
        .raw("><summary><strong>")
        .text(&mail.subject)
        .raw("</strong>")
        .raw("<span class=\"badge\">")
        .text(if mail.encrypted { "encrypted" } else { "plain" })
        .raw("</span></summary><dl>");
    for name in ["From", "To", "Reply-To", "Date", "Message-ID"] {
        if let Some(value) = mail.header(name) {
            html.raw("<dt>")
                .text(name)
                .raw("</dt><dd>")
                .text(value)
                .raw("</dd>");
        }
    }
    html.raw("</dl>");
    if !mail.html.is_empty() {
        // Sandboxed: no scripts, no forms, and none of this page's rights.
        html.raw("<iframe sandbox title=\"The mail as HTML\"")
            .attribute("srcdoc", &mail.html)
            .raw("></iframe>");
    }
    html.raw("<details><summary>As text</summary><pre>")
        .text(&mail.text)
        .raw("</pre></details></details>");
}
