//! Alerts, dashboard and their page: no compiler reads them, and an alert on a metric that is not there
//! never fires. Whether the rules do what they should is Prometheus' to say: `ops/check`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{markdown, root, text};

const RULES: &str = "ops/prometheus/alerts.yml";
const DASHBOARD: &str = "ops/grafana/growth-chat.json";
const TESTS: [&str; 2] = [
    "ops/prometheus/alerts_test.yml",
    "ops/prometheus/alerts_in_days_test.yml",
];
/// The label of Prometheus that the links of alerts begin with.
const EXTERNAL_LABEL: &str = "growth_chat_docs";

fn file(name: &str) -> String {
    text(&root().join(name))
}

/// The names that an expression, or whatever else, has of metrics of ours.
fn metrics(text: &str) -> BTreeSet<String> {
    let of_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let names = text.match_indices("growth_chat_").map(|(at, _)| {
        let name = text[at..].split(|letter| !of_name(letter)).next();
        name.unwrap_or_default().to_owned()
    });
    names.filter(|name| name != EXTERNAL_LABEL).collect()
}

/// The documented metrics, and whether each is a histogram.
fn documented() -> BTreeMap<String, bool> {
    let document = file("docs/metrics.md");
    let rows = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split(" | ");
        let name = cells.next()?.split(['{', '`']).next()?;
        Some((name.to_owned(), cells.next()? == "histogram"))
    });
    rows.collect()
}

/// Whether Prometheus has this series, by what is documented.
fn is_exported(series: &str, documented: &BTreeMap<String, bool>) -> bool {
    let part = ["_bucket", "_sum", "_count"]
        .iter()
        .find_map(|suffix| series.strip_suffix(suffix));
    match part {
        Some(histogram) if documented.get(histogram) == Some(&true) => true,
        _ => documented.get(series) == Some(&false),
    }
}

/// The alerts, each with the text of its rule; `QueueStuck` has two.
fn alerts() -> Vec<(String, String)> {
    let rules = file(RULES);
    let blocks = rules.split("\n      - ").skip(1);
    let alerts = blocks.filter_map(|block| {
        let (name, rule) = block.strip_prefix("alert: ")?.split_once('\n')?;
        Some((name.to_owned(), rule.to_owned()))
    });
    alerts.collect()
}

fn alert_names() -> BTreeSet<String> {
    alerts().into_iter().map(|(name, _)| name).collect()
}

/// What follows `key` in its line.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| line.strip_prefix(key)).collect()
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Whether `docs/x.md#anchor` leads to a heading.
fn leads_to_a_heading(target: &str) -> bool {
    let Some((document, wanted)) = target.split_once('#') else {
        return false;
    };
    let content = file(document);
    let headings = content.lines().filter(|line| line.starts_with('#'));
    let mut anchors = headings.map(|line| anchor(line.trim_start_matches('#').trim_start()));
    anchors.any(|found| found == wanted)
}

fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&file(DASHBOARD)).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("it has panels");
    assert!(panels.len() >= 30, "{} panels", panels.len());
    panels.clone()
}

#[test]
fn every_metric_that_an_alert_or_a_panel_asks_for_is_documented() {
    let documented = documented();
    assert!(documented.len() >= 30, "{documented:?}");
    // A sentence may name a histogram as it is documented; an expression that did would find nothing.
    let rules = file(RULES);
    let (expressions, sentences): (Vec<&str>, Vec<&str>) = rules
        .split("\n      - ")
        .skip(1)
        .map(|rule| rule.split_once("annotations:").unwrap_or((rule, "")))
        .unzip();
    for name in metrics(&sentences.concat()) {
        assert!(documented.contains_key(&name), "{RULES}: {name}");
    }
    let mut asking = vec![(RULES, expressions.concat()), (DASHBOARD, file(DASHBOARD))];
    asking.extend(TESTS.map(|name| (name, file(name))));
    for (name, content) in asking {
        let asked = metrics(&content);
        assert!(asked.len() >= 5, "{name} asks for {asked:?}");
        for series in asked {
            assert!(is_exported(&series, &documented), "{name}: {series}");
        }
    }
}

#[test]
fn every_documented_metric_is_on_the_dashboard() {
    let shown = metrics(&file(DASHBOARD));
    // An alert's; the dashboard has the sum and the cap.
    let not_shown = "growth_chat_llm_cost_near_cap";
    for name in documented().into_keys().filter(|name| name != not_shown) {
        let is_shown = shown.iter().any(|series| {
            let rest = series.strip_prefix(&name);
            rest.is_some_and(|rest| ["", "_bucket", "_sum", "_count"].contains(&rest))
        });
        assert!(is_shown, "{name}");
    }
}

#[test]
fn every_alert_has_its_row_and_every_row_its_alert() {
    let page = file("docs/alerts.md");
    let rows = page.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("| `")?.split_once("` | ")?;
        Some((name.to_owned(), rest.split_once(" | ")?.0.to_owned()))
    });
    let rows: BTreeMap<String, String> = rows.collect();
    let named: BTreeSet<String> = rows.keys().cloned().collect();
    assert_eq!(named, alert_names());
    for (name, rule) in alerts() {
        let severity = values(&rule, "severity: ");
        assert_eq!(severity.len(), 1, "{name}");
        assert!(["page", "ticket"].contains(&severity[0]), "{name}");
        let told: Vec<&str> = rows[&name].split(", ").collect();
        assert!(
            told.contains(&severity[0]),
            "{name} is a {severity:?} and not {told:?}"
        );
    }
}

#[test]
fn every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_does_not() {
    let tests = TESTS.map(file).concat();
    // `- expr:` up to the next one: the question, and what is expected.
    let cases: Vec<&str> = tests.split("- expr: ").skip(1).collect();
    for name in alert_names() {
        let fires = format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\",");
        assert!(
            cases.iter().any(|case| case.contains(&fires)),
            "{name} never fires"
        );
        let stays_quiet = cases.iter().any(|case| {
            let (question, expected) = case.split_once('\n').unwrap_or_default();
            asks_for(question, &name) && expected.contains("exp_samples: []")
        });
        assert!(stays_quiet, "{name} has nothing that comes near");
    }
}

/// Whether `ALERTS{alertname="A"}` or `ALERTS{alertname=~"A|B"}` is about an alert.
fn asks_for(question: &str, alert: &str) -> bool {
    let asked = question
        .split_once("alertname=")
        .map(|(_, rest)| rest.trim_start_matches('~').trim_start_matches('"'))
        .and_then(|rest| rest.split('"').next());
    asked.is_some_and(|names| names.split('|').any(|name| name == alert))
}

#[test]
fn every_alert_says_what_it_means_and_leads_to_what_is_to_be_done() {
    const BASE: &str = "\"{{ with $externalLabels.growth_chat_docs }}{{ . }}/{{ end }}";
    for (name, rule) in alerts() {
        assert_eq!(values(&rule, "summary: ").len(), 1, "{name}");
        assert_eq!(values(&rule, "description: ").len(), 1, "{name}");
        let leads = values(&rule, "runbook_url: ");
        assert_eq!(leads.len(), 1, "{name}");
        let target = leads[0]
            .strip_prefix(BASE)
            .and_then(|rest| rest.strip_suffix('"'))
            .unwrap_or_else(|| panic!("{name}: {}", leads[0]));
        assert!(leads_to_a_heading(target), "{name} leads to {target}");
    }
    assert!(!leads_to_a_heading("docs/alerts.md#no-such-heading"));
}

#[test]
fn the_pages_links_into_other_pages_lead_to_headings() {
    let page = file("docs/alerts.md");
    let targets = page
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target)
        .filter(|target| target.contains('#') && !target.contains("://"));
    let mut seen = 0;
    for target in targets {
        let target = match target.strip_prefix('#') {
            Some(own) => format!("docs/alerts.md#{own}"),
            None => format!("docs/{target}"),
        };
        assert!(leads_to_a_heading(&target), "{target}");
        seen += 1;
    }
    assert!(seen >= 10, "{seen} links");
    assert!(markdown("docs").contains(&root().join("docs/alerts.md")));
}

#[test]
fn every_panel_has_an_id_a_place_a_sentence_and_a_unit() {
    let mut ids = BTreeSet::new();
    let mut places = BTreeSet::new();
    for panel in panels() {
        let title = panel["title"].as_str().expect("a title");
        let id = panel["id"].as_u64().expect("an id");
        assert!(ids.insert(id), "{title} has the id of another one");
        let side = |name: &str| panel["gridPos"][name].as_u64().expect("a number");
        for x in side("x")..side("x") + side("w") {
            assert!(x < 24, "{title} is not on the page");
            for y in side("y")..side("y") + side("h") {
                assert!(places.insert((x, y)), "{title} covers another one");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let description = panel["description"].as_str().unwrap_or_default();
        let sentences = description.matches(". ").count() + 1;
        assert!(
            description.ends_with('.') && sentences == 1,
            "{title}: {description}"
        );
        let unit = panel["fieldConfig"]["defaults"]["unit"].as_str();
        assert!(unit.is_some_and(|unit| !unit.is_empty()), "{title}");
        let targets = panel["targets"].as_array().expect("what it asks for");
        assert!(!targets.is_empty(), "{title}");
        for target in targets {
            // Of the data source and the installation that were chosen at the top.
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().expect("an expression");
            let asked = expression.matches("growth_chat_").count();
            let chosen = expression.matches("deployment=~\"$deployment\"").count();
            assert_eq!(asked, chosen, "{title}: {expression}");
        }
    }
}
