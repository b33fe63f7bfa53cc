//! An error for people: what failed and why, each cause once and in one line.

/// The error with its causes. Many errors repeat their cause in their own words, and a database's ends with
/// the line of the server's source that raised it; neither helps whoever reads it.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain() {
        let of_database = cause
            .downcast_ref::<sqlx::Error>()
            .and_then(sqlx::Error::as_database_error);
        let words = of_database.map_or_else(|| cause.to_string(), |it| it.message().to_owned());
        if !told.contains(&words) {
            if !told.is_empty() {
                told.push_str(": ");
            }
            told.push_str(&words);
        }
        // Its own cause says the same again.
        if of_database.is_some() {
            break;
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the disk failed: {0}")]
    struct Repeats(#[source] std::io::Error);

    #[test]
    fn a_cause_that_an_error_has_told_already_is_not_told_again() {
        let error = anyhow::Error::new(Repeats(std::io::Error::other("it is full")));
        assert_eq!(told(&error), "the disk failed: it is full");
        let error = Err::<(), _>(error).context("saving").unwrap_err();
        assert_eq!(told(&error), "saving: the disk failed: it is full");
        let error = Err::<(), _>(anyhow!("b")).context("a").unwrap_err();
        assert_eq!(told(&error), "a: b");
    }
}
