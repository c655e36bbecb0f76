//! Blocks that found no room on the disk and are kept in memory instead.

use std::collections::HashMap;

use cdi_types::Cid;

#[derive(Debug)]
pub(super) struct Overflow {
    blocks: HashMap<Cid, Vec<u8>>,
    bytes: u64,
    max_bytes: u64,
}

impl Overflow {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self { blocks: HashMap::new(), bytes: 0, max_bytes }
    }

    pub(super) fn get(&self, cid: &Cid) -> Option<&Vec<u8>> {
        self.blocks.get(cid)
    }

    pub(super) fn contains(&self, cid: &Cid) -> bool {
        self.blocks.contains_key(cid)
    }

    /// Whether there was room.
    pub(super) fn insert(&mut self, cid: Cid, bytes: &[u8]) -> bool {
        let size = bytes.len() as u64;
        if self.contains(&cid) {
            return true;
        }
        if self.bytes + size > self.max_bytes {
            return false;
        }
        self.bytes += size;
        self.blocks.insert(cid, bytes.to_vec());
        true
    }

    pub(super) fn remove(&mut self, cid: &Cid) -> bool {
        let removed = self.blocks.remove(cid);
        self.bytes -= removed.as_ref().map_or(0, |bytes| bytes.len() as u64);
        removed.is_some()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn len(&self) -> usize {
        self.blocks.len()
    }
}
