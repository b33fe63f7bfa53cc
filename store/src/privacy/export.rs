//! A copy of everything that is known of somebody: for programs as JSON, for people as a page.

use serde_json::{Value, json};
use sqlx::{PgConnection, types::Json};

use super::{Address, sessions_of_email};
use crate::ids::SessionId;

/// Makes the transaction see one moment, whatever is written meanwhile: its first statement.
pub async fn hold_still(conn: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("set transaction isolation level repeatable read, read only")
        .execute(conn)
        .await?;
    Ok(())
}

/// Everything that is known of a session and of whoever wrote in it; `None`: nothing is. Times are RFC
/// 3339 in UTC. What is a figure of ours and not about the person (cost, tokens) is left out.
pub async fn export_session(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<Value>> {
    sqlx::query_scalar!(
        r#"select jsonb_build_object(
               'exported_at', now(),
               'session', (select jsonb_build_object(
                       'id', s.session_id, 'status', s.status, 'termination_type', s.termination_type,
                       'stage', s.stage, 'page_url', s.page_url, 'locale', s.locale,
                       'created_at', s.created_at, 'last_activity_at', s.last_activity_at,
                       'closed_at', s.closed_at)
                   from sessions s where s.session_id = $1),
               'messages', (select coalesce(jsonb_agg(jsonb_build_object(
                       'role', m.role, 'author', m.author, 'text', m.body, 'sources', m.sources,
                       'status', m.status, 'at', m.created_at)
                       order by m.turn, m.role desc, m.created_at), '[]')
                   from messages m where m.session_id = $1),
               'summary', (select c.state -> 'summary' from checkpoints c where c.session_id = $1),
               'feedback', (select coalesce(jsonb_agg(jsonb_build_object(
                       'turn', f.turn, 'rating', f.rating, 'comment', f.comment, 'at', f.updated_at)
                       order by f.turn), '[]')
                   from feedback f where f.session_id = $1),
               'handoffs', (select coalesce(jsonb_agg(jsonb_build_object(
                       'lead', h.lead, 'summary', h.summary, 'trigger', h.trigger, 'status', h.status,
                       'page_url', h.page_url, 'locale', h.locale, 'consent_at', h.consent_at,
                       'transcript', h.transcript, 'promise', h.promise_text, 'created_at', h.created_at,
                       'told', (select coalesce(jsonb_agg(jsonb_build_object(
                               'channel', d.channel, 'status', d.status, 'at', d.delivered_at)
                               order by d.channel), '[]')
                           from handoff_deliveries d
                           where d.session_id = $1 and d.handoff_id = h.handoff_id))
                       order by h.created_at), '[]')
                   from handoff_records h where h.session_id = $1))
               as "all!: Json<Value>"
           where exists (select 1 from sessions where session_id = $1)
              or exists (select 1 from handoff_records where session_id = $1)"#,
        session_id.as_str(),
    )
    .fetch_optional(conn)
    .await
    .map(|found| found.map(|all| all.0))
}

/// Everything that is known of whoever left this address. What others left who only named it is not theirs.
pub async fn export_email(conn: &mut PgConnection, address: &Address) -> sqlx::Result<Vec<Value>> {
    let mut all = Vec::new();
    for session_id in sessions_of_email(conn, address, None).await?.theirs {
        all.extend(export_session(conn, &session_id).await?);
    }
    Ok(all)
}

/// The copy as it is given away: one document, whatever was asked for.
pub fn document(conversations: &[Value]) -> Value {
    json!({
        "format": "growth-chat export 1",
        "conversations": conversations,
    })
}

/// The same for people. It needs nothing from anywhere, and everything in it is escaped.
pub fn page(document: &Value) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Your data</title>\
         <style>body{font:16px/1.5 system-ui,sans-serif;max-width:48rem;margin:2rem auto;padding:0 1rem}\
         table{border-collapse:collapse;margin:.25rem 0}td,th{border:1px solid #ccd;padding:.25rem .6rem;\
         text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:anywhere}</style>\
         <h1>Your data</h1>",
    );
    render(&mut html, document);
    html
}

fn render(html: &mut String, value: &Value) {
    match value {
        Value::Object(fields) => {
            html.push_str("<table>");
            for (name, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                html.push_str("<tr><th>");
                escape(html, &name.replace('_', " "));
                html.push_str("</th><td>");
                render(html, value);
                html.push_str("</td></tr>");
            }
            html.push_str("</table>");
        }
        Value::Array(items) if items.is_empty() => html.push('–'),
        Value::Array(items) => items.iter().for_each(|item| render(html, item)),
        Value::String(text) => escape(html, text),
        other => escape(html, &other.to_string()),
    }
}

fn escape(html: &mut String, text: &str) {
    for letter in text.chars() {
        match letter {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_everything_and_runs_nothing() {
        let conversation =
            json!({"messages": [{"text": "<script>alert('x')</script>", "author": null}]});
        let page = page(&document(&[conversation]));
        assert!(!page.contains("<script>"), "{page}");
        assert!(
            page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            "{page}"
        );
        assert!(!page.contains("author"), "{page}");
        assert!(page.contains("growth-chat export 1"), "{page}");
    }
}
