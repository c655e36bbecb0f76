//! Whose datagram is whose, on the one socket that all clients of a server share.
//!
//! A connection is known by the name that its client made up, which every connectivity check carries, and by
//! the sources that such checks came from: those of everything else that belongs to it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use str0m::ice::StunMessage;

use crate::direct::is_ufrag;

/// Sources of one connection: a browser sends from each of its interfaces until one is chosen.
const MAX_SOURCES: usize = 8;

/// Connections that one source may belong to: one that is going, and the next one through the same NAT mapping.
/// Who knows a source could claim it with a name of his own; the connection of its owner keeps getting its
/// datagrams, and DTLS drops what is not meant for it.
const MAX_SHARED: usize = 2;

/// The connections of a listener. `T` is where the datagrams of one go.
#[derive(Debug)]
pub(super) struct Table<T> {
    connections: HashMap<Arc<str>, Entry<T>>,
    by_source: HashMap<SocketAddr, Vec<Arc<str>>>,
}

#[derive(Debug)]
struct Entry<T> {
    to: T,
    sources: Vec<SocketAddr>,
}

/// What a datagram is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// These connections; one, as a rule.
    Known(Vec<Arc<str>>),
    /// A connection that is not there yet, with this name.
    New(String),
    /// Nobody.
    Stray,
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self { connections: HashMap::new(), by_source: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Where a datagram from `source` goes. `verify` says whether a check is signed with the password given.
    pub(super) fn route(
        &mut self,
        source: SocketAddr,
        datagram: &[u8],
        verify: impl Fn(&StunMessage<'_>, &str) -> bool,
    ) -> Route {
        // The first byte of STUN is 0 or 1 (RFC 7983).
        if !matches!(datagram.first(), Some(0 | 1)) {
            return self.of_source(source);
        }
        let Ok(message) = StunMessage::parse(datagram) else { return Route::Stray };
        if !message.is_binding_request() {
            return self.of_source(source);
        }
        // Both sides have the same name, which is the password as well.
        let Some((name, same)) = message.split_username() else { return Route::Stray };
        if name != same || !is_ufrag(name) || !verify(&message, name) {
            return Route::Stray;
        }
        match self.connections.get_key_value(name) {
            Some((name, _)) => {
                let name = Arc::clone(name);
                self.learn(&name, source);
                Route::Known(vec![name])
            }
            None => Route::New(name.to_owned()),
        }
    }

    fn of_source(&self, source: SocketAddr) -> Route {
        self.by_source.get(&source).map_or(Route::Stray, |names| Route::Known(names.clone()))
    }

    /// Adds the connection `name`, which first showed itself from `source`.
    pub(super) fn insert(&mut self, name: &str, source: SocketAddr, to: T) {
        let name: Arc<str> = name.into();
        self.connections.insert(Arc::clone(&name), Entry { to, sources: Vec::new() });
        self.learn(&name, source);
    }

    fn learn(&mut self, name: &Arc<str>, source: SocketAddr) {
        let Some(entry) = self.connections.get_mut(name) else { return };
        if entry.sources.contains(&source) || entry.sources.len() >= MAX_SOURCES {
            return;
        }
        let names = self.by_source.entry(source).or_default();
        if names.len() < MAX_SHARED {
            names.push(Arc::clone(name));
            entry.sources.push(source);
        }
    }

    /// Whether one more connection may begin at `source`.
    pub(super) fn has_room_at(&self, source: SocketAddr) -> bool {
        self.by_source.get(&source).is_none_or(|names| names.len() < MAX_SHARED)
    }

    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.connections.get(name).map(|entry| &entry.to)
    }

    /// Forgets the connections that `keep` says no to.
    pub(super) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.connections.retain(|_, entry| keep(&entry.to));
        let connections = &self.connections;
        self.by_source.retain(|_, names| {
            names.retain(|name| connections.contains_key(name));
            !names.is_empty()
        });
    }
}

#[cfg(test)]
mod tests;
