//! What the relay's part of the DHT stores: where nodes are, said by themselves, and nothing else.
//!
//! Anything that anybody may store is filled up by somebody. Here a node has one place under its own key, and the
//! network's rendezvous key has a bounded number of providers; both run out unless they are said again.

use std::time::Instant;

use cdi_net::rendezvous::{MAX_RECORD_BYTES, RECORD_TTL, network_key, node_key};
use cdi_types::{Network, PeerId};
use libp2p::kad::store::{MemoryStore, RecordStore as _};
use libp2p::kad::{InboundRequest, ProviderRecord, Record};

/// The rules.
#[derive(Debug)]
pub(crate) struct Dht {
    network: Network,
}

impl Dht {
    /// The rules of this network.
    pub(crate) const fn new(network: Network) -> Self {
        Self { network }
    }

    /// Stores what a request brings, if it is allowed. Whether nothing was refused.
    pub(crate) fn store(&self, store: &mut MemoryStore, request: InboundRequest) -> bool {
        match request {
            InboundRequest::PutRecord { source, record: Some(record), .. } => self.put(store, source, record),
            InboundRequest::AddProvider { record: Some(record) } => self.provide(store, record),
            _ => true,
        }
    }

    fn put(&self, store: &mut MemoryStore, source: PeerId, mut record: Record) -> bool {
        let own = record.key == node_key(self.network, &source);
        if !own || record.value.len() > MAX_RECORD_BYTES {
            return false;
        }
        let latest = Instant::now() + RECORD_TTL;
        record.expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
        store.put(record).is_ok()
    }

    fn provide(&self, store: &mut MemoryStore, mut record: ProviderRecord) -> bool {
        if record.key != network_key(self.network) {
            return false;
        }
        let latest = Instant::now() + RECORD_TTL;
        record.expires = Some(record.expires.map_or(latest, |expires| expires.min(latest)));
        // Nodes say where they are in their own records.
        record.addresses.clear();
        self.drop_ended(store);
        store.add_provider(record).is_ok()
    }

    /// Removes what ran out. libp2p does so only when it is asked for.
    pub(crate) fn clean(&self, store: &mut MemoryStore) {
        let now = Instant::now();
        store.retain(|_, record| !record.is_expired(now));
        self.drop_ended(store);
    }

    fn drop_ended(&self, store: &mut MemoryStore) {
        let (key, now) = (network_key(self.network), Instant::now());
        for ended in store.providers(&key).into_iter().filter(|p| p.is_expired(now)) {
            store.remove_provider(&key, &ended.provider);
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::swarm::ConnectionId;

    use super::*;

    const DHT: Dht = Dht::new(Network::Testnet);

    fn put(store: &mut MemoryStore, source: PeerId, record: Record) -> bool {
        let connection = ConnectionId::new_unchecked(1);
        DHT.store(store, InboundRequest::PutRecord { source, connection, record: Some(record) })
    }

    #[test]
    fn a_node_stores_its_own_place_and_nothing_else() {
        let (me, other) = (PeerId::random(), PeerId::random());
        let mut store = MemoryStore::new(PeerId::random());
        let mine = node_key(Network::Testnet, &me);
        assert!(put(&mut store, me, Record::new(mine.clone(), vec![1])));
        assert!(!put(&mut store, other, Record::new(mine.clone(), vec![2])), "of another");
        assert!(!put(&mut store, me, Record::new(b"anything".to_vec(), vec![1])), "of nobody");
        assert!(!put(&mut store, me, Record::new(node_key(Network::Mainnet, &me), vec![1])), "of another network");
        assert!(!put(&mut store, me, Record::new(mine.clone(), vec![0; MAX_RECORD_BYTES + 1])), "too large");
        let stored = store.get(&mine).expect("it is there").into_owned();
        assert_eq!(stored.value, [1]);
        assert!(stored.expires.is_some_and(|at| at <= Instant::now() + RECORD_TTL), "it runs out");
    }

    #[test]
    fn what_ran_out_makes_room() {
        let mut store = MemoryStore::new(PeerId::random());
        let (gone, here) = (PeerId::random(), PeerId::random());
        let key = network_key(Network::Testnet);
        let ended =
            ProviderRecord { expires: Some(Instant::now()), ..ProviderRecord::new(key.clone(), gone, Vec::new()) };
        store.add_provider(ended).expect("room");
        let mut old = Record::new(node_key(Network::Testnet, &gone), vec![1]);
        old.expires = Some(Instant::now());
        store.put(old).expect("room");
        let provider = ProviderRecord::new(key.clone(), here, Vec::new());
        assert!(DHT.store(&mut store, InboundRequest::AddProvider { record: Some(provider) }));
        assert_eq!(store.providers(&key).iter().map(|p| p.provider).collect::<Vec<_>>(), [here]);
        let strange = ProviderRecord::new(b"anything".to_vec(), here, Vec::new());
        assert!(!DHT.store(&mut store, InboundRequest::AddProvider { record: Some(strange) }));
        DHT.clean(&mut store);
        assert_eq!(store.records().count(), 0);
    }
}
