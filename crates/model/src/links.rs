//! Link lists of any length: inline while short, a tree of nodes when long.

use std::collections::HashMap;

use cdi_types::Cid;
use cdi_types::block::{BlockError, CODEC_DAG_CBOR, CODEC_RAW, check_cid, dag_cbor_cid};
use cdi_types::cbor::{self, CborError};
use cdi_types::manifest::{LinkNode, Links, MAX_LINKS};

/// Blocks of DAG-CBOR that were fetched and verified against their CIDs.
pub type Nodes = HashMap<Cid, Vec<u8>>;

/// Highest tree that is followed: three levels of 4,096 links are 64 PiB.
const MAX_HEIGHT: u32 = 2;

/// Why a link list could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// These nodes have to be fetched first.
    #[error("{} nodes are missing", .0.len())]
    Missing(Vec<Cid>),
    /// A node is not a [`LinkNode`].
    #[error(transparent)]
    Encoding(#[from] CborError),
    /// A link of a foreign kind.
    #[error(transparent)]
    Link(#[from] BlockError),
    /// The tree is none, or has not as many leaves as the tensor has blocks.
    #[error("invalid link tree: {0}")]
    Invalid(&'static str),
}

/// Makes the shortest tree over `links`; each new node goes to `sink` as it is finished.
///
/// # Errors
/// Whatever `sink` says, or [`CborError`] by way of `E`.
pub fn link<E: From<CborError>>(
    links: Vec<Cid>,
    sink: &mut impl FnMut(Cid, &[u8]) -> Result<(), E>,
) -> Result<Links, E> {
    if links.len() <= MAX_LINKS {
        return Ok(Links::List(links));
    }
    let mut level = links;
    for height in 0.. {
        let mut above = Vec::with_capacity(level.len().div_ceil(MAX_LINKS));
        for chunk in level.chunks(MAX_LINKS) {
            let bytes = cbor::encode(&LinkNode { height, links: chunk.to_vec() })?;
            let cid = dag_cbor_cid(&bytes);
            sink(cid, &bytes)?;
            above.push(cid);
        }
        if let [root] = above[..] {
            return Ok(Links::Tree(root));
        }
        level = above;
    }
    unreachable!("every level is shorter than the one below")
}

/// The `count` raw blocks of a list, in order.
///
/// # Errors
/// [`LinkError::Missing`] names the nodes of one level that are not in `nodes`: fetch them and ask again.
pub fn resolve(links: &Links, count: usize, nodes: &Nodes) -> Result<Vec<Cid>, LinkError> {
    let mut level = match links {
        Links::List(list) => return leaves(list.clone(), count),
        Links::Tree(root) => vec![*root],
    };
    let mut height = None;
    loop {
        let parsed = read_level(&level, nodes)?;
        let at = parsed.first().map_or(0, |node| node.height);
        if at > MAX_HEIGHT || height.is_some_and(|above| at + 1 != above) || parsed.iter().any(|n| n.height != at) {
            return Err(LinkError::Invalid("heights do not fall by one a level"));
        }
        level = parsed.into_iter().flat_map(|node| node.links).collect();
        // No level has more entries than there are leaves; a wider one is an attempt to make us fetch for ever.
        if level.len() > count {
            return Err(LinkError::Invalid("more links than blocks"));
        }
        if at == 0 {
            return leaves(level, count);
        }
        height = Some(at);
    }
}

fn read_level(level: &[Cid], nodes: &Nodes) -> Result<Vec<LinkNode>, LinkError> {
    for cid in level {
        check_cid(cid)?;
        if cid.codec() != CODEC_DAG_CBOR {
            return Err(LinkError::Invalid("an inner link is not DAG-CBOR"));
        }
    }
    let missing: Vec<Cid> = level.iter().filter(|cid| !nodes.contains_key(cid)).copied().collect();
    if !missing.is_empty() {
        return Err(LinkError::Missing(missing));
    }
    let mut parsed = Vec::with_capacity(level.len());
    for bytes in level.iter().filter_map(|cid| nodes.get(cid)) {
        let node: LinkNode = cbor::decode(bytes)?;
        if node.links.is_empty() || node.links.len() > MAX_LINKS {
            return Err(LinkError::Invalid("a node has between 1 and 4096 links"));
        }
        parsed.push(node);
    }
    Ok(parsed)
}

fn leaves(list: Vec<Cid>, count: usize) -> Result<Vec<Cid>, LinkError> {
    if list.len() != count {
        return Err(LinkError::Invalid("not one link a block"));
    }
    for cid in &list {
        check_cid(cid)?;
        if cid.codec() != CODEC_RAW {
            return Err(LinkError::Invalid("a leaf is not a raw block"));
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use cdi_types::block::raw_cid;

    use super::*;

    fn cids(count: usize) -> Vec<Cid> {
        (0..count).map(|i| raw_cid(&i.to_le_bytes())).collect()
    }

    fn build(links: Vec<Cid>) -> (Links, Nodes) {
        let mut nodes = Nodes::new();
        let links = link::<CborError>(links, &mut |cid, bytes| {
            nodes.insert(cid, bytes.to_vec());
            Ok(())
        });
        (links.expect("links"), nodes)
    }

    fn node(height: u32, links: Vec<Cid>) -> (Cid, Vec<u8>) {
        let bytes = cbor::encode(&LinkNode { height, links }).expect("encodes");
        (dag_cbor_cid(&bytes), bytes)
    }

    #[test]
    fn short_lists_stay_inline() {
        let (links, nodes) = build(cids(MAX_LINKS));
        assert!(matches!(links, Links::List(_)) && nodes.is_empty());
        assert_eq!(resolve(&links, MAX_LINKS, &nodes), Ok(cids(MAX_LINKS)));
    }

    #[test]
    fn long_lists_are_resolved_level_by_level() {
        let all = cids(10_000);
        let (links, nodes) = build(all.clone());
        assert_eq!(nodes.len(), 4);
        let mut fetched = Nodes::new();
        let mut rounds = 0;
        let resolved = loop {
            match resolve(&links, all.len(), &fetched) {
                Err(LinkError::Missing(missing)) => fetched.extend(missing.into_iter().map(|c| (c, nodes[&c].clone()))),
                done => break done,
            }
            rounds += 1;
        };
        assert_eq!((resolved, rounds), (Ok(all), 2));
        assert_eq!(resolve(&links, 9_999, &nodes), Err(LinkError::Invalid("more links than blocks")));
        assert_eq!(resolve(&links, 10_001, &nodes), Err(LinkError::Invalid("not one link a block")));
    }

    #[test]
    fn crooked_trees_are_refused() {
        let leaf = node(0, cids(2));
        let resolve_root = |root: (Cid, Vec<u8>)| {
            let nodes = Nodes::from([leaf.clone(), root.clone()]);
            resolve(&Links::Tree(root.0), 2, &nodes)
        };
        assert_eq!(resolve_root(node(1, vec![leaf.0])), Ok(cids(2)));
        let heights = Err(LinkError::Invalid("heights do not fall by one a level"));
        assert_eq!(resolve_root(node(2, vec![leaf.0])), heights);
        assert_eq!(resolve_root(node(9, vec![leaf.0])), heights);
        assert!(resolve_root(node(0, vec![leaf.0, leaf.0])).is_err());
        assert!(resolve_root(node(1, cids(1))).is_err());
        assert!(resolve_root(node(1, vec![])).is_err());
        assert!(resolve_root((dag_cbor_cid(b"x"), b"x".to_vec())).is_err());
        assert_eq!(
            resolve(&Links::Tree(raw_cid(b"x")), 1, &Nodes::new()),
            Err(LinkError::Invalid("an inner link is not DAG-CBOR"))
        );
    }
}
