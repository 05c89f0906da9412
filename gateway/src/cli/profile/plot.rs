//! Reliability plots as a picture: how sure profiles are, against how often they are right.

use crate::cli::Problem;
use profiler::eval::Reliability;
use std::fmt::Write as _;
use std::path::Path;
use types::encoding::xml;

/// Side of a plot, and the room around it.
const SIDE: f64 = 240.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 40.0;
const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 340.0;

/// Writes the plots, if a file is named.
pub(super) fn write<'a>(
    file: Option<&Path>,
    plots: impl IntoIterator<Item = (&'a str, &'a Reliability)>,
) -> Result<(), Problem> {
    let Some(file) = file else { return Ok(()) };
    let picture = svg(&plots.into_iter().collect::<Vec<_>>());
    std::fs::write(file, picture).map_err(|e| Problem(format!("cannot write {}: {e}", file.display())))
}

/// The plots side by side, as one SVG document.
fn svg(plots: &[(&str, &Reliability)]) -> String {
    let width = WIDTH * plots.len().max(1) as f64;
    // Writing to a String cannot fail, hence the ignored results.
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"11\" role=\"img\"><title>confidence against accuracy</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    for (i, (title, reliability)) in plots.iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate({} 0)\">", WIDTH * i as f64);
        one(&mut out, title, reliability);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// A point per bin, the larger the more requests it holds; honest ones lie on the diagonal.
fn one(out: &mut String, title: &str, reliability: &Reliability) {
    let (x, y) = (|share: f64| LEFT + share * SIDE, |share: f64| TOP + (1.0 - share) * SIDE);
    let _ = writeln!(
        out,
        "<text x=\"{LEFT}\" y=\"18\" font-size=\"13\">{}</text>\
         <text x=\"{LEFT}\" y=\"33\" fill=\"#5b6570\">calibration error {:.4}</text>",
        xml(title),
        reliability.error()
    );
    for i in 0..=5 {
        let part = f64::from(i) / 5.0;
        let _ = writeln!(
            out,
            "<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#eee\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{part:.1}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{part:.1}</text>",
            x(0.0),
            y(part),
            x(1.0),
            x(0.0) - 6.0,
            y(part) + 4.0,
            x(part),
            y(0.0) + 16.0
        );
    }
    let _ = writeln!(
        out,
        "<path d=\"M{0:.1} {1:.1}V{2:.1}H{3:.1}\" fill=\"none\" stroke=\"#444\"/>\
         <path d=\"M{0:.1} {2:.1}L{3:.1} {1:.1}\" stroke=\"#c9b458\" stroke-dasharray=\"4 3\"/>\
         <text x=\"{4:.1}\" y=\"{5:.1}\" text-anchor=\"middle\">confidence</text>\
         <text transform=\"translate(18 {6:.1}) rotate(-90)\" text-anchor=\"middle\">share right</text>",
        x(0.0),
        y(1.0),
        y(0.0),
        x(1.0),
        x(0.5),
        y(0.0) + 34.0,
        y(0.5)
    );
    let most = reliability.bins().map(|(_, _, n)| n).max().unwrap_or(1).max(1) as f64;
    for (confidence, accuracy, n) in reliability.bins() {
        // The area says how many.
        let radius = 2.5 + 7.5 * (n as f64 / most).sqrt();
        let _ = writeln!(
            out,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"{radius:.1}\" fill=\"#1f6feb\" fill-opacity=\"0.75\">\
             <title>confidence {confidence:.3}, right {accuracy:.3}, {n} requests</title></circle>",
            x(confidence),
            y(accuracy)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_honest_bin_lies_on_the_diagonal() {
        let mut honest = Reliability::default();
        [true, true, true, false].into_iter().for_each(|right| honest.add(0.75, right));
        let picture = svg(&[("a <b>", &honest), ("c", &Reliability::default())]);
        assert!(picture.starts_with("<svg ") && picture.ends_with("</svg>\n"));
        assert!(picture.contains("a &lt;b&gt;") && picture.contains("calibration error 0.0000"), "{picture}");
        assert!(picture.contains("confidence 0.750, right 0.750, 4 requests"), "{picture}");
        let (x, y) = (LEFT + 0.75 * SIDE, TOP + 0.25 * SIDE);
        assert!(picture.contains(&format!("cx=\"{x:.1}\" cy=\"{y:.1}\"")), "{picture}");
        assert_eq!(picture.matches("<circle").count(), 1);
    }
}
