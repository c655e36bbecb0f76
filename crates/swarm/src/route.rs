//! The way of a session through the swarm: which node computes which layers.
//!
//! Cost model (DESIGN, *Cost model*): `T_token = Σ compute + stages × hop`. Layers that no node serves are
//! filled by a node with spare room, else by the asking node; each costs a penalty far above any route
//! without one, so they are used only where nobody holds the layers.

use cdi_types::{LayerRange, PeerId};

/// Added for a stage whose layers must be fetched first, in milliseconds.
const LOAD_PENALTY_MS: f64 = 1e6;
/// Added when the asking node has to fill a gap: after every host with room.
const LOCAL_PENALTY_MS: f64 = 1e9;
/// Assumed cost of a layer whose host has measured nothing yet, in milliseconds.
const UNKNOWN_LAYER_MS: f64 = 2.0;
/// Factor on the time of a hidden tab, whose timers are clamped.
const HIDDEN_FACTOR: f64 = 3.0;

/// What each further session at a node adds to the time of its layers: their passes wait for each other now and then.
/// Empirical: the simulated swarm's throughput is highest from about here on.
const SHARED_FACTOR: f64 = 0.5;

/// A node that could compute a part.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Who.
    pub peer: PeerId,
    /// What it serves now.
    pub held: Option<LayerRange>,
    /// How many further layers it would take on.
    pub spare_layers: u32,
    /// Measured milliseconds of one layer and one token; 0 while unknown.
    pub layer_ms: f64,
    /// Expected milliseconds of one hop to it.
    pub hop_ms: f64,
    /// Stages of other sessions that run there.
    pub stages: u32,
    /// Whether its tab is hidden.
    pub hidden: bool,
}

/// One part of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Who computes it.
    pub peer: PeerId,
    /// What it computes.
    pub layers: LayerRange,
    /// Whether the node must fetch the layers first.
    pub fetch: bool,
}

/// A route with its expected cost.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// First layers first; adjacent, without gap or overlap.
    pub legs: Vec<Leg>,
    /// Expected milliseconds a token, penalties included.
    pub expected_ms: f64,
}

/// The cheapest way through `layers` over the candidates; the asking node `me` (which may also be a
/// candidate) fills what nobody else covers or could take on, if `me_spare` allows that many layers.
///
/// `None` when a layer is left that nobody can compute.
#[must_use]
pub fn plan(layers: LayerRange, candidates: &[Candidate], me: PeerId, me_spare: u32) -> Option<Route> {
    let first = layers.first() as usize;
    let count = layers.count() as usize;
    let held_elsewhere =
        |layer: u32| candidates.iter().any(|c| c.peer != me && c.held.is_some_and(|h| h.contains(layer)));
    // best[i]: cheapest way to have computed the first i of the layers, and its last leg.
    let mut best: Vec<Option<(f64, usize, Leg)>> = vec![None; count + 1];
    for from in 0..count {
        let Some(so_far) = (if from == 0 { Some(0.0) } else { best[from].map(|(cost, ..)| cost) }) else { continue };
        let layer = layers.first() + u32::try_from(from).ok()?;
        let mut offer = |peer: PeerId, last: u32, fetch: bool, fixed_ms: f64, layer_ms: f64| {
            for end in layer..=last.min(layers.last()) {
                let cost = so_far + fixed_ms + f64::from(end - layer + 1) * layer_ms;
                let slot = &mut best[end as usize + 1 - first];
                if slot.as_ref().is_none_or(|(known, ..)| cost < *known)
                    && let Ok(layers) = LayerRange::new(layer, end)
                {
                    *slot = Some((cost, from, Leg { peer, layers, fetch }));
                }
            }
        };
        // A gap reaches to the next layer that somebody else holds.
        let gap_end = (layer..=layers.last()).take_while(|l| !held_elsewhere(*l)).last();
        for c in candidates {
            let hidden = if c.hidden { HIDDEN_FACTOR } else { 1.0 };
            let factor = hidden * (1.0 + SHARED_FACTOR * f64::from(c.stages));
            let layer_ms = factor * if c.layer_ms > 0.0 { c.layer_ms } else { UNKNOWN_LAYER_MS };
            if let Some(held) = c.held.filter(|h| h.contains(layer)) {
                // What others hold as well is theirs to compute: the asking node only fills in.
                let last = if c.peer == me { gap_end } else { Some(held.last()) };
                if let Some(last) = last {
                    offer(c.peer, last.min(held.last()), false, c.hop_ms, layer_ms);
                }
            }
            if let Some(gap_end) = gap_end.filter(|_| c.peer != me && c.spare_layers > 0) {
                let last = gap_end.min(layer.saturating_add(c.spare_layers - 1));
                // A node holds one range: what it takes on must join what it has.
                let added = LayerRange::new(layer, last).ok();
                if c.held.is_none_or(|held| added.is_some_and(|added| held.union(added).is_some())) {
                    offer(c.peer, last, true, c.hop_ms + LOAD_PENALTY_MS, layer_ms);
                }
            }
        }
        if let Some(gap_end) = gap_end.filter(|_| me_spare > 0) {
            let last = gap_end.min(layer.saturating_add(me_spare - 1));
            offer(me, last, true, LOCAL_PENALTY_MS, UNKNOWN_LAYER_MS);
        }
    }
    let mut legs = Vec::new();
    let mut at = count;
    let expected_ms = best[count].map(|(cost, ..)| cost)?;
    while at > 0 {
        let (_, from, leg) = best[at]?;
        legs.push(leg);
        at = from;
    }
    legs.reverse();
    Some(Route { legs, expected_ms })
}

#[cfg(test)]
mod tests {
    use cdi_types::Keypair;
    use proptest::prelude::*;

    use super::*;

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed(&[n; 32]).public().peer_id()
    }

    fn host(n: u8, held: &str) -> Candidate {
        let held = held.parse().ok();
        Candidate { peer: peer(n), held, spare_layers: 0, layer_ms: 1.0, hop_ms: 5.0, stages: 0, hidden: false }
    }

    fn legs(layers: &str, candidates: &[Candidate], me_spare: u32) -> Option<Vec<(u8, String, bool)>> {
        let name = |p: PeerId| (0..=9).find(|n| peer(*n) == p).expect("a known peer");
        let route = plan(layers.parse().expect("a range"), candidates, peer(0), me_spare)?;
        Some(route.legs.iter().map(|l| (name(l.peer), l.layers.to_string(), l.fetch)).collect())
    }

    #[test]
    fn a_split_swarm_is_one_leg_a_host() {
        let hosts = [host(1, "0-2"), host(2, "3-5"), host(3, "5-7")];
        let route = legs("0-7", &hosts, 8).expect("a route");
        assert_eq!(route[0], (1, "0-2".to_owned(), false));
        assert_eq!(route.len(), 3);
        assert!(route.iter().all(|(_, _, fetch)| !fetch));
    }

    #[test]
    fn fewer_hops_win() {
        let hosts = [host(1, "0-3"), host(2, "4-7"), host(3, "0-7")];
        assert_eq!(legs("0-7", &hosts, 0), Some(vec![(3, "0-7".to_owned(), false)]));
    }

    #[test]
    fn a_gap_goes_to_a_replica_then_to_a_host_with_room_then_to_the_asking_node() {
        let mut hosts = vec![host(1, "0-2"), host(2, "5-7"), host(3, "3-4")];
        assert_eq!(legs("3-4", &hosts, 8), Some(vec![(3, "3-4".to_owned(), false)]));
        hosts.pop();
        hosts[1].spare_layers = 2;
        assert_eq!(legs("3-4", &hosts, 8), Some(vec![(2, "3-4".to_owned(), true)]));
        hosts[1].spare_layers = 0;
        assert_eq!(legs("3-4", &hosts, 8), Some(vec![(0, "3-4".to_owned(), true)]));
        assert_eq!(legs("3-4", &hosts, 0), None);
    }

    #[test]
    fn the_asking_node_never_computes_what_a_host_covers() {
        let mut me = host(0, "0-7");
        me.hop_ms = 0.0;
        let hosts = [me, host(1, "0-2"), host(2, "5-7")];
        let route = legs("0-7", &hosts, 8).expect("a route");
        let expected = [(1, "0-2"), (0, "3-4"), (2, "5-7")].map(|(n, l)| (n, l.to_owned(), false));
        assert_eq!(route, expected);
    }

    #[test]
    fn a_hidden_tab_is_avoided_when_another_is_there() {
        let mut hidden = host(1, "0-7");
        hidden.hidden = true;
        assert_eq!(legs("0-7", &[hidden, host(2, "0-7")], 0), Some(vec![(2, "0-7".to_owned(), false)]));
    }

    #[test]
    fn a_busy_host_is_avoided_when_another_is_there() {
        let mut busy = host(1, "0-7");
        busy.stages = 3;
        assert_eq!(legs("0-7", &[busy.clone(), host(2, "0-7")], 0), Some(vec![(2, "0-7".to_owned(), false)]));
        assert_eq!(legs("0-7", &[busy], 0), Some(vec![(1, "0-7".to_owned(), false)]));
    }

    proptest! {
        #[test]
        fn a_route_covers_exactly_the_layers(
            hosts in proptest::collection::vec((1u8..9, 0u32..12, 0u32..6, 0u32..4), 0..8),
            me_spare in 0u32..13,
        ) {
            let candidates: Vec<Candidate> = hosts
                .into_iter()
                .map(|(n, first, more, spare)| Candidate {
                    spare_layers: spare,
                    held: LayerRange::new(first, first + more).ok(),
                    ..host(n, "0-0")
                })
                .collect();
            let layers = LayerRange::new(0, 11).expect("a range");
            match plan(layers, &candidates, peer(0), me_spare) {
                Some(route) => {
                    let mut next = 0;
                    for leg in &route.legs {
                        prop_assert_eq!(leg.layers.first(), next);
                        next = leg.layers.end();
                        let held = candidates
                            .iter()
                            .any(|c| c.peer == leg.peer && c.held.is_some_and(|h| h.covers(leg.layers)));
                        prop_assert!(held || leg.fetch);
                    }
                    prop_assert_eq!(next, 12);
                }
                None => prop_assert!(me_spare < 12),
            }
        }
    }
}
