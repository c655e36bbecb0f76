//! Which layers of the model the swarm serves, and how often.

use cdi_node::view::PeerView;

/// Replicas that every layer should have, so that the swarm survives the loss of any one tab.
pub const WANTED_REPLICAS: u32 = 2;
/// Most layers that are shown; the deepest published models have about 130.
const MAX_LAYERS: u32 = 512;

/// How many nodes serve each of a model's `layers`, first to last.
#[must_use]
pub fn replicas(peers: &[PeerView], layers: u32) -> Vec<u32> {
    (0..layers.min(MAX_LAYERS))
        .map(|layer| peers.iter().filter(|p| p.layers.is_some_and(|r| r.contains(layer))).map(|_| 1).sum())
        .collect()
}

/// What the replicas mean, in one sentence.
#[must_use]
pub fn summary(replicas: &[u32]) -> String {
    let missing = replicas.iter().filter(|&&n| n == 0).count();
    let thin = replicas.iter().filter(|&&n| n > 0 && n < WANTED_REPLICAS).count();
    match (missing, thin) {
        _ if replicas.is_empty() => "Waiting for the model…".to_owned(),
        (0, 0) => "Every layer has at least two replicas.".to_owned(),
        (0, thin) => {
            format!("{} one replica: one more host makes the swarm safer.", part(thin, replicas.len()))
        }
        (missing, _) if missing == replicas.len() => "No tab hosts this model yet. Be the first.".to_owned(),
        (missing, _) => format!("{} no host, so the swarm alone cannot answer.", part(missing, replicas.len())),
    }
}

fn part(count: usize, layers: usize) -> String {
    format!("{count} of {layers} layers {}", if count == 1 { "has" } else { "have" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::peer;

    #[test]
    fn replicas_are_counted_per_layer() {
        let peers = [peer(1, Some("0-3")), peer(2, Some("2-5")), peer(3, None)];
        assert_eq!(replicas(&peers, 7), [1, 1, 2, 2, 1, 1, 0]);
    }

    #[test]
    fn an_absurd_model_is_cut() {
        assert_eq!(replicas(&[], u32::MAX).len(), 512);
    }

    #[test]
    fn the_summary_names_the_worst_first() {
        for (counts, words) in [
            (&[][..], "Waiting"),
            (&[2, 3], "at least two"),
            (&[1, 2, 1], "2 of 3 layers have one"),
            (&[0, 1, 2], "1 of 3 layers has no host"),
            (&[0, 0], "Be the first"),
        ] {
            let text = summary(counts);
            assert!(text.contains(words), "{text}");
        }
    }
}
