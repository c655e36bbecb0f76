//! The components of the page, one a file. `data-testid` and the `data-` attributes beside it are stable:
//! tests and assistive tools rely on them.

mod alerts;
mod chat;
mod composer;
mod coverage;
mod header;
mod host_card;
mod hosting;
mod peer_list;
mod pipeline;
mod swarm_card;
mod turn;
mod welcome;

pub use alerts::Alerts;
pub use chat::Chat;
pub use composer::Composer;
pub use coverage::Coverage;
pub use header::Header;
pub use host_card::HostCard;
pub use hosting::Hosting;
pub use peer_list::PeerList;
pub use pipeline::Pipeline;
pub use swarm_card::SwarmCard;
pub use turn::{CurrentTurn, PastTurn};
pub use welcome::Welcome;
