//! What the receiver of webhooks has taken: a CRM of one's own, registered endpoints.

use super::html::Html;
use crate::receiver::{Delivery, Receiver};

/// Deliveries on a page at most.
const SHOWN: usize = 20;

/// Renders them, the newest first.
pub(super) fn render(html: &mut Html, receiver: &Receiver) {
    html.raw("<section class=\"panel\" id=\"webhooks\"><header><h2>Webhooks</h2><span class=\"quiet\">at <code>")
        .text(receiver.url())
        .raw("</code></span>");
    let refused = receiver.refused();
    if refused > 0 {
        html.raw("<span class=\"badge bad\">")
            .text(refused)
            .raw(" without a good signature</span>");
    }
    html.raw("</header>");
    let deliveries = receiver.deliveries();
    if deliveries.is_empty() {
        html.raw("<p class=\"empty\">Nothing yet.</p>");
    }
    for delivery in deliveries.iter().rev().take(SHOWN) {
        one(html, delivery);
    }
    html.raw("</section>");
}

fn one(html: &mut Html, delivery: &Delivery) {
    let kind = delivery.body["type"].as_str().unwrap_or("?");
    html.raw("<details class=\"record\"")
        .attribute("data-key", format_args!("delivery-{}", delivery.number))
        .raw("><summary><strong>")
        .text(kind)
        .raw("</strong><code>")
        .text(&delivery.path)
        .raw("</code><span class=\"badge good\">signature is good</span>");
    if delivery.repeated {
        html.raw("<span class=\"badge\">again</span>");
    }
    html.raw("</summary><dl><dt>webhook-id</dt><dd>")
        .text(&delivery.id)
        .raw("</dd><dt>signatures</dt><dd>")
        .text(delivery.signatures)
        .raw("</dd></dl><pre>")
        // Serialising a JSON value can't fail.
        .text(serde_json::to_string_pretty(&delivery.body).unwrap_or_default())
        .raw("</pre></details>");
}
