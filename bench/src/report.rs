//! Prints the figures of transcoding as a table.

use crate::load::Outcome;

pub struct Figures {
    pub name: &'static str,
    /// At full speed.
    pub full: Outcome,
    /// At the fixed rate.
    pub paced: Outcome,
    /// Seconds of user and system time.
    pub cpu_per_request: f64,
    pub resident_kib: u64,
}

#[derive(Default)]
pub struct Report {
    figures: Vec<Figures>,
    memory: Option<(u64, u64, u64)>,
}

impl Report {
    pub fn add(&mut self, figures: Figures) {
        self.figures.push(figures);
    }

    pub fn memory(&mut self, before_kib: u64, after_kib: u64, requests: u64) {
        self.memory = Some((before_kib, after_kib, requests));
    }

    pub fn print(&self) {
        println!();
        println!(
            "POST /api/v4/runners/verify, 32 connections; process under test on one core, load and backend on another"
        );
        println!();
        println!("| under test | CPU/request | requests/s | p50 | p99 | p50 at 2,000/s | p99 at 2,000/s | memory |");
        println!("|---|---|---|---|---|---|---|---|");
        for figures in &self.figures {
            println!(
                "| {} | {:.1} µs | {:.0} | {:.2} ms | {:.2} ms | {:.2} ms | {:.2} ms | {:.1} MiB |",
                figures.name,
                figures.cpu_per_request * 1e6,
                figures.full.rate(),
                figures.full.millis(0.5),
                figures.full.millis(0.99),
                figures.paced.millis(0.5),
                figures.paced.millis(0.99),
                figures.resident_kib as f64 / 1024.0,
            );
        }
        if let Some((before, after, requests)) = self.memory {
            let before = before as f64 / 1024.0;
            let after = after as f64 / 1024.0;
            println!("\ngateway memory: {before:.1} MiB before and {after:.1} MiB after {requests} more requests");
        }
    }
}
