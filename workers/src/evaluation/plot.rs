//! The curve of a measurement as an SVG image: recall and abstention over the threshold.
//!
//! Written by hand: two lines on a grid need no library. The colours are told apart without seeing
//! them as such (one line is dashed) and are legible on white and on black.

use std::fmt::Write as _;

use super::metrics::{Point, Proposal};

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 56.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 48.0;

const RECALL: &str = "#1f77b4";
const ABSTENTION: &str = "#d9730d";
const GREY: &str = "#888888";

/// Draws the curve, up to the threshold from which on nothing is found any more.
pub fn svg(title: &str, curve: &[Point], k: usize, proposal: Option<Proposal>) -> String {
    let end = right_end(curve);
    let x = |threshold: f64| LEFT + threshold / end * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{GREY}\" role=\"img\">\n\
         <title>{}</title>\n",
        escaped(title)
    );
    for tenth in (0..=10_u32).step_by(2) {
        let share = f64::from(tenth) / 10.0;
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"{GREY}\" stroke-opacity=\"0.3\"/>\
             <text x=\"{label}\" y=\"{text:.1}\" text-anchor=\"end\">{percent} %</text>",
            y = y(share),
            right = WIDTH - RIGHT,
            label = LEFT - 8.0,
            text = y(share) + 4.0,
            percent = tenth * 10,
        );
    }
    for tenth in 0..=10_u32 {
        let threshold = f64::from(tenth) / 10.0 * end;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{threshold:.2}</text>",
            x(threshold),
            HEIGHT - BOTTOM + 18.0,
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">threshold (cosine)</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 10.0,
    );
    if let Some(proposal) = proposal {
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"{GREY}\" stroke-dasharray=\"2 3\"/>\
             <text x=\"{text:.1}\" y=\"{baseline}\">proposed: {threshold:.3}</text>",
            x = x(proposal.threshold),
            bottom = HEIGHT - BOTTOM,
            text = x(proposal.threshold) + 6.0,
            baseline = HEIGHT - BOTTOM - 8.0,
            threshold = proposal.threshold,
        );
    }
    for (name, colour, dashes, place, value) in [
        (
            format!("recall@{k} on answerable questions"),
            RECALL,
            "none",
            LEFT,
            (|point: &Point| point.recall) as fn(&Point) -> Option<f64>,
        ),
        (
            "abstention on unanswerable questions".to_owned(),
            ABSTENTION,
            "7 3",
            LEFT + 260.0,
            |point: &Point| point.abstention,
        ),
    ] {
        let points: Vec<String> = curve
            .iter()
            .filter(|point| point.threshold <= end)
            .filter_map(|point| Some((point.threshold, value(point)?)))
            .map(|(threshold, share)| format!("{:.1},{:.1}", x(threshold), y(share)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/>\n\
             <path d=\"M{place} 20h24\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/><text x=\"{}\" y=\"24\">{name}</text>",
            points.join(" "),
            place + 32.0,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// A tenth beyond the last threshold at which something is still found.
fn right_end(curve: &[Point]) -> f64 {
    let last = curve
        .iter()
        .filter(|point| point.recall > Some(0.0) || point.abstention < Some(1.0))
        .map(|point| point.threshold)
        .fold(0.0, f64::max);
    ((last * 10.0).ceil() / 10.0 + 0.1).min(1.0)
}

/// Text as it may stand in XML.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            _ if sign.is_control() => {}
            _ => escaped.push(sign),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(threshold: f64, recall: f64, abstention: f64) -> Point {
        Point {
            threshold,
            recall: Some(recall),
            abstention: Some(abstention),
            precision: None,
        }
    }

    #[test]
    fn both_curves_and_the_proposal_are_drawn_where_they_belong() {
        let curve = [
            point(0.0, 1.0, 0.0),
            point(0.2, 0.5, 1.0),
            point(0.5, 0.0, 1.0),
        ];
        let proposal = Proposal {
            threshold: 0.15,
            recall: 1.0,
            abstention: 1.0,
        };
        let svg = svg("A < B & C", &curve, 5, Some(proposal));
        assert!(svg.contains("<title>A &lt; B &amp; C</title>"), "{svg}");
        // Nothing is found from 0.5 on: the axis ends at 0.3.
        assert!(
            svg.contains(">0.30</text>") && !svg.contains(">0.33</text>"),
            "{svg}"
        );
        // Full recall is at the top left; 0.2 of 0.3 is two thirds of the way to the right.
        assert!(svg.contains("points=\"56.0,40.0 488.0,176.0\""), "{svg}");
        assert!(svg.contains("points=\"56.0,312.0 488.0,40.0\""), "{svg}");
        assert!(svg.contains("M380.0 40V312"), "{svg}");
        assert!(svg.contains("proposed: 0.150"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2);
    }

    #[test]
    fn without_a_proposal_and_without_points_it_is_still_an_image() {
        let svg = svg("nothing", &[], 5, None);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(!svg.contains("proposed"));
    }
}
