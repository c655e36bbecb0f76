//! Which layers of the model the swarm serves, and how often.

use cdi_node::view::PeerView;

use crate::messages as m;

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

/// How many layers somebody serves.
#[must_use]
pub fn covered(replicas: &[u32]) -> usize {
    replicas.iter().filter(|&&count| count > 0).count()
}

/// What the replicas mean, in one sentence that names the layers in need, the worst first.
#[must_use]
pub fn summary(replicas: &[u32]) -> String {
    let missing = named(replicas, |count| count == 0);
    let thin = named(replicas, |count| count > 0 && count < WANTED_REPLICAS);
    match (missing, thin) {
        _ if replicas.is_empty() => m::COVERAGE_UNKNOWN.to_owned(),
        (None, None) => m::COVERAGE_GOOD.to_owned(),
        (None, Some(thin)) => format!("{thin} one replica: one more host makes the swarm safer."),
        (Some(_), _) if covered(replicas) == 0 => m::COVERAGE_NONE.to_owned(),
        (Some(missing), _) => format!("{missing} no host, so the swarm alone cannot answer."),
    }
}

/// `Layer 3 has` or `Layers 0-2, 7 have`: the layers whose replicas are such.
fn named(replicas: &[u32], such: impl Fn(u32) -> bool) -> Option<String> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (layer, _) in replicas.iter().enumerate().filter(|(_, count)| such(**count)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == layer => *last = layer,
            _ => runs.push((layer, layer)),
        }
    }
    let text =
        |&(first, last): &(usize, usize)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    let list = runs.iter().map(text).collect::<Vec<_>>().join(", ");
    match &runs[..] {
        [] => None,
        [(first, last)] if first == last => Some(format!("Layer {list} has")),
        _ => Some(format!("Layers {list} have")),
    }
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
            (&[1, 2, 1], "Layers 0, 2 have one"),
            (&[0, 1, 2], "Layer 0 has no host"),
            (&[0, 0], "Be the first"),
            (&[1, 0, 0, 2, 0], "Layers 1-2, 4 have no host"),
        ] {
            let text = summary(counts);
            assert!(text.contains(words), "{text}");
        }
    }
}
