//! Whether `pg_dump` and psql are there, and new enough for the server.

use workers::backup::{RestoreError, ToolVersion, Tools, is_restrictable};

use super::{Context, Finding};

pub(super) async fn probe(context: &Context) -> Finding {
    let (Some(database), Some(config)) = (&context.database, &context.tools) else {
        return Finding::not_configured();
    };
    let server = sqlx::query_scalar!(
        r#"select current_setting('server_version_num')::integer as "version!""#
    )
    .fetch_one(database.pool())
    .await;
    let server = match server {
        Ok(version) => ToolVersion::of_number(version.unsigned_abs()),
        Err(error) => return Finding::failed("the server's version can't be read", error),
    };
    let tools = Tools::new(config.clone());
    let mut told = Vec::new();
    for program in ["pg_dump", "psql"] {
        match tools.version(program).await {
            Ok(version) => match judge(program, version, server) {
                Ok(line) => told.push(line),
                Err(line) => return Finding::fail(line),
            },
            Err(error) => return Finding::fail(error.to_string()),
        }
    }
    Finding::pass(told.join(", "))
}

fn judge(
    program: &'static str,
    version: ToolVersion,
    server: ToolVersion,
) -> Result<String, String> {
    if version.major < server.major {
        return Err(format!(
            "{program} {version} is older than the server {server}: install the client programs of \
             PostgreSQL {} or newer, or set PG_BIN_DIR",
            server.major
        ));
    }
    if program == "psql" && !is_restrictable(version) {
        return Err(RestoreError::Unrestricted(version).to_string());
    }
    Ok(format!("{program} {version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_be_newer_than_the_server_and_not_older() {
        let judge = |version: &str, server: &str| {
            judge("psql", version.parse().unwrap(), server.parse().unwrap())
        };
        assert!(judge("18.0", "17.6").is_ok());
        assert!(judge("17.6", "17.7").is_ok());
        assert!(
            judge("17.5", "17.6")
                .unwrap_err()
                .contains("restricted mode")
        );
        assert!(judge("16.9", "17.0").unwrap_err().contains("PostgreSQL 17"));
    }
}
