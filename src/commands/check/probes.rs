//! Everything that is checked, in the order of the table. They run at once, but for those that need another.

use futures::future::{FutureExt, ready};

use super::{
    Probe, bucket, calibration, configuration, crm, database, edge, knowledge, listen, mail,
    pg_dump, pgvector, privacy, providers, schema, slack, traces, verify,
};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        name: "configuration",
        needs: &[],
        asks: "no other machine",
        run: |context| ready(configuration::probe(context)).boxed(),
    },
    Probe {
        name: "edge",
        needs: &[],
        asks: "no other machine",
        run: |context| ready(edge::probe(context)).boxed(),
    },
    Probe {
        name: "privacy",
        needs: &[],
        asks: "no other machine",
        run: |context| ready(privacy::probe(context)).boxed(),
    },
    Probe {
        name: "database",
        needs: &[],
        asks: "CHECKPOINT_DB_URL",
        run: |context| database::probe(context).boxed(),
    },
    Probe {
        name: "pgvector",
        needs: &["database"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| pgvector::probe(context).boxed(),
    },
    Probe {
        name: "schema",
        needs: &["database"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| schema::probe(context).boxed(),
    },
    Probe {
        name: "notifications",
        needs: &["database"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| listen::probe(context).boxed(),
    },
    Probe {
        name: "knowledge",
        needs: &["database", "schema"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| knowledge::probe(context).boxed(),
    },
    Probe {
        name: "calibration",
        needs: &["database", "schema", "knowledge"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| calibration::probe(context).boxed(),
    },
    Probe {
        name: "model",
        needs: &[],
        asks: "ANTHROPIC_BASE_URL",
        run: |context| providers::model(context).boxed(),
    },
    Probe {
        name: "embeddings",
        needs: &[],
        asks: "OPENAI_EU_ENDPOINT",
        run: |context| providers::embeddings(context).boxed(),
    },
    Probe {
        name: "bucket",
        needs: &[],
        asks: "TIGRIS_ENDPOINT_URL",
        run: |context| bucket::probe(context).boxed(),
    },
    Probe {
        name: "pg_dump",
        needs: &["database"],
        asks: "PG_BIN_DIR",
        run: |context| pg_dump::probe(context).boxed(),
    },
    Probe {
        name: "verify",
        needs: &["database"],
        asks: "CHECKPOINT_DB_URL",
        run: |context| verify::probe(context).boxed(),
    },
    Probe {
        name: "slack",
        needs: &[],
        asks: "SLACK_API_BASE_URL",
        run: |context| slack::probe(context).boxed(),
    },
    Probe {
        name: "crm",
        needs: &[],
        asks: "HUBSPOT_BASE_URL or CRM_WEBHOOK_URL",
        run: |context| crm::probe(context).boxed(),
    },
    Probe {
        name: "mail",
        needs: &[],
        asks: "SMTP_HOST and SMTP_PORT",
        run: |context| mail::probe(context).boxed(),
    },
    Probe {
        name: "traces",
        needs: &[],
        asks: "OTEL_EXPORTER_OTLP_ENDPOINT",
        run: |context| traces::probe(context).boxed(),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_has_its_own_name_and_needs_earlier_ones() {
        for (place, probe) in PROBES.iter().enumerate() {
            let before: Vec<&str> = PROBES[..place].iter().map(|probe| probe.name).collect();
            assert!(!before.contains(&probe.name), "{}", probe.name);
            for needed in probe.needs {
                assert!(before.contains(needed), "{} needs {needed}", probe.name);
            }
        }
    }

    #[test]
    fn every_probe_is_explained() {
        let document = include_str!("../../../docs/checking.md");
        let explained: Vec<&str> = document
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(name, _)| name)
            .collect();
        let names: Vec<&str> = PROBES.iter().map(|probe| probe.name).collect();
        assert_eq!(explained, names);
    }
}
