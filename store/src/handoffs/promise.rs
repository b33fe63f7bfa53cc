//! What the visitor of a session is promised: made once, with the handoff, and kept with it.

use sqlx::PgConnection;

use crate::{
    business_hours::{self, Promise},
    ids::SessionId,
    phrases::Language,
};

/// What a handoff of the session promises: what the open one does, otherwise what the business hours
/// give now. `None`: there are no hours, or nobody works. In the transaction that opens the handoff.
pub async fn promise(
    conn: &mut PgConnection,
    session_id: &SessionId,
) -> sqlx::Result<Option<Promise>> {
    let session = sqlx::query!(
        r#"select s.locale, open.promise_text as "text?", open.promise_by as "by?",
                  open.created_at as "made_at?"
           from sessions s
           left join handoff_records open
             on open.session_id = s.session_id and open.status = 'pending' and open.sealed_at is null
           where s.session_id = $1"#,
        session_id.as_str(),
    )
    .fetch_one(&mut *conn)
    .await?;
    if let (Some(text), Some(by), Some(made_at)) = (session.text, session.by, session.made_at) {
        return Ok(Some(Promise { text, by, made_at }));
    }
    let (hours, now) = business_hours::load(conn).await?;
    let language = Language::of(session.locale.as_deref());
    Ok(hours.and_then(|hours| hours.promise(now, language)))
}
