//! Which blocks are held, in which order they were used, and which must stay. No I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use cdi_types::Cid;

/// Size and last use of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) bytes: u64,
    /// Reading of the logical clock: larger is later. No wall clock, so that nothing goes backwards.
    pub(super) last_used: u64,
}

const ENTRY_BYTES: usize = 16;

impl Entry {
    /// Both figures as little-endian u64.
    pub(super) fn encode(self) -> Vec<u8> {
        [self.bytes.to_le_bytes(), self.last_used.to_le_bytes()].concat()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
        let (size, last_used) = bytes.split_first_chunk()?;
        let last_used = last_used.try_into().ok()?;
        Some(Self { bytes: u64::from_le_bytes(*size), last_used: u64::from_le_bytes(last_used) })
    }
}

#[derive(Debug, Default)]
pub(super) struct Index {
    entries: HashMap<Cid, Entry>,
    pins: BTreeMap<String, HashSet<Cid>>,
    bytes: u64,
    clock: u64,
    /// Blocks whose last use is not stored yet.
    unsaved: HashSet<Cid>,
}

impl Index {
    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.entries.contains_key(cid)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes of all blocks together.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn insert(&mut self, cid: Cid, entry: Entry) {
        self.clock = self.clock.max(entry.last_used);
        let old = self.entries.insert(cid, entry);
        self.bytes = self.bytes + entry.bytes - old.map_or(0, |old| old.bytes);
    }

    pub(super) fn remove(&mut self, cid: &Cid) -> Option<Entry> {
        let removed = self.entries.remove(cid)?;
        self.unsaved.remove(cid);
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// The entry of a block of this size that is used now.
    pub(super) const fn used_now(&mut self, bytes: u64) -> Entry {
        self.clock += 1;
        Entry { bytes, last_used: self.clock }
    }

    pub(super) fn touch(&mut self, cid: &Cid) {
        if let Some(entry) = self.entries.get_mut(cid) {
            self.clock += 1;
            entry.last_used = self.clock;
            self.unsaved.insert(*cid);
        }
    }

    pub(super) fn unsaved(&self) -> usize {
        self.unsaved.len()
    }

    /// The blocks whose last use was not stored yet; from now on it counts as stored.
    pub(super) fn take_unsaved(&mut self) -> Vec<(Cid, Entry)> {
        let unsaved = std::mem::take(&mut self.unsaved);
        unsaved.into_iter().filter_map(|cid| Some((cid, *self.entries.get(&cid)?))).collect()
    }

    pub(super) fn pin(&mut self, set: String, cids: HashSet<Cid>) {
        self.pins.insert(set, cids);
    }

    pub(super) fn unpin(&mut self, set: &str) -> bool {
        self.pins.remove(set).is_some()
    }

    pub(super) fn pins(&self) -> impl Iterator<Item = (&str, &HashSet<Cid>)> {
        self.pins.iter().map(|(set, cids)| (set.as_str(), cids))
    }

    pub(super) fn is_pinned(&self, cid: &Cid) -> bool {
        self.pins.values().any(|set| set.contains(cid))
    }

    /// Takes out the blocks that were not used for longest and are not pinned, until `needed` bytes are free
    /// or nothing is left to take. They come back by [`Index::insert`] when they could not be deleted.
    pub(super) fn evict(&mut self, needed: u64) -> Vec<(Cid, Entry)> {
        let mut candidates: Vec<(Cid, Entry)> =
            self.entries.iter().filter(|(cid, _)| !self.is_pinned(cid)).map(|(cid, entry)| (*cid, *entry)).collect();
        candidates.sort_unstable_by_key(|(cid, entry)| (entry.last_used, *cid));
        let mut freed = 0;
        candidates.retain(|(_, entry)| {
            let take = freed < needed;
            freed += if take { entry.bytes } else { 0 };
            take
        });
        for (cid, _) in &candidates {
            self.remove(cid);
        }
        candidates
    }
}

#[cfg(test)]
mod tests {
    use cdi_types::block::raw_cid;
    use proptest::prelude::*;

    use super::*;

    fn index(sizes: &[u64]) -> (Index, Vec<Cid>) {
        let mut index = Index::default();
        let cids: Vec<Cid> = (0..sizes.len()).map(|i| raw_cid(&i.to_le_bytes())).collect();
        for (cid, bytes) in cids.iter().zip(sizes) {
            let entry = index.used_now(*bytes);
            index.insert(*cid, entry);
        }
        (index, cids)
    }

    #[test]
    fn entries_round_trip() {
        let entry = Entry { bytes: 1 << 20, last_used: u64::MAX };
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        assert_eq!(Entry::decode(&[0; 15]), None);
        assert_eq!(Entry::decode(&[0; 17]), None);
    }

    #[test]
    fn the_longest_unused_go_first_and_pins_never() {
        let (mut index, cids) = index(&[10, 10, 10, 10]);
        index.touch(&cids[0]);
        index.pin("model".to_owned(), HashSet::from([cids[1]]));
        let evicted: Vec<Cid> = index.evict(11).into_iter().map(|(cid, _)| cid).collect();
        assert_eq!(evicted, [cids[2], cids[3]]);
        assert_eq!(index.bytes(), 20);
        assert!(index.unpin("model"));
        assert_eq!(index.evict(100).len(), 2);
        assert_eq!((index.bytes(), index.len()), (0, 0));
    }

    #[test]
    fn only_what_changed_is_saved_once() {
        let (mut index, cids) = index(&[1, 2]);
        index.touch(&cids[1]);
        index.touch(&cids[1]);
        index.touch(&raw_cid(b"unknown"));
        assert_eq!(index.take_unsaved(), [(cids[1], Entry { bytes: 2, last_used: 4 })]);
        assert_eq!(index.unsaved(), 0);
    }

    /// What can happen to an index, over few CIDs so that they meet.
    #[derive(Debug, Clone)]
    enum Step {
        Insert(u8, u64),
        Touch(u8),
        Remove(u8),
        Pin(Vec<u8>),
        Evict(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let number = 0..8_u8;
        prop_oneof![
            (number.clone(), 1..100_u64).prop_map(|(number, bytes)| Step::Insert(number, bytes)),
            number.clone().prop_map(Step::Touch),
            number.clone().prop_map(Step::Remove),
            prop::collection::vec(number, 0..4).prop_map(Step::Pin),
            (0..300_u64).prop_map(Step::Evict),
        ]
    }

    proptest! {
        /// Against a plain list of (number, bytes) in order of use.
        #[test]
        fn an_index_is_a_list_in_order_of_use(steps in prop::collection::vec(step(), 0..60)) {
            let cid = |number: u8| raw_cid(&[number]);
            let mut index = Index::default();
            let mut model: Vec<(u8, u64)> = Vec::new();
            let mut pinned: Vec<u8> = Vec::new();
            for step in steps {
                match step {
                    Step::Insert(number, bytes) => {
                        let entry = index.used_now(bytes);
                        index.insert(cid(number), entry);
                        model.retain(|(n, _)| *n != number);
                        model.push((number, bytes));
                    }
                    Step::Touch(number) => {
                        index.touch(&cid(number));
                        if let Some(position) = model.iter().position(|(n, _)| *n == number) {
                            let used = model.remove(position);
                            model.push(used);
                        }
                    }
                    Step::Remove(number) => {
                        prop_assert_eq!(index.remove(&cid(number)).is_some(), model.iter().any(|(n, _)| *n == number));
                        model.retain(|(n, _)| *n != number);
                    }
                    Step::Pin(numbers) => {
                        index.pin("set".to_owned(), numbers.iter().map(|n| cid(*n)).collect());
                        pinned = numbers;
                    }
                    Step::Evict(needed) => {
                        let evicted: Vec<Cid> = index.evict(needed).into_iter().map(|(cid, _)| cid).collect();
                        let (mut freed, mut expected) = (0, Vec::new());
                        model.retain(|(number, bytes)| {
                            let stays = pinned.contains(number) || freed >= needed;
                            if !stays {
                                freed += bytes;
                                expected.push(cid(*number));
                            }
                            stays
                        });
                        prop_assert_eq!(evicted, expected);
                    }
                }
                prop_assert_eq!(index.bytes(), model.iter().map(|(_, bytes)| bytes).sum::<u64>());
                prop_assert_eq!(index.len(), model.len());
            }
        }
    }
}
