//! Counters of the swarm actor.

/// What happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Announcements published.
    pub published: u64,
    /// Of these, while no neighbour listened.
    pub published_to_nobody: u64,
    /// Announcements received and passed on.
    pub gossip_received: u64,
    /// Announcements dropped because they were over the size limit.
    pub gossip_oversize: u64,
    /// Announcements dropped because their author or the neighbour says too much.
    pub gossip_too_often: u64,
    /// Announcements dropped because they named no source.
    pub gossip_anonymous: u64,
    /// Events lost because nobody read them in time.
    pub events_lost: u64,
    /// Streams opened by this node.
    pub streams_opened: u64,
    /// Streams opened by peers and accepted.
    pub streams_accepted: u64,
    /// Streams opened by peers and dropped, because nobody took them in time.
    pub streams_dropped: u64,
    /// Connections established, in both directions.
    pub connections: u64,
    /// Heartbeat streams that are open now.
    pub heartbeats: u64,
    /// Connections closed because the peer answered no ping.
    pub pings_unanswered: u64,
    /// Connections closed because nothing was heard of the peer.
    pub silent_links: u64,
    /// Connections that turned out to be dead after a sleep or a change of network.
    pub found_dead: u64,
    /// Connections given up to make room for better ones.
    pub rotated: u64,
    /// Peers banned.
    pub bans: u64,
    /// Dials that failed.
    pub dials_failed: u64,
    /// Times that a relay link was lost or could not be had.
    pub relay_losses: u64,
}
