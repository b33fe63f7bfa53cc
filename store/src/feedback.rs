//! What visitors think of answers.

use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::ids::TurnKey;

/// A thumb.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rating {
    /// The answer helped.
    Up,
    /// It did not.
    Down,
}

impl Rating {
    /// The name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What became of an opinion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rated {
    /// It is kept.
    Kept,
    /// The turn is not finished: there is nothing to have an opinion on.
    Unfinished,
    /// The session has no such turn.
    NoTurn,
}

/// Keeps what a visitor thinks of a finished turn. The newest opinion stands, its comment included. A session that
/// is forgotten takes none: nothing would ever forget it.
pub async fn rate(
    conn: &mut PgConnection,
    key: &TurnKey,
    rating: Rating,
    comment: Option<&str>,
) -> sqlx::Result<Rated> {
    // The row locks keep the turn there until the opinion is, and nobody forgets the session meanwhile.
    let finished = sqlx::query_scalar!(
        r#"with turn as (
               select finished_at is not null as finished
               from turns join sessions using (session_id)
               where session_id = $1 and turn = $2 and forgotten_at is null
               for key share of turns for share of sessions
           ), kept as (
               insert into feedback (session_id, turn, rating, comment)
               select $1, $2, $3, $4 from turn where finished
               on conflict on constraint feedback_pkey do update
               set rating = excluded.rating, comment = excluded.comment, updated_at = now()
           )
           select finished as "finished!" from turn"#,
        key.session_id.as_str(),
        key.turn,
        rating.as_str(),
        comment,
    )
    .fetch_optional(conn)
    .await?;
    Ok(match finished {
        Some(true) => Rated::Kept,
        Some(false) => Rated::Unfinished,
        None => Rated::NoTurn,
    })
}
