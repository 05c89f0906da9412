//! The cost-quality plot, as a picture and in characters.

use engine::replay::Corner;
use std::fmt::Write as _;
use types::encoding::xml;

/// A plot: fixed models, runs of the router, the oracle.
#[derive(Clone, Debug, Default)]
pub(super) struct Plot {
    pub(super) title: String,
    pub(super) fixed: Vec<Corner>,
    pub(super) router: Vec<Corner>,
    pub(super) oracle: Vec<Corner>,
}

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 60.0;

/// Where a cost and a quality stand between 0 and 1; costs by their logarithm.
struct Scale {
    cost: (f64, f64),
    quality: (f64, f64),
}

impl Scale {
    fn of(plot: &Plot) -> Self {
        let all = || plot.fixed.iter().chain(&plot.router).chain(&plot.oracle).filter(|p| p.cost > 0.0);
        let span = |f: fn(&Corner) -> f64| {
            all().map(f).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)))
        };
        let ((c0, c1), (q0, q1)) = (span(|p| p.cost.ln()), span(|p| p.quality));
        let pad = ((q1 - q0) * 0.06).max(1e-3);
        Scale { cost: (c0 - 0.1, c1 + 0.1), quality: ((q0 - pad).max(0.0), (q1 + pad).min(1.0)) }
    }

    fn at(&self, p: &Corner) -> (f64, f64) {
        let part = |x: f64, (a, b): (f64, f64)| if b > a { ((x - a) / (b - a)).clamp(0.0, 1.0) } else { 0.5 };
        (part(p.cost.max(1e-12).ln(), self.cost), part(p.quality, self.quality))
    }
}

/// Plots as one SVG document, one below the other.
pub(super) fn svg(plots: &[Plot]) -> String {
    let title = plots.iter().map(|p| p.title.as_str()).collect::<Vec<_>>().join("; ");
    let height = HEIGHT * plots.len().max(1) as f64;
    // Writing to a String cannot fail, hence the ignored results.
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\" role=\"img\"><title>{}</title>\n<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>",
        xml(&title)
    );
    for (i, plot) in plots.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0 {})\">", HEIGHT * i as f64);
        one(&mut out, plot);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

fn one(out: &mut String, plot: &Plot) {
    let scale = Scale::of(plot);
    let place = |p: &Corner| {
        let (x, y) = scale.at(p);
        (LEFT + x * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y * (HEIGHT - TOP - BOTTOM))
    };
    let _ = writeln!(out, "<text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>", xml(&plot.title));
    axes(out, &scale);
    for p in &plot.fixed {
        let (x, y) = place(p);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#9aa3ad\"/>");
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"#5b6570\">{}</text>",
            x + 6.0,
            y + 4.0,
            xml(&p.label)
        );
    }
    line(out, &plot.oracle, &place, "#c9b458");
    line(out, &plot.router, &place, "#1f6feb");
    for p in &plot.router {
        let (x, y) = place(p);
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"#1f6feb\"><title>{} quality {:.4} cost {:.6} USD</title></circle>",
            xml(&p.label),
            p.quality,
            p.cost
        );
    }
    let legend = [("#1f6feb", "Turnout, by lambda"), ("#9aa3ad", "one fixed model"), ("#c9b458", "oracle")];
    for (i, (colour, text)) in legend.iter().enumerate() {
        let y = TOP + 16.0 * i as f64;
        let x = WIDTH - RIGHT + 50.0;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{:.1}\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"{y:.1}\">{text}</text>",
            y - 9.0,
            x + 15.0
        );
    }
}

fn axes(out: &mut String, scale: &Scale) {
    let (x0, x1, y0, y1) = (LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP);
    let _ = writeln!(out, "<path d=\"M{x0} {y1}V{y0}H{x1}\" fill=\"none\" stroke=\"#444\"/>");
    for i in 0..=5 {
        let part = f64::from(i) / 5.0;
        let (y, x) = (y0 - part * (y0 - y1), x0 + part * (x1 - x0));
        let quality = scale.quality.0 + part * (scale.quality.1 - scale.quality.0);
        let cost = (scale.cost.0 + part * (scale.cost.1 - scale.cost.0)).exp();
        let _ = writeln!(
            out,
            "<path d=\"M{x0} {y:.1}H{x1}\" stroke=\"#eee\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{quality:.2}</text>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            x0 - 6.0,
            y + 4.0,
            y0 + 16.0,
            short(cost)
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">mean cost of a request, USD (logarithmic)</text>\
         <text transform=\"translate(18 {:.1}) rotate(-90)\" text-anchor=\"middle\">mean quality</text>",
        f64::midpoint(x0, x1),
        y0 + 38.0,
        f64::midpoint(y0, y1)
    );
}

fn line(out: &mut String, points: &[Corner], place: &dyn Fn(&Corner) -> (f64, f64), colour: &str) {
    let path: Vec<String> = points
        .iter()
        .map(|p| {
            let (x, y) = place(p);
            format!("{x:.1},{y:.1}")
        })
        .collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        path.join(" ")
    );
}

fn short(cost: f64) -> String {
    if cost >= 0.01 { format!("{cost:.3}") } else { format!("{cost:.1e}") }
}

/// The plot in characters: `o` fixed models, `#` the router, `+` the oracle.
pub(super) fn characters(plot: &Plot, columns: usize, rows: usize) -> String {
    let scale = Scale::of(plot);
    let mut grid = vec![vec![' '; columns]; rows];
    let marks = [(&plot.fixed, 'o'), (&plot.oracle, '+'), (&plot.router, '#')];
    for (points, mark) in marks {
        for p in points {
            let (x, y) = scale.at(p);
            // Both are within 0..=1, so that the casts stay within the grid.
            let (column, row) =
                ((x * (columns - 1) as f64) as usize, ((1.0 - y) * (rows - 1) as f64) as usize);
            if let Some(cell) = grid.get_mut(row).and_then(|r| r.get_mut(column)) {
                *cell = mark;
            }
        }
    }
    let mut out = format!("{}\n", plot.title);
    for (i, row) in grid.iter().enumerate() {
        let part = 1.0 - i as f64 / (rows.max(2) - 1) as f64;
        let quality = scale.quality.0 + part * (scale.quality.1 - scale.quality.0);
        let text: String = row.iter().collect();
        let _ = writeln!(out, "{quality:5.2} |{}", text.trim_end());
    }
    let _ = writeln!(out, "      +{}", "-".repeat(columns));
    let (low, high) = (short(scale.cost.0.exp()), short(scale.cost.1.exp()));
    let _ = writeln!(out, "       {low:<width$}{high}", width = columns.saturating_sub(high.len()));
    out.push_str(
        "       mean cost, USD (logarithmic)   # Turnout by lambda   o one fixed model   + oracle\n",
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Plot {
        let point = |label: &str, cost, quality| Corner { label: label.to_owned(), cost, quality };
        Plot {
            title: "a <b> & c".to_owned(),
            fixed: vec![point("cheap", 1e-5, 0.3), point("dear", 1e-2, 0.8)],
            router: vec![point("0.2", 1e-4, 0.7)],
            oracle: vec![point("0", 1e-4, 0.9)],
        }
    }

    #[test]
    fn every_point_is_drawn_within_the_picture() {
        let text = svg(&[plot(), plot()]);
        assert!(text.contains("a &lt;b&gt; &amp; c") && text.ends_with("</svg>\n"));
        assert_eq!((text.matches("<circle").count(), text.matches("<g ").count()), (6, 2));
        assert!(text.contains("viewBox=\"0 0 860 1040\""), "the second stands below the first");
        let drawn = characters(&plot(), 60, 12);
        assert_eq!(
            ["o", "#", "+"].map(|m| drawn
                .lines()
                .skip(1)
                .take(12)
                .map(|l| l.matches(m).count())
                .sum::<usize>()),
            [2, 1, 1]
        );
    }
}
