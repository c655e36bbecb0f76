//! A thousand troubled swarms: P4, P6, P7 and P8 hold in each (`cdi_swarm::sim`).

use std::sync::atomic::{AtomicU64, Ordering};

use cdi_swarm::sim::{LogNormal, Scenario, run};

/// Seeds of a run in continuous integration.
const SEEDS: u64 = 1_000;

#[test]
fn a_thousand_troubled_swarms_keep_their_promises() {
    let (next, failovers) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut bad = Vec::new();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return bad;
            }
            let report = run(&Scenario::trouble(seed));
            failovers.fetch_add(report.failovers, Ordering::Relaxed);
            if !report.violations.is_empty() {
                bad.push(format!("seed {seed} (cargo xtask sim --trouble --seed {seed}): {:?}", report.violations));
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let bad: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|w| w.join().expect("no panic")).collect()
    });
    assert!(bad.is_empty(), "{} of {SEEDS} swarms broke a promise:\n{}", bad.len(), bad.join("\n"));
    let failovers = failovers.into_inner();
    assert!(failovers > SEEDS, "only {failovers} route changes: there was no trouble");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario { seconds: 60, ..Scenario::of(12, 5) };
    let report = run(&scenario);
    assert_eq!(report, run(&scenario));
    assert!(report.answered > 0, "{report}");
    assert_ne!(report.messages, run(&Scenario { seed: 6, ..scenario }).messages);
}

#[test]
fn drafts_hide_latency() {
    let far = |speculate| {
        let calm =
            Scenario { seconds: 60, lifetime_s: None, partitions: 0, refusing: 0.0, slow: 0.0, ..Scenario::of(6, 3) };
        let access_ms = LogNormal { median: 50.0, sigma: 0.1 };
        let report = run(&Scenario { access_ms, speculate, askers: 1, answer_tokens: 100, ..calm });
        assert_eq!(report.violations, Vec::<String>::new());
        report.tokens_per_s.expect("answers").p50
    };
    let (plain, drafted) = (far(false), far(true));
    assert!(drafted > 1.3 * plain, "{plain:.1} tokens/s without drafts, {drafted:.1} with them");
}

#[test]
fn a_lying_node_is_seen_in_the_text() {
    let scenario = Scenario { seconds: 60, lying: 1.0, refusing: 0.0, ..Scenario::of(6, 5) };
    let report = run(&scenario);
    assert!(report.wrong > 0, "{report}");
    assert_eq!(report.violations, Vec::<String>::new(), "a lie is not the protocol's fault");
}
