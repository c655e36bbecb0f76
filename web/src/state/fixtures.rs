//! Nodes and models for the tests.

use cdi_node::view::{Link, ModelView, PeerView};
use cdi_types::advert::Tier;
use cdi_types::block::raw_cid;
use cdi_types::{Keypair, PeerId};

pub fn peer_id(seed: u8) -> PeerId {
    Keypair::from_seed(&[seed; 32]).public().peer_id()
}

pub fn peer(seed: u8, layers: Option<&str>) -> PeerView {
    PeerView {
        peer: peer_id(seed),
        this: seed == 0,
        link: Some(Link::Direct),
        layers: layers.map(|text| text.parse().expect("a range")),
        tier: Tier::Cpu,
        hidden: false,
        rtt_ms: None,
        received_bytes: 0,
        sent_bytes: 0,
        worker_bytes: 0,
        limit_bytes: None,
    }
}

pub fn model(context: u32) -> ModelView {
    ModelView { id: raw_cid(b"genesis"), name: "genesis".to_owned(), layers: 8, context, weight_bytes: 1 }
}
