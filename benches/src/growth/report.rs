//! What was measured, as a table and as the panels of the drawing. Ratios are taken within a round.

use super::Series;
use super::plot::{Mark, Panel};
use super::point::Measured;
use super::quantity::Quantity;
use crate::stats::Spread;
use crate::table::{align, group_digits, render_spread};

/// All points, each with its ratio to the first of its quantity.
pub(super) fn render_table(series: &[Series]) -> String {
    let head =
        ["", "CPU µs/call", "to the first", "CPU ns/byte", "PostgreSQL's CPU µs/call"].map(str::to_owned);
    let row = |one: &Series| {
        let first = series.iter().find(|other| other.point.quantity == one.point.quantity).unwrap_or(one);
        let ratios = one.rounds.iter().zip(&first.rounds).map(|(one, first)| one.cpu_us / first.cpu_us);
        let per_byte = one.point.body_bytes().map(|bytes| {
            let per_byte = |measured: &Measured| measured.cpu_us * 1e3 / bytes as f64;
            one.rounds.iter().map(per_byte).collect()
        });
        [
            one.point.name(),
            render(one.rounds.iter().map(|measured| measured.cpu_us), 1),
            render(ratios, 2),
            render::<Vec<_>>(per_byte.unwrap_or_default(), 2),
            render(one.rounds.iter().filter_map(|measured| measured.store_us), 1),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(series.iter().map(row)).map(Vec::from).collect();
    align(&rows)
}

fn render<V: IntoIterator<Item = f64>>(values: V, decimals: usize) -> String {
    Spread::of(values).map_or("–".into(), |spread| render_spread(spread, decimals))
}

/// One panel per quantity that was measured.
pub(super) fn panels(series: &[Series]) -> Vec<Panel> {
    let panel = |quantity: Quantity| {
        let own = series.iter().filter(|one| one.point.quantity == quantity);
        let mark = |one: &Series| {
            let per = one.point.body_bytes().map_or(1.0, |bytes| bytes as f64 / 1e3);
            let spread = Spread::of(one.rounds.iter().map(|measured| measured.cpu_us / per))?;
            Some(Mark { label: group_digits(one.point.size), spread })
        };
        let unit = if quantity == Quantity::Bodies { "CPU ns per byte" } else { "CPU µs per call" };
        Panel { title: quantity.unit(), unit, marks: own.filter_map(mark).collect() }
    };
    Quantity::ALL.into_iter().map(panel).filter(|panel| !panel.marks.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(quantity: Quantity, cpu_us: [[f64; 2]; 2]) -> Vec<Series> {
        let rounds = |figures: [f64; 2]| {
            figures.into_iter().map(|cpu_us| Measured { cpu_us, store_us: None }).collect()
        };
        quantity
            .points()
            .zip(cpu_us)
            .map(|(point, figures)| Series { point, rounds: rounds(figures) })
            .collect()
    }

    #[test]
    fn growth_is_seen_within_a_round_however_slow_the_machine_is_in_it() {
        let table = render_table(&series(Quantity::Connections, [[20.0, 40.0], [30.0, 60.0]]));
        let last = table.lines().last().unwrap();
        assert!(last.starts_with("| 4 connections | 45.0 (30.0–60.0) | 1.50 (1.50–1.50) | –"), "{table}");
    }

    #[test]
    fn of_bodies_the_drawing_shows_the_cost_of_a_byte() {
        let panels = panels(&series(Quantity::Bodies, [[30.0, 30.0], [40.0, 40.0]]));
        let [panel] = &panels[..] else { panic!("one quantity, one panel") };
        assert_eq!(panel.unit, "CPU ns per byte");
        let per_byte: Vec<_> = panel.marks.iter().map(|mark| mark.spread.median.round()).collect();
        // 30 µs over about 300 bytes, 40 µs over about 3,000.
        assert_eq!(per_byte, [97.0, 13.0]);
    }
}
