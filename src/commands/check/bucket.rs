//! Whether the bucket of the backups can be used: looked at and listed, nothing is written.

use workers::{
    backup::{Restorer, told},
    clients::bucket::Patience,
};

use super::{Context, Finding, configuration};

pub(super) async fn probe(_: &Context) -> Finding {
    let Some(config) = configuration::part(workers::config::RestoreConfig::read) else {
        return Finding::fail(
            "no backups are made: TIGRIS_BUCKET_NAME, TIGRIS_ACCESS_KEY_ID or \
             TIGRIS_SECRET_ACCESS_KEY is missing, or one of the bucket's variables is wrong",
        );
    };
    let restorer = Restorer::new(&config, Patience::default());
    if let Err(error) = restorer.bucket().probe().await {
        return Finding::fail(format!("it can't be used: {error}"));
    }
    match restorer.list().await {
        Ok(found) => match found.last() {
            Some(newest) => Finding::pass(format!(
                "it has {} backups, the newest is {}",
                found.len(),
                newest.name
            )),
            None => Finding::warn("it has no backup yet: run `growth-chat backup`"),
        },
        Err(error) => Finding::fail(format!("it can't be used: {}", told(&error))),
    }
}
