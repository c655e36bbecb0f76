//! How many handshakes may be in progress: each holds keys, buffers and timers for a stranger.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate::bucket_of;

/// The handshakes in progress.
#[derive(Debug, Clone)]
pub(super) struct Places {
    max: usize,
    max_per_ip: usize,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One handshake's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    ip: IpAddr,
    places: Places,
}

impl Places {
    pub(super) fn new(max: usize, max_per_ip: usize) -> Self {
        Self { max, max_per_ip, taken: Arc::default() }
    }

    /// A place for a handshake with `ip`; `None` when there is none left.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Place> {
        let ip = bucket_of(ip);
        let mut taken = self.lock();
        let of_ip = taken.get(&ip).copied().unwrap_or_default();
        if of_ip >= self.max_per_ip || taken.values().sum::<usize>() >= self.max {
            return None;
        }
        taken.insert(ip, of_ip + 1);
        drop(taken);
        Some(Place { ip, places: self.clone() })
    }

    /// Never poisoned in practice: nothing panics while holding the lock.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_places_come_back() {
        let places = Places::new(3, 2);
        let [a, b] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let first = places.take(a).unwrap();
        let _second = places.take(a).unwrap();
        assert!(places.take(a).is_none(), "two for an address");
        let _third = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "three in all");
        drop(first);
        assert!(places.take(b).is_some());
    }
}
