//! One link, several rounds, medians.

use anyhow::{Context, Result};
use cdi_tests::Peer;
use serde::Serialize;
use serde_json::{Value, json};

/// Messages that are echoed, in bytes: a ping, a decode frame, a prefill frame.
pub const ECHO_BYTES: [u32; 3] = [32, 4 * 1024, 64 * 1024];
/// Echoes of each size a round: enough for a 99th percentile that is not the maximum.
const ECHOES: u32 = 300;
const MIB: f64 = 1024.0 * 1024.0;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Effort {
    /// How often.
    pub rounds: u32,
    /// Bytes of one throughput measurement and direction.
    pub bytes: u32,
}

/// What was found on one link; medians of the rounds.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    /// How the peers are connected.
    pub link: &'static str,
    /// Whose code.
    pub by: &'static str,
    /// From the dial to the open connection.
    pub connect_ms: f64,
    /// Round trips by the size of the message, as [`ECHO_BYTES`].
    pub echo: [Echo; 3],
    /// MiB a second in one direction.
    pub one_way: f64,
    /// MiB a second in each direction, while both are busy.
    pub both_ways: f64,
}

/// Round trips in milliseconds.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Echo {
    /// Half of them were faster.
    pub p50: f64,
    /// All but one in a hundred were faster.
    pub p99: f64,
}

/// A link while it is being measured.
pub struct Sample {
    pub link: &'static str,
    pub by: &'static str,
    pub connect_ms: Vec<f64>,
    echo: [Vec<Echo>; 3],
    one_way: Vec<f64>,
    both_ways: Vec<f64>,
}

impl Sample {
    pub fn new(link: &'static str, by: &'static str, connect_ms: f64) -> Self {
        let echo = [const { Vec::new() }; 3];
        Self { link, by, connect_ms: vec![connect_ms], echo, one_way: Vec::new(), both_ways: Vec::new() }
    }

    /// One round over the connection from `peer`; `target` is what its commands begin with: the other end's id, or
    /// nothing for the bare channel, which has but one other end. `message` is the bare channel's message size.
    pub async fn round(
        &mut self,
        peer: &impl Peer,
        target: Option<&str>,
        message: Option<u32>,
        effort: Effort,
    ) -> Result<()> {
        let args = |rest: &[u32]| {
            let target = target.map(|target| json!(target)).into_iter();
            Value::Array(target.chain(rest.iter().map(|number| json!(number))).collect())
        };
        for (bytes, echoes) in ECHO_BYTES.into_iter().zip(&mut self.echo) {
            let times = peer.call("measureEcho", args(&[bytes, ECHOES])).await?;
            echoes.push(percentiles(&times).context("no round trips")?);
        }
        let size: Vec<u32> = [effort.bytes].into_iter().chain(message).collect();
        for (what, list) in [("measureSend", &mut self.one_way), ("measureBoth", &mut self.both_ways)] {
            let ms = peer.call(what, args(&size)).await?.as_f64().context("no time")?;
            list.push(f64::from(effort.bytes) / MIB / (ms / 1e3));
        }
        Ok(())
    }

    pub fn figures(self) -> Figures {
        let echo = self.echo.map(|rounds| Echo {
            p50: median(rounds.iter().map(|echo| echo.p50).collect()),
            p99: median(rounds.iter().map(|echo| echo.p99).collect()),
        });
        Figures {
            link: self.link,
            by: self.by,
            connect_ms: median(self.connect_ms),
            echo,
            one_way: median(self.one_way),
            both_ways: median(self.both_ways),
        }
    }
}

/// Of sorted times.
fn percentiles(times: &Value) -> Option<Echo> {
    let times: Vec<f64> = times.as_array()?.iter().filter_map(Value::as_f64).collect();
    let at = |percent: usize| times.get((times.len() * percent / 100).min(times.len().checked_sub(1)?)).copied();
    Some(Echo { p50: at(50)?, p99: at(99)? })
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list.get(list.len() / 2).copied().unwrap_or(f64::NAN)
}
