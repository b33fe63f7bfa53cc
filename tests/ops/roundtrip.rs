//! How far away the database is, for whoever scrapes the metrics.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::metrics::{PATIENCE, Scrape, WINDOW, scrape, until_scraped};
use crate::support::{TestSystem, wire::Wire};

#[tokio::test]
async fn the_way_to_the_database_is_measured_with_every_piece_of_work_and_with_nothing_else() {
    const METRIC: &str = "growth_chat_database_roundtrip_seconds";
    /// Longer than the bound that the alert compares with, and shorter than what is waited for.
    const LATE: Duration = Duration::from_millis(40);
    let mut system = TestSystem::new().await;
    system.set("QUEUE_IDLE_POLL_SECONDS", "0");
    let wire = Wire::to(&system.database_url()).await;
    wire.be_long(LATE);
    system.set("CHECKPOINT_DB_URL", &wire.url(&system.database_url()));
    let app = system.serve().await;
    app.ask("s1", "m1", "Hello?").await.rest().await;
    let figure = |figures: &Scrape, name: &str| -> f64 {
        let figure = figures.get(&format!("{METRIC}_{name}"));
        figure.map_or(0.0, |figure| figure.parse().unwrap())
    };
    let asked = until_scraped(&app.process, "questions are measured", |figures| {
        figure(figures, "count") > 0.0
    })
    .await;
    // None was faster than the wire, and they were measured one by one.
    assert!(figure(&asked, "bucket{le=\"0.03\"}") <= 0.0, "{asked:#?}");
    let count = figure(&asked, "count");
    assert!(figure(&asked, "sum") >= count * LATE.as_secs_f64());
    // At rest nothing is asked, however often it is scraped.
    let begun = Instant::now();
    loop {
        let before = figure(&scrape(&app.process).await, "count");
        sleep(WINDOW).await;
        let after = figure(&scrape(&app.process).await, "count");
        if before >= after {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{before} became {after}");
    }
}
