//! Whether there is something to answer from, made with the configuration of now.

use store::knowledge::{KnowledgeError, KnowledgeOverview, knowledge_overview};

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let Some(deps) = &context.knowledge else {
        return Finding::not_configured();
    };
    let profile = deps.profile();
    let overview = async {
        let mut conn = deps.pool.acquire().await?;
        knowledge_overview(&mut conn, &profile).await
    };
    let overview = match overview.await {
        Ok(overview) => overview,
        Err(error) => return Finding::failed("it can't be looked at", error),
    };
    match overview.dimensions {
        Some(found) if found != i32::from(profile.dimensions) && overview.documents > 0 => {
            let error = KnowledgeError::Dimensions {
                table: profile.table,
                found,
                wanted: profile.dimensions,
            };
            Finding::fail(error.to_string())
        }
        _ => judge(&overview),
    }
}

fn judge(overview: &KnowledgeOverview) -> Finding {
    let KnowledgeOverview {
        documents, current, ..
    } = *overview;
    if documents == 0 {
        Finding::warn(
            "nothing is indexed, so that every question is unanswerable: run `growth-chat index`",
        )
    } else if current < documents {
        Finding::warn(format!(
            "{} of {documents} documents wait for their chunks, or have them of another model or size: \
             run `growth-chat index` again",
            documents - current
        ))
    } else {
        Finding::pass(format!("{documents} documents are indexed"))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Status, *};

    #[test]
    fn documents_without_current_chunks_are_worth_a_warning() {
        let status = |documents, current| {
            let overview = KnowledgeOverview {
                dimensions: Some(8),
                documents,
                current,
            };
            judge(&overview).status
        };
        assert_eq!(status(0, 0), Status::Warn);
        assert_eq!(status(5, 4), Status::Warn);
        assert_eq!(status(5, 5), Status::Pass);
    }
}
