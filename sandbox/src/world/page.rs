//! The page as a whole.

use super::{Shown, crm, html::Html, log, mail, slack, switches, traces, webhooks};

/// Renders it.
pub(super) fn render(shown: &Shown, filter: &log::Filter) -> String {
    let mut html = Html::default();
    html.raw(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Outside world</title>\
         <link rel=\"stylesheet\" href=\"/page.css\"><script src=\"/page.js\" defer></script></head><body>\
         <header class=\"top\"><h1>Outside world</h1>",
    );
    switches::render(&mut html, &shown.people);
    html.raw("</header><main id=\"page\">");
    slack::render(&mut html, &shown.people.slack);
    html.raw("<div class=\"side\" id=\"side\">");
    crm::render(&mut html, &shown.people.hubspot);
    mail::render(&mut html, &shown.people.smtp);
    webhooks::render(&mut html, &shown.people.receiver);
    if let Some(collector) = &shown.collector {
        traces::render(&mut html, collector);
    }
    html.raw("</div>");
    log::render(&mut html, &shown.world, filter);
    html.raw("</main><div id=\"toast\" role=\"status\" hidden></div></body></html>");
    html.into_string()
}
