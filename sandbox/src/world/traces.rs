//! What the collector of traces was told: what happened in which order, and for how long.

use std::collections::BTreeMap;

use super::html::Html;
use crate::collector::{Collector, Received};

/// Traces on a page at most.
const SHOWN: usize = 5;
/// How deep a trace is followed: what is deeper goes in a circle.
const DEPTH: usize = 16;

/// Renders them, the newest first.
pub(super) fn render(html: &mut Html, collector: &Collector) {
    html.raw("<section class=\"panel\" id=\"traces\"><header><h2>Traces</h2><span class=\"quiet\">at <code>")
        .text(collector.url())
        .raw("</code></span></header>");
    let mut traces: BTreeMap<String, Vec<Received>> = BTreeMap::new();
    for span in collector.spans() {
        traces.entry(span.trace_id.clone()).or_default().push(span);
    }
    let mut traces: Vec<Vec<Received>> = traces.into_values().collect();
    for spans in &mut traces {
        spans.sort_by_key(|span| span.started);
    }
    traces.sort_by_key(|spans| spans.first().map(|first| first.started));
    if traces.is_empty() {
        html.raw("<p class=\"empty\">Nothing yet.</p>");
    }
    for spans in traces.iter().rev().take(SHOWN) {
        trace(html, spans);
    }
    html.raw("</section>");
}

fn trace(html: &mut Html, spans: &[Received]) {
    let Some(first) = spans.first() else {
        return;
    };
    html.raw("<details class=\"record\"")
        .attribute("data-key", format_args!("trace-{}", first.trace_id))
        .raw("><summary><strong>")
        .text(&first.name)
        .raw("</strong><code>")
        .text(&first.trace_id)
        .raw("</code><span class=\"badge\">")
        .text(spans.len())
        .raw(if spans.len() == 1 { " span" } else { " spans" })
        .raw("</span></summary>");
    let is_known = |id: &str| spans.iter().any(|span| span.span_id == id);
    let tops = spans.iter().filter(|span| !is_known(&span.parent_id));
    list(html, &tops.collect::<Vec<_>>(), spans, DEPTH);
    html.raw("</details>");
}

fn list(html: &mut Html, parts: &[&Received], spans: &[Received], depth: usize) {
    html.raw("<ul class=\"trace\">");
    for span in parts {
        html.raw("<li>")
            .text(&span.name)
            .raw(" <code>")
            .text(format_args!("{:.1} ms", span.took.as_secs_f64() * 1_000.0));
        html.raw("</code>");
        if let Some(error) = &span.error {
            html.raw(" <span class=\"badge bad\">")
                .text(error)
                .raw("</span>");
        }
        if depth > 0 {
            let parts = spans.iter().filter(|part| part.parent_id == span.span_id);
            list(html, &parts.collect::<Vec<_>>(), spans, depth - 1);
        }
        html.raw("</li>");
    }
    html.raw("</ul>");
}
