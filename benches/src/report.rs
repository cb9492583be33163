//! Turns windows into tables: ratios to the baseline taken within each round, and the figures themselves, each as the
//! median over the rounds with minimum and maximum. Markdown, readable on a terminal as it is.

use std::fmt::Write;
use std::time::Duration;

use crate::contender::{BASELINE, FLOOR};
use crate::exchange::Exchange;
use crate::machine::Machine;
use crate::outcome::{Outcome, Window};
use crate::run::Plan;
use crate::stats::Spread;
use crate::table::{align, render_spread};

/// One column: how it is read from a window, given the floor's window of the same round.
struct Figure {
    heading: &'static str,
    value: fn(&Window, Option<&Window>) -> Option<f64>,
    decimals: usize,
    /// Whether a ratio to the baseline says anything.
    compared: bool,
}

const FIGURES: &[Figure] = &[
    Figure { heading: "CPU µs/call", value: |window, _| cpu_us(window), decimals: 1, compared: true },
    Figure { heading: "of it user", value: |window, _| user_us(window), decimals: 1, compared: false },
    Figure {
        heading: "of it not the workers'",
        value: |window, _| beside_us(window),
        decimals: 1,
        compared: false,
    },
    Figure {
        heading: "PostgreSQL's CPU µs/call",
        value: |window, _| store_us(window),
        decimals: 1,
        compared: false,
    },
    Figure {
        heading: "p50 µs",
        value: |window, _| Some(microseconds(window.p50)),
        decimals: 0,
        compared: true,
    },
    Figure {
        heading: "p99 µs",
        value: |window, _| Some(microseconds(window.p99)),
        decimals: 0,
        compared: true,
    },
    Figure { heading: "p50 added µs", value: added_us, decimals: 0, compared: true },
    Figure {
        heading: "first event p50 µs",
        value: |window, _| first_us(window),
        decimals: 0,
        compared: true,
    },
    Figure { heading: "calls/s", value: |window, _| Some(rate(window)), decimals: 0, compared: true },
    Figure {
        heading: "generator's core",
        value: |window, _| Some(window.generator),
        decimals: 2,
        compared: false,
    },
];

fn microseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn cpu_us(window: &Window) -> Option<f64> {
    Some(microseconds(window.cpu?.total) / window.calls as f64)
}

fn user_us(window: &Window) -> Option<f64> {
    Some(microseconds(window.cpu?.user) / window.calls as f64)
}

fn beside_us(window: &Window) -> Option<f64> {
    Some(microseconds(window.cpu?.beside?) / window.calls as f64)
}

fn store_us(window: &Window) -> Option<f64> {
    Some(microseconds(window.store_cpu?.total) / window.calls as f64)
}

fn added_us(window: &Window, floor: Option<&Window>) -> Option<f64> {
    let floor = floor.filter(|_| window.contender != FLOOR)?;
    Some(microseconds(window.p50) - microseconds(floor.p50))
}

fn first_us(window: &Window) -> Option<f64> {
    // Elsewhere it is next to the latency itself.
    (window.workload.exchange == Exchange::Events).then(|| microseconds(window.first_p50))
}

fn rate(window: &Window) -> f64 {
    window.calls as f64 / window.elapsed.as_secs_f64()
}

/// The whole report.
pub(crate) fn render_report(
    plan: &Plan,
    machine: &Machine,
    versions: &[String],
    command: &str,
    outcome: &Outcome,
) -> String {
    let Machine { cpu, cores, kernel, date } = machine;
    let (rounds, seconds, checked) = (plan.rounds, plan.window.as_secs_f64(), outcome.checked);
    let mut text = format!(
        "* {date}, `{command}`\n* {cpu}, {cores} cores, Linux {kernel}\n* {}\n\
         * {rounds} rounds of {seconds} s windows; {checked} answers checked\n",
        versions.join(", ")
    );
    if let Some(others) = Spread::of(outcome.windows.iter().map(|window| window.others)) {
        let Spread { min, median, max } = others;
        let _ = writeln!(text, "* other work on the machine: {median:.2} cores ({min:.2}–{max:.2})");
    }
    for (name, books) in &outcome.books {
        let _ = writeln!(text, "* {name}: {} calls, {} rows", books.calls, books.rows);
    }
    for fault in &outcome.faults {
        let _ = writeln!(text, "* **fault**: {fault}");
    }
    let ratios = render_table(plan, outcome, true);
    if !ratios.is_empty() {
        let _ = write!(text, "\nRatios to {BASELINE} within a round: median (minimum–maximum).\n\n{ratios}");
    }
    let _ = write!(text, "\nFigures: median (minimum–maximum).\n\n{}", render_table(plan, outcome, false));
    text
}

/// One table of all workloads and contenders, with ratios or with the figures themselves.
fn render_table(plan: &Plan, outcome: &Outcome, ratios: bool) -> String {
    let figures: Vec<_> = FIGURES.iter().filter(|figure| figure.compared || !ratios).collect();
    let mut rows = vec![vec!["workload".to_owned(), "contender".to_owned()]];
    rows[0].extend(figures.iter().map(|figure| figure.heading.to_owned()));
    for workload in &plan.workloads {
        for contender in plan.contenders.iter().map(|contender| contender.name()) {
            if ratios && contender == BASELINE {
                continue;
            }
            let mut row = vec![workload.name.to_owned(), contender.clone()];
            row.extend(figures.iter().map(|figure| {
                let values = collect_values(outcome, workload.name, &contender, figure, ratios);
                let decimals = if ratios { 2 } else { figure.decimals };
                Spread::of(values).map_or("–".into(), |spread| render_spread(spread, decimals))
            }));
            rows.push(row);
        }
    }
    if ratios && rows.iter().skip(1).flatten().all(|cell| !cell.contains('(')) {
        return String::new();
    }
    align(&rows)
}

/// The figure of every round, or its ratio to the baseline's in the same round.
fn collect_values(
    outcome: &Outcome,
    workload: &str,
    contender: &str,
    figure: &Figure,
    ratios: bool,
) -> Vec<f64> {
    let find = |name: &str, round: usize| {
        outcome.windows.iter().find(|window| {
            window.workload.name == workload && window.contender == name && window.round == round
        })
    };
    let value = |name: &str, round: usize| (figure.value)(find(name, round)?, find(FLOOR, round));
    let rounds = outcome.windows.iter().map(|window| window.round + 1).max().unwrap_or_default();
    let of_round = |round| {
        let own = value(contender, round)?;
        if ratios { Some(own / value(BASELINE, round).filter(|base| *base > 0.0)?) } else { Some(own) }
    };
    (0..rounds).filter_map(of_round).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::{Contender, Variant};
    use crate::cpu::CpuSpent;
    use crate::workload::WORKLOADS;

    fn window(contender: Contender, round: usize, cpu_us: u64, p50_us: u64) -> Window {
        let cpu = (contender != Contender::Direct).then(|| CpuSpent {
            total: Duration::from_micros(cpu_us * 1_000),
            user: Duration::ZERO,
            beside: None,
        });
        Window {
            workload: &WORKLOADS[0],
            contender: contender.name(),
            round,
            calls: 1_000,
            elapsed: Duration::from_secs(1),
            cpu,
            store_cpu: None,
            p50: Duration::from_micros(p50_us),
            p99: Duration::from_micros(2 * p50_us),
            first_p50: Duration::from_micros(p50_us),
            generator: 0.5,
            others: 0.1,
        }
    }

    fn sample_run() -> (Plan, Outcome) {
        let contenders = vec![Contender::Direct, Contender::Nginx, Contender::Mcpmeter(Variant::default())];
        let plan = Plan {
            workloads: vec![&WORKLOADS[0]],
            contenders,
            rounds: 2,
            window: Duration::from_secs(1),
            tls: false,
        };
        let mut outcome = Outcome::default();
        // The machine is twice as slow in the second round; the ratios must not see it.
        for (round, slow) in [(0, 1), (1, 2)] {
            outcome.windows.push(window(Contender::Direct, round, 0, 100 * slow));
            outcome.windows.push(window(Contender::Nginx, round, 20 * slow, 150 * slow));
            outcome.windows.push(window(
                Contender::Mcpmeter(Variant::default()),
                round,
                22 * slow,
                200 * slow,
            ));
        }
        (plan, outcome)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let (plan, outcome) = sample_run();
        let table = render_table(&plan, &outcome, true);
        let row: Vec<_> = table.lines().last().unwrap().split('|').map(str::trim).collect();
        assert_eq!(row[2..4], ["mcpmeter", "1.10 (1.10–1.10)"]);
        assert_eq!(row[4], "1.33 (1.33–1.33)", "p50");
        assert_eq!(row[6], "2.00 (2.00–2.00)", "p50 added to direct");
        assert!(!table.contains("| nginx"));
    }

    #[test]
    fn figures_show_their_spread() {
        let (plan, outcome) = sample_run();
        let table = render_table(&plan, &outcome, false);
        assert!(table.contains("33.0 (22.0–44.0)"), "{table}");
    }

    #[test]
    fn without_the_baseline_there_are_no_ratios() {
        let (mut plan, mut outcome) = sample_run();
        plan.contenders.retain(|contender| *contender != Contender::Nginx);
        outcome.windows.retain(|window| window.contender != BASELINE);
        assert_eq!(render_table(&plan, &outcome, true), "");
    }
}
