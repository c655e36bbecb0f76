//! What came out of a simulation, for machines and for people.

use std::fmt;

use serde::Serialize;

use super::scenario::Scenario;
use super::world::World;

/// What is counted while a simulation runs.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) failed: u64,
    pub(super) abandoned: u64,
    pub(super) wrong: u64,
    pub(super) tokens: u64,
    pub(super) failovers: u64,
    pub(super) moves: u64,
    pub(super) drafted: u64,
    pub(super) accepted: u64,
    /// Rows times layers.
    pub(super) computed_rows: u64,
    pub(super) useful_rows: u64,
    pub(super) first_token_ms: Vec<f64>,
    pub(super) failover_ms: Vec<f64>,
    pub(super) tokens_per_s: Vec<f64>,
    samples: u64,
    whole_samples: u64,
    twice_samples: u64,
    layers_covered: u64,
    layers_sampled: u64,
}

impl Figures {
    pub(super) fn covered(&mut self, replicas: &[u32]) {
        self.samples += 1;
        self.whole_samples += u64::from(replicas.iter().all(|r| *r >= 1));
        self.twice_samples += u64::from(replicas.iter().all(|r| *r >= 2));
        self.layers_covered += replicas.iter().filter(|r| **r >= 1).count() as u64;
        self.layers_sampled += replicas.len() as u64;
    }
}

/// How a figure is spread.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Number of values.
    pub count: usize,
    /// Half of them are not above this.
    pub p50: f64,
    /// 95 of 100 are not above this.
    pub p95: f64,
    /// The largest.
    pub max: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at =
            |percent: usize| values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied();
        Some(Self { count: values.len(), p50: at(50)?, p95: at(95)?, max: at(100)? })
    }
}

/// The result of a simulation.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was simulated.
    pub scenario: Scenario,
    /// Virtual seconds that it took.
    pub seconds: f64,
    /// Nodes that ever joined.
    pub joined: usize,
    /// Questions asked.
    pub asked: u64,
    /// Questions answered to the end.
    pub answered: u64,
    /// Questions whose answer was given up.
    pub failed: u64,
    /// Questions whose asking tab left.
    pub abandoned: u64,
    /// Answers that one process alone would not have given.
    pub wrong: u64,
    /// Tokens a second of the whole swarm while questions were asked.
    pub swarm_tokens_per_s: f64,
    /// Tokens a second of an answer, from its first token to its last.
    pub tokens_per_s: Option<Spread>,
    /// Milliseconds from question to first token.
    pub first_token_ms: Option<Spread>,
    /// Milliseconds from the loss of a node on the route to the next token.
    pub failover_ms: Option<Spread>,
    /// Route changes during answers.
    pub failovers: u64,
    /// Share of time in which every layer was held.
    pub whole: f64,
    /// Share of time in which every layer was held twice.
    pub whole_twice: f64,
    /// Mean share of layers that were held.
    pub coverage: f64,
    /// Hosts that moved to other layers.
    pub moves: u64,
    /// Drafts that were computed along.
    pub drafted: u64,
    /// Share of them that was right.
    pub acceptance: f64,
    /// Share of computed rows that are in no answer: replays, answers given up, drafts that were wrong.
    pub wasted: f64,
    /// Messages between nodes, gossip excepted.
    pub messages: u64,
    /// What must never happen, and did; empty in a correct program.
    pub violations: Vec<String>,
}

#[allow(clippy::cast_precision_loss, reason = "counts of events")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Report {
    pub(super) fn of(world: World) -> Self {
        let figures = world.figures;
        #[allow(clippy::cast_precision_loss, reason = "virtual time of days, counts of events")]
        let (seconds, tokens) = (world.now_us as f64 / 1e6, figures.tokens as f64);
        Self {
            seconds,
            joined: world.nodes.len(),
            asked: figures.asked,
            answered: figures.answered,
            failed: figures.failed,
            abandoned: figures.abandoned,
            wrong: figures.wrong,
            swarm_tokens_per_s: tokens / f64::from(world.scenario.seconds.max(1)),
            tokens_per_s: Spread::of(figures.tokens_per_s),
            first_token_ms: Spread::of(figures.first_token_ms),
            failover_ms: Spread::of(figures.failover_ms),
            failovers: figures.failovers,
            whole: share(figures.whole_samples, figures.samples),
            whole_twice: share(figures.twice_samples, figures.samples),
            coverage: share(figures.layers_covered, figures.layers_sampled),
            moves: figures.moves,
            drafted: figures.drafted,
            acceptance: share(figures.accepted, figures.drafted),
            wasted: 1.0 - share(figures.useful_rows, figures.computed_rows.max(figures.useful_rows)),
            messages: world.messages,
            violations: world.violations,
            scenario: world.scenario,
        }
    }
}

/// A table in Markdown.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { nodes, seed, seconds, lifetime_s, .. } = &self.scenario;
        let stay = lifetime_s.map_or_else(|| "for ever".to_owned(), |s| format!("{s:.0} s (median)"));
        writeln!(f, "{nodes} nodes that stay {stay}, {seconds} s of questions, seed {seed}\n")?;
        writeln!(f, "| figure | value |\n|---|---|")?;
        let spread = |s: &Option<Spread>, digits: usize| {
            s.as_ref().map_or_else(
                || "none".to_owned(),
                |s| format!("p50 {:.digits$}, p95 {:.digits$}, at most {:.digits$} ({})", s.p50, s.p95, s.max, s.count),
            )
        };
        let Self { asked, answered, failed, abandoned, wrong, .. } = self;
        writeln!(
            f,
            "| questions | {asked}: {answered} answered, {failed} failed, {abandoned} abandoned by their tab, {wrong} wrong |"
        )?;
        writeln!(f, "| swarm, tokens/s | {:.0} |", self.swarm_tokens_per_s)?;
        writeln!(f, "| one answer, tokens/s | {} |", spread(&self.tokens_per_s, 1))?;
        writeln!(f, "| first token, ms | {} |", spread(&self.first_token_ms, 0))?;
        writeln!(f, "| loss of a node to next token, ms | {} |", spread(&self.failover_ms, 0))?;
        writeln!(f, "| route changes | {} |", self.failovers)?;
        writeln!(f, "| every layer held | {:.1} % of the time |", self.whole * 100.0)?;
        writeln!(f, "| every layer held twice | {:.1} % of the time |", self.whole_twice * 100.0)?;
        writeln!(f, "| layers held | {:.2} % |", self.coverage * 100.0)?;
        writeln!(f, "| hosts that moved | {} |", self.moves)?;
        writeln!(f, "| drafts | {}, {:.0} % right |", self.drafted, self.acceptance * 100.0)?;
        writeln!(f, "| wasted work | {:.1} % |", self.wasted * 100.0)?;
        writeln!(f, "| messages | {} |", self.messages)?;
        writeln!(f, "| nodes that ever joined | {} |", self.joined)?;
        for violation in &self.violations {
            writeln!(f, "| **violation** | {violation} |")?;
        }
        Ok(())
    }
}
