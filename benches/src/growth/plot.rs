//! Draws small line charts side by side, as SVG. The places along the x axis are one to a step: a logarithmic axis, as each
//! step is so many times the last. Knows nothing of what is measured.

use std::fmt::Write;

use crate::stats::Spread;

/// The size of a panel, and of the drawing's rim.
const WIDTH: f64 = 300.0;
const HEIGHT: f64 = 200.0;
/// Panels in a row.
const COLUMNS: usize = 3;
/// What is left of a panel beside, above and below its lines.
const LEFT: f64 = 44.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 28.0;
/// Beyond this ratio of largest to smallest the y axis is logarithmic too.
const LINEAR_UP_TO: f64 = 20.0;

/// Colours that can be read on a white page and on a dark one.
const STYLE: &str = "text{font:11px sans-serif;fill:#737373}.title{font-weight:bold}\
                     .grid{stroke:#a3a3a3;stroke-opacity:.35}.line{fill:none;stroke:#2563eb;stroke-width:2}\
                     .span{stroke:#2563eb;stroke-opacity:.5}.dot{fill:#2563eb}";

/// One chart.
#[derive(Debug)]
pub(super) struct Panel {
    /// What grows.
    pub(super) title: &'static str,
    /// What is measured.
    pub(super) unit: &'static str,
    /// From left to right.
    pub(super) marks: Vec<Mark>,
}

/// One figure, with its least and most.
#[derive(Debug)]
pub(super) struct Mark {
    /// Below the axis.
    pub(super) label: String,
    /// How high.
    pub(super) spread: Spread,
}

/// The drawing.
pub(super) fn draw(panels: &[Panel]) -> String {
    let columns = panels.len().clamp(1, COLUMNS);
    let (width, height) = (WIDTH * columns as f64, HEIGHT * panels.len().div_ceil(columns) as f64);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\">\n\
         <style>{STYLE}</style>\n"
    );
    for (number, panel) in panels.iter().enumerate() {
        let (x, y) = (WIDTH * (number % columns) as f64, HEIGHT * (number / columns) as f64);
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", draw_panel(panel));
    }
    svg + "</svg>\n"
}

fn draw_panel(panel: &Panel) -> String {
    let Panel { title, unit, marks } = panel;
    let axis = Axis::over(marks.iter().map(|mark| mark.spread));
    let step = (WIDTH - LEFT - RIGHT) / marks.len().max(1) as f64;
    let place = |number: usize| LEFT + step * (number as f64 + 0.5);
    let mut svg = format!(
        "<text class=\"title\" x=\"{LEFT}\" y=\"16\">{title}</text>\n<text x=\"{LEFT}\" y=\"32\">{unit}</text>\n"
    );
    for (value, label) in axis.ticks() {
        let (y, right) = (axis.height_of(value), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 6.0,
            y + 4.0
        );
    }
    let corners: Vec<_> = marks
        .iter()
        .enumerate()
        .map(|(number, mark)| format!("{:.1},{:.1}", place(number), axis.height_of(mark.spread.median)))
        .collect();
    let _ = writeln!(svg, "<polyline class=\"line\" points=\"{}\"/>", corners.join(" "));
    for (number, Mark { label, spread }) in marks.iter().enumerate() {
        let (x, y) = (place(number), axis.height_of(spread.median));
        let (low, high) = (axis.height_of(spread.min), axis.height_of(spread.max));
        let _ = writeln!(
            svg,
            "<line class=\"span\" x1=\"{x:.1}\" y1=\"{low:.1}\" x2=\"{x:.1}\" y2=\"{high:.1}\"/>\
             <circle class=\"dot\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    svg
}

/// The y axis: from 0, or logarithmic between powers of ten.
#[derive(Debug, PartialEq)]
enum Axis {
    Linear { step: f64, steps: u32 },
    Logarithmic { from: i32, to: i32 },
}

impl Axis {
    fn over(spreads: impl Iterator<Item = Spread>) -> Self {
        let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
        for Spread { min, max, .. } in spreads {
            (least, most) = (least.min(min), most.max(max));
        }
        if least > 0.0 && most / least > LINEAR_UP_TO {
            let (from, to) = (least.log10().floor() as i32, most.log10().ceil() as i32);
            return Self::Logarithmic { from, to: to.max(from + 1) };
        }
        // The largest of 1, 2 and 5 times a power of ten that makes at least three steps.
        let power = 10_f64.powf((most.max(1e-9) / 3.0).log10().floor());
        let step = [5.0, 2.0, 1.0].map(|times| times * power).into_iter().find(|step| most / step >= 3.0);
        let step = step.unwrap_or(power);
        Self::Linear { step, steps: (most / step).ceil().max(1.0) as u32 }
    }

    /// Values from the lowest to the highest, and how they are written.
    fn ticks(&self) -> Vec<(f64, String)> {
        let write = |value: f64, power: f64| {
            let decimals = (-power).max(0.0) as usize;
            (value, format!("{value:.decimals$}"))
        };
        match *self {
            Self::Linear { step, steps } => {
                (0..=steps).map(|number| write(step * f64::from(number), step.log10().floor())).collect()
            }
            Self::Logarithmic { from, to } => {
                (from..=to).map(|power| write(10_f64.powi(power), power.into())).collect()
            }
        }
    }

    /// The place of `value`, downwards from the top of the panel.
    fn height_of(&self, value: f64) -> f64 {
        let share = match *self {
            Self::Linear { step, steps } => value / (step * f64::from(steps)),
            Self::Logarithmic { from, to } => {
                (value.max(f64::MIN_POSITIVE).log10() - f64::from(from)) / f64::from(to - from)
            }
        };
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(median: f64) -> Spread {
        Spread { min: median * 0.9, median, max: median * 1.1 }
    }

    #[test]
    fn the_axis_begins_at_nothing_and_has_three_to_six_round_steps() {
        for most in [0.3, 1.0, 7.0, 38.0, 99.0, 104.0, 2_600.0] {
            let axis = Axis::over([Spread { min: most / 2.0, median: most, max: most }].into_iter());
            let ticks = axis.ticks();
            assert!((4..=7).contains(&ticks.len()), "{most}: {ticks:?}");
            assert!(ticks[0].0 == 0.0 && ticks.last().unwrap().0 >= most, "{most}: {ticks:?}");
        }
    }

    #[test]
    fn ticks_are_written_with_the_digits_they_need() {
        let labels = |axis: Axis| axis.ticks().into_iter().map(|(_, label)| label).collect::<Vec<_>>();
        assert_eq!(labels(Axis::Linear { step: 0.1, steps: 3 }), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(labels(Axis::Linear { step: 20.0, steps: 2 }), ["0", "20", "40"]);
        assert_eq!(labels(Axis::Logarithmic { from: -1, to: 1 }), ["0.1", "1", "10"]);
    }

    #[test]
    fn figures_far_apart_get_a_logarithmic_axis() {
        let axis = Axis::over([spread(0.5), spread(100.0)].into_iter());
        assert_eq!(axis, Axis::Logarithmic { from: -1, to: 3 });
        assert!(axis.height_of(0.5) > axis.height_of(5.0));
    }

    #[test]
    fn every_mark_is_drawn_with_its_label_inside_its_panel() {
        let mark = |label: &str, median| Mark { label: label.to_owned(), spread: spread(median) };
        let marks = vec![mark("1", 20.0), mark("1,024", 40.0)];
        let panel = Panel { title: "connections", unit: "CPU µs per call", marks };
        let svg = draw(&[panel]);
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains(">1,024</text>") && svg.contains("viewBox=\"0 0 300 200\""), "{svg}");
        assert_eq!(svg.matches("<g").count(), svg.matches("</g>").count());
    }
}
