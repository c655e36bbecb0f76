//! The key of this node: one a data directory natively, one a tab in a browser.
//!
//! A tab finds its key again after a reload, by the slot in its session storage. A duplicated tab copies
//! that too, so the slot is claimed by a lock: two tabs never run the same peer id.

use cdi_platform::db::DbError;
use cdi_platform::lock::{Lock, try_lock, try_lock_patiently};
use cdi_platform::secret::{Protection, Secrets};
use cdi_platform::time::unix_ms;
use cdi_platform::{Place, random, tab};
use cdi_types::{Keypair, Network};

/// Most identities kept: closed tabs leave theirs behind, for the case that the browser restores them.
const MAX_IDENTITIES: usize = 64;

const SEED_BYTES: usize = 32;

/// Why there is no identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Another process runs with the identity of this data directory.
    #[error("the identity of this data directory is in use by another process")]
    InUse,
    /// The stored key cannot be read. It is left as it is: restore it, or remove it to get a new one.
    #[error("the stored identity {0:?} is damaged")]
    Damaged(String),
    /// Storage failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The identity of a running node.
#[derive(Debug)]
pub struct NodeIdentity {
    /// Its key.
    pub keypair: Keypair,
    /// Where the key comes from.
    pub report: IdentityReport,
    /// The claim on the identity, to be held as long as the node runs.
    pub lock: Lock,
}

/// Where the key of a node comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityReport {
    /// Whether the key was made now.
    pub created: bool,
    /// Whether another tab was running with this tab's former identity (a duplicated tab).
    pub was_taken: bool,
    /// How the key is kept. Of [`Protection::MemoryOnly`] tell the user that a reload makes a new node.
    pub protection: Protection,
}

impl NodeIdentity {
    /// The identity of this data directory or tab on `network`, made when there is none.
    ///
    /// # Errors
    /// [`IdentityError`].
    pub async fn load_or_create(network: Network, place: &Place) -> Result<Self, IdentityError> {
        Self::claim(network, place, tab::slot(), tab::renew).await
    }

    /// Claims the first identity that is free and readable among `slot` and, from then on, what `renew` gives.
    async fn claim(
        network: Network,
        place: &Place,
        mut slot: String,
        renew: impl Fn() -> Option<String>,
    ) -> Result<Self, IdentityError> {
        let secrets = Secrets::open(place, &network.store("identity")).await?;
        let mut was_taken = false;
        loop {
            let problem = match try_lock_patiently(place, &lock_name(network, &slot)).await? {
                None => {
                    was_taken = true;
                    IdentityError::InUse
                }
                Some(lock) => match load_or_create(&secrets, &slot).await {
                    Ok((keypair, created)) => {
                        if created {
                            forget_oldest(network, place, &secrets, &slot).await?;
                        }
                        let report = IdentityReport { created, was_taken, protection: secrets.protection() };
                        return Ok(Self { keypair, report, lock });
                    }
                    Err(DbError::Damaged(_)) => IdentityError::Damaged(slot),
                    Err(error) => return Err(error.into()),
                },
            };
            slot = renew().ok_or(problem)?;
        }
    }
}

fn lock_name(network: Network, slot: &str) -> String {
    network.store(&format!("identity-{slot}"))
}

/// The key pair of the slot and whether it was made now. Stored are the seed and when it was last used, in
/// Unix milliseconds as little-endian u64.
async fn load_or_create(secrets: &Secrets, slot: &str) -> Result<(Keypair, bool), DbError> {
    let (seed, created) = match secrets.get(slot).await? {
        None => (random::seed(), true),
        Some(stored) => match stored.split_first_chunk() {
            Some((seed, rest)) if rest.len() == size_of::<u64>() => (*seed, false),
            _ => return Err(DbError::Damaged("not a stored identity".to_owned())),
        },
    };
    secrets.put(slot, &[&seed[..], &unix_ms().to_le_bytes()].concat()).await?;
    Ok((Keypair::from_seed(&seed), created))
}

/// Forgets the identities that were not used for longest and that no tab is running.
async fn forget_oldest(network: Network, place: &Place, secrets: &Secrets, own: &str) -> Result<(), DbError> {
    let mut slots = secrets.keys().await?;
    if slots.len() <= MAX_IDENTITIES {
        return Ok(());
    }
    slots.retain(|slot| slot != own);
    let mut by_age = Vec::new();
    for slot in slots {
        // What cannot be read goes first.
        let stored = secrets.get(&slot).await.ok().flatten();
        let used_ms = stored.and_then(|stored| Some(u64::from_le_bytes(*stored.get(SEED_BYTES..)?.first_chunk()?)));
        by_age.push((used_ms.unwrap_or(0), slot));
    }
    by_age.sort();
    let surplus = (by_age.len() + 1).saturating_sub(MAX_IDENTITIES);
    for (_, slot) in by_age.into_iter().take(surplus) {
        if let Some(_lock) = try_lock(place, &lock_name(network, &slot)).await? {
            secrets.delete(&slot).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use cdi_platform::testing::{async_test, lasting_place};

    use super::*;

    const NETWORK: Network = Network::Testnet;

    /// A slot that no other test uses: all tests of a browser share one place.
    fn slot() -> String {
        cdi_platform::testing::fresh_name()
    }

    async fn claim(place: &Place, slot: &str) -> Result<NodeIdentity, IdentityError> {
        claim_on(NETWORK, place, slot).await
    }

    async fn claim_on(network: Network, place: &Place, slot: &str) -> Result<NodeIdentity, IdentityError> {
        NodeIdentity::claim(network, place, slot.to_owned(), || None).await
    }

    #[async_test]
    async fn a_reloaded_tab_is_the_same_node() {
        let (place, slot) = (lasting_place(), slot());
        let first = claim(&place, &slot).await.expect("a new identity");
        assert!(first.report.created && !first.report.was_taken);
        let public = first.keypair.public();
        drop(first);
        let again = claim(&place, &slot).await.expect("the same identity");
        assert_eq!(again.keypair.public(), public);
        assert!(!again.report.created);
        assert_ne!(again.report.protection, Protection::MemoryOnly);
    }

    #[async_test]
    async fn a_duplicated_tab_is_another_node() {
        let (place, slot, fresh) = (lasting_place(), slot(), slot());
        let original = claim(&place, &slot).await.expect("a new identity");
        assert_eq!(claim(&place, &slot).await.map(drop), Err(IdentityError::InUse));
        let duplicate = NodeIdentity::claim(NETWORK, &place, slot, || Some(fresh.clone())).await;
        let duplicate = duplicate.expect("an identity of its own");
        assert!(duplicate.report.created && duplicate.report.was_taken);
        assert_ne!(duplicate.keypair.public(), original.keypair.public());
    }

    #[async_test]
    async fn a_damaged_key_is_never_overwritten() {
        let (place, slot, fresh) = (lasting_place(), slot(), slot());
        let secrets = Secrets::open(&place, &NETWORK.store("identity")).await.expect("opens");
        secrets.put(&slot, b"too short").await.expect("puts");
        assert_eq!(claim(&place, &slot).await.map(drop), Err(IdentityError::Damaged(slot.clone())));
        let renewed = Cell::new(0);
        let other = NodeIdentity::claim(NETWORK, &place, slot.clone(), || {
            renewed.set(renewed.get() + 1);
            Some(fresh.clone())
        });
        assert!(other.await.expect("an identity").report.created);
        assert_eq!(renewed.get(), 1);
        assert_eq!(secrets.get(&slot).await, Ok(Some(b"too short".to_vec())));
    }

    #[async_test]
    async fn identities_of_closed_tabs_do_not_pile_up() {
        // Of its own: in a browser all tests share the other network's identities.
        let (place, network) = (lasting_place(), Network::Mainnet);
        let secrets = Secrets::open(&place, &network.store("identity")).await.expect("opens");
        let mut oldest = Vec::new();
        for age in 0..u64::try_from(MAX_IDENTITIES).expect("small") {
            let slot = slot();
            secrets.put(&slot, &[&[1; SEED_BYTES][..], &age.to_le_bytes()].concat()).await.expect("puts");
            oldest.push(slot);
        }
        let running = try_lock(&place, &lock_name(network, &oldest[0])).await.expect("locks");
        let _new = claim_on(network, &place, &slot()).await.expect("one more");
        let _another = claim_on(network, &place, &slot()).await.expect("and another");
        let left = secrets.keys().await.expect("keys");
        assert!(left.contains(&oldest[0]), "its tab is running");
        assert!(!left.contains(&oldest[1]) && left.contains(oldest.last().expect("some")));
        drop(running);
    }

    #[async_test]
    async fn the_public_entry_works_here() {
        let identity = NodeIdentity::load_or_create(NETWORK, &Place::memory()).await.expect("an identity");
        assert_eq!(identity.report.protection, Protection::MemoryOnly);
    }
}
