//! Moving a host whose layers enough others hold to where nobody does, or too few.
//!
//! Tabs that join in the same instant hear of each other too late and take the same layers; a tab that leaves
//! opens a hole. Every node derives the same next move from the same registry, so one moves at a time, and only
//! after the need has stood for [`Policy::rebalance_interval_ms`]. A mover serves what it has until its new layers are ready, and looks
//! once more before it drops the old ones ([`may_leave`]): a layer that somebody holds never ends up without a
//! holder because of a move.

use std::cmp::Reverse;

use cdi_types::advert::Advert;
use cdi_types::{Cid, LayerRange, PeerId};

use crate::placement::Policy;
use crate::registry::Registry;

/// What this node makes of the registry over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relocation {
    /// The move that this node was found to be called for, and since when.
    called: Option<(LayerRange, u64)>,
}

impl Relocation {
    /// To be asked more often than nodes announce themselves. The layers that `me` should hold instead of its own
    /// ones, once that has been so for [`Policy::rebalance_interval_ms`].
    pub fn consider(
        &mut self,
        registry: &Registry,
        me: &PeerId,
        (model, layers): (&Cid, u32),
        policy: &Policy,
        now_ms: u64,
    ) -> Option<LayerRange> {
        let mine = next_move(registry, model, layers, policy.min_replicas).filter(|(peer, _)| peer == me);
        let Some((_, to)) = mine else {
            self.called = None;
            return None;
        };
        let since = self.called.filter(|(called, _)| *called == to).map_or(now_ms, |(_, since)| since);
        self.called = Some((to, since));
        (now_ms.saturating_sub(since) >= policy.rebalance_interval_ms).then_some(to)
    }
}

/// The next move that brings the swarm nearer to holding every layer `min_replicas` times: who, and to which layers. What
/// nobody holds comes first, then what one holds, and so on. `None` when every layer is held or claimed so often, or no
/// safe move helps.
#[must_use]
pub fn next_move(registry: &Registry, model: &Cid, layers: u32, min_replicas: u32) -> Option<(PeerId, LayerRange)> {
    let replicas = registry.coverage(model, layers, true);
    let scarcest = replicas.iter().copied().min()?;
    // A move takes nobody below the level that it works for, so that no later move undoes it.
    (scarcest + 1..=min_replicas).find_map(|level| {
        let layout = Layout::new(registry, model, &replicas, level);
        layout.fill().or_else(|| layout.pack().filter(|_| level == 1))
    })
}

/// Whether `me` may drop what of `from` is not in `kept`: others serve it. Of two nodes that move at the same time the
/// one with the smaller id counts as staying.
#[must_use]
pub fn may_leave(
    registry: &Registry,
    me: &PeerId,
    model: &Cid,
    from: LayerRange,
    kept: impl Into<Option<LayerRange>>,
) -> bool {
    let kept = kept.into();
    let stays = |layer: u32| {
        registry.nodes().any(|(peer, advert)| {
            let moves = advert.shards_of(model).any(|s| !s.ready);
            let holds = advert.shards_of(model).any(|s| s.ready && s.layers.contains(layer));
            peer != me && holds && (!moves || peer < me)
        })
    };
    from.iter().filter(|layer| !kept.is_some_and(|kept| kept.contains(*layer))).all(stays)
}

/// A host that serves one range and is not about to change it.
#[derive(Debug, Clone, Copy)]
struct Host {
    peer: PeerId,
    held: LayerRange,
}

/// Who holds what, with sums that make a look at every place of every host cheap: there may be thousands of hosts.
struct Layout {
    layers: u32,
    hosts: Vec<Host>,
    /// Layers below an index that fewer than so many as wanted hold or claim.
    holes: Vec<u32>,
    /// Layers below an index that none of its holders may drop.
    scarce: Vec<u32>,
}

impl Layout {
    fn new(registry: &Registry, model: &Cid, replicas: &[u32], level: u32) -> Self {
        let layers = u32::try_from(replicas.len()).unwrap_or(u32::MAX);
        let host = |(peer, advert): (&PeerId, &Advert)| {
            let mut shards = advert.shards_of(model);
            let held = shards.next().filter(|s| s.ready && s.layers.end() <= layers)?.layers;
            shards.next().is_none().then_some(Host { peer: *peer, held })
        };
        let hosts: Vec<Host> = registry.nodes().filter_map(host).collect();
        let mut holders = vec![0u32; replicas.len()];
        hosts.iter().flat_map(|h| h.held.iter()).for_each(|layer| holders[layer as usize] += 1);
        let (holes, scarce) = (sums(replicas, level - 1), sums(&holders, level));
        Self { layers, hosts, holes, scarce }
    }

    /// Whether enough others hold every layer that `host` would drop.
    fn is_safe(&self, host: Host, to: LayerRange) -> bool {
        let kept = host.held.intersection(to).map_or(0, |kept| count(&self.scarce, kept));
        count(&self.scarce, host.held) == kept
    }

    /// Holes that `host` would fill: what it holds already is none of them.
    fn gain(&self, host: Host, to: LayerRange) -> u32 {
        count(&self.holes, to) - host.held.intersection(to).map_or(0, |kept| count(&self.holes, kept))
    }

    /// The move that fills most holes; of equals that of the highest peer id, to the first such place.
    fn fill(&self) -> Option<(PeerId, LayerRange)> {
        let places = |host: &Host| {
            let (host, count) = (*host, host.held.count());
            (0..=self.layers.saturating_sub(count)).filter_map(move |first| Some((host, range(first, count)?)))
        };
        let moves = self.hosts.iter().flat_map(places);
        let moves = moves.filter(|(host, to)| self.gain(*host, *to) > 0 && self.is_safe(*host, *to));
        let best = moves.max_by_key(|(host, to)| (self.gain(*host, *to), host.peer, Reverse(to.first())));
        best.map(|(host, to)| (host.peer, to))
    }

    /// No move fills anything by itself, but hosts may overlap elsewhere: a step towards laying them end to end, in
    /// the order of their layers, if they then hold everything.
    fn pack(&self) -> Option<(PeerId, LayerRange)> {
        let mut ordered = self.hosts.clone();
        ordered.sort_by_key(|h| (h.held, h.peer));
        let mut end = 0u32;
        let mut step = None;
        for host in ordered {
            let count = host.held.count();
            let to = range(end.min(self.layers.saturating_sub(count)), count)?;
            end = end.saturating_add(count);
            if to != host.held && self.is_safe(host, to) {
                // The last one goes first: it makes room for those before it.
                step = Some((host.peer, to));
            }
        }
        step.filter(|_| end >= self.layers)
    }
}

/// At each index, how many of the values below it are at most `most`.
fn sums(values: &[u32], most: u32) -> Vec<u32> {
    let mut sum = 0;
    let mut sums = vec![0];
    sums.extend(values.iter().map(|value| {
        sum += u32::from(*value <= most);
        sum
    }));
    sums
}

fn count(sums: &[u32], layers: LayerRange) -> u32 {
    sums[layers.end() as usize] - sums[layers.first() as usize]
}

fn range(first: u32, count: u32) -> Option<LayerRange> {
    LayerRange::new(first, first.checked_add(count)?.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use cdi_types::Keypair;
    use cdi_types::advert::{Shard, Tier};
    use cdi_types::block::raw_cid;

    use super::*;

    const SETTLE_MS: u64 = 15_000;

    /// Peers in the order of their ids.
    fn peers(count: u8) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> = (0..count).map(|n| Keypair::from_seed(&[n; 32]).public().peer_id()).collect();
        peers.sort_unstable();
        peers
    }

    fn model() -> Cid {
        raw_cid(b"model")
    }

    /// A node for each entry: ranges that are ready, and ranges with `?` that are claimed.
    fn registry(nodes: &[&[&str]]) -> (Registry, Vec<PeerId>) {
        let peers = peers(u8::try_from(nodes.len()).expect("few"));
        let mut registry = Registry::default();
        for (peer, shards) in peers.iter().zip(nodes) {
            observe(&mut registry, *peer, 1, shards);
        }
        (registry, peers)
    }

    fn observe(registry: &mut Registry, peer: PeerId, sequence: u64, shards: &[&str]) {
        let shard = |text: &&str| Shard {
            model: model(),
            layers: text.trim_end_matches('?').parse().expect("a range"),
            ready: !text.ends_with('?'),
            kernel_id: "cpu".to_owned(),
            decode_ms: 1.0,
        };
        let advert = Advert {
            build: "test".to_owned(),
            tier: Tier::Cpu,
            shards: shards.iter().map(shard).collect(),
            spare_layers: 0,
            kv_room: 0,
            stages: 0,
            upload_bytes_per_s: 0,
            hidden: false,
        };
        registry.observe(peer, sequence, advert, 0);
    }

    fn next(nodes: &[&[&str]]) -> Option<(usize, String)> {
        let (registry, peers) = registry(nodes);
        let (peer, to) = next_move(&registry, &model(), 8, 1)?;
        Some((peers.iter().position(|p| *p == peer).expect("one of them"), to.to_string()))
    }

    #[test]
    fn of_equals_the_highest_id_moves_to_the_first_hole() {
        assert_eq!(next(&[&["0-2"], &["0-2"], &["0-2"]]), Some((2, "3-5".to_owned())));
        assert_eq!(next(&[&["0-2"], &["0-2"], &["3-5"]]), Some((1, "5-7".to_owned())), "who alone holds layers stays");
    }

    #[test]
    fn nothing_to_do() {
        assert_eq!(next(&[&["0-2"], &["3-5"], &["5-7"], &["5-7"]]), None, "covered");
        assert_eq!(next(&[&["0-2"], &["0-2"], &["3-5?"], &["5-7?"]]), None, "claimed");
        assert_eq!(next(&[&["0-2"], &["3-5"]]), None, "nobody can be spared");
        assert_eq!(next(&[&["0-2", "3-5?"], &["0-2"]]), None, "the other one is moving: this one must stay");
        assert_eq!(next(&[&["0-2?"], &["0-2"]]), None, "a claim is not a holder");
        assert_eq!(next(&[&["0-99"], &["0-2"]]), None, "out of the model's bounds");
    }

    #[test]
    fn a_host_keeps_what_only_it_holds() {
        assert_eq!(next(&[&["0-2"], &["2-4"], &["6-7"]]), Some((1, "3-5".to_owned())));
    }

    #[test]
    fn a_hole_is_passed_on_to_where_there_is_room() {
        // Nobody can fill layer 0, but the last two overlap.
        assert_eq!(next(&[&["1-3"], &["4-6"], &["5-7"]]), Some((1, "3-5".to_owned())));
        assert_eq!(next(&[&["1-3"], &["3-5"], &["5-7"]]), Some((0, "0-2".to_owned())));
    }

    #[test]
    fn spare_hosts_make_second_copies_and_no_copy_is_undone() {
        let (mut registry, peers) = registry(&[&["0-3"], &["4-7"], &["0-3"], &["0-3"]]);
        let next = |registry: &Registry| next_move(registry, &model(), 8, 2);
        let to = next(&registry);
        assert_eq!(to, Some((peers[3], "4-7".parse().expect("a range"))));
        observe(&mut registry, peers[3], 2, &["4-7"]);
        assert_eq!(next(&registry), None, "every layer twice");
        observe(&mut registry, peers[0], 2, &["4-7"]);
        assert_eq!(next(&registry).map(|(_, to)| to.to_string()), Some("0-3".to_owned()));
        assert_eq!(next_move(&registry, &model(), 8, 1), None, "held once is enough for one");
    }

    #[test]
    fn a_move_waits_until_its_reason_has_stood() {
        let (mut registry, peers) = registry(&[&["0-2"], &["0-2"]]);
        let [one, two] = peers[..] else { unreachable!("two peers") };
        let (mut first, mut second) = (Relocation::default(), Relocation::default());
        let to = "3-5".parse().ok();
        let (model, policy) = (model(), Policy { min_replicas: 1, rebalance_interval_ms: SETTLE_MS });
        let model = (&model, 8);
        assert_eq!(second.consider(&registry, &two, model, &policy, 1_000), None);
        assert_eq!(second.consider(&registry, &two, model, &policy, 999 + SETTLE_MS), None);
        assert_eq!(second.consider(&registry, &two, model, &policy, 1_000 + SETTLE_MS), to);
        assert_eq!(first.consider(&registry, &one, model, &policy, 1_000 + SETTLE_MS), None, "one moves at a time");
        // The reason goes and comes back: the time starts over.
        registry.lost(&one);
        assert_eq!(second.consider(&registry, &two, model, &policy, 2_000 + SETTLE_MS), None);
        observe(&mut registry, one, 2, &["0-2"]);
        assert_eq!(second.consider(&registry, &two, model, &policy, 3_000 + SETTLE_MS), None);
        // Another place than before: the time starts over as well.
        observe(&mut registry, one, 3, &["0-3"]);
        observe(&mut registry, two, 3, &["0-3"]);
        assert_eq!(second.consider(&registry, &two, model, &policy, 3_000 + 2 * SETTLE_MS), None);
        assert_eq!(second.consider(&registry, &two, model, &policy, 3_000 + 3 * SETTLE_MS), "4-7".parse().ok());
    }

    #[test]
    fn of_two_movers_one_stays() {
        let (registry, peers) = registry(&[&["0-2", "3-5?"], &["0-2", "5-7?"]]);
        let leave = |n: usize, to: &str| {
            let to: LayerRange = to.parse().expect("a range");
            may_leave(&registry, &peers[n], &model(), "0-2".parse().expect("a range"), to)
        };
        assert!(!leave(0, "3-5") && leave(1, "5-7"));
        assert!(leave(0, "0-2"), "nothing is dropped");
    }
}
