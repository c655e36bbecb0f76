//! Which STUN and TURN services this relay tells its clients of, on `/cdi/<network>/1/ice`.
//!
//! TURN costs its operator traffic, so that credentials are made for one peer and end soon: the REST scheme of
//! coturn (`use-auth-secret`), draft-uberti-behave-turn-rest-00. The user name is `<end, Unix seconds>:<peer>`,
//! the password `base64(HMAC-SHA1(secret, user name))`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cdi_net::NetStream;
use cdi_net::framed::write_message;
use cdi_types::ice::{IceOffer, IceServer, MAX_ICE_BYTES};
use cdi_types::{PeerId, cbor};
use futures::channel::mpsc;
use futures::{AsyncWriteExt as _, StreamExt as _};
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use crate::limits::{ICE_ANSWER_TIMEOUT, ICE_ANSWERS_AT_ONCE};

/// How long TURN credentials hold. Clients ask again at half of it, so that a new connection has fresh ones.
pub const TURN_LIFETIME: Duration = Duration::from_secs(2 * 3600);
/// Clients ask again after this time.
const RENEW: Duration = Duration::from_secs(3600);

/// A TURN server whose operator shares a secret with this relay.
#[derive(Clone, PartialEq, Eq)]
pub struct Turn {
    /// `turn:` and `turns:` URLs of one server.
    pub urls: Vec<String>,
    /// coturn's `static-auth-secret`.
    pub secret: String,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// What is offered, to whoever asks.
#[derive(Debug, Clone)]
pub(crate) struct Services {
    pub(crate) stun_port: Option<u16>,
    /// STUN servers of others.
    pub(crate) stun_urls: Vec<String>,
    pub(crate) turn: Option<Turn>,
}

impl Services {
    /// The STUN services of a relay reached at `host`: no secret, anybody may know them.
    pub(crate) fn public(&self, host: &str) -> Vec<IceServer> {
        let further = self.stun_servers();
        IceOffer { stun_port: self.stun_port, servers: further, renew_s: 0 }.servers_at(host)
    }

    fn stun_servers(&self) -> Vec<IceServer> {
        let list = |urls: Vec<String>| IceServer { urls, username: None, credential: None };
        Some(self.stun_urls.clone()).filter(|urls| !urls.is_empty()).map(list).into_iter().collect()
    }

    /// Everything, with credentials of its own for `peer`.
    fn offer(&self, peer: &PeerId, now_s: u64) -> IceOffer {
        let turn = self.turn.as_ref().map(|turn| credentials(turn, peer, now_s));
        let servers = self.stun_servers().into_iter().chain(turn).collect();
        IceOffer { stun_port: self.stun_port, servers, renew_s: u32::try_from(RENEW.as_secs()).unwrap_or(u32::MAX) }
    }
}

fn credentials(turn: &Turn, peer: &PeerId, now_s: u64) -> IceServer {
    let username = format!("{}:{peer}", now_s + TURN_LIFETIME.as_secs());
    let mut mac = Hmac::<Sha1>::new_from_slice(turn.secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(username.as_bytes());
    let credential = STANDARD.encode(mac.finalize().into_bytes());
    IceServer { urls: turn.urls.clone(), username: Some(username), credential: Some(credential) }
}

/// Answers each stream with one message and closes it, until the swarm is gone.
pub(crate) async fn serve(services: Services, asked: mpsc::Receiver<(PeerId, NetStream)>) {
    asked
        .for_each_concurrent(ICE_ANSWERS_AT_ONCE, |(peer, mut stream)| {
            let offer = services.offer(&peer, cdi_platform::time::unix_ms() / 1_000);
            async move {
                let answer = async {
                    let bytes = cbor::encode(&offer).ok()?;
                    write_message(&mut stream, &bytes, MAX_ICE_BYTES).await.ok()?;
                    stream.close().await.ok()
                };
                if !matches!(tokio::time::timeout(ICE_ANSWER_TIMEOUT, answer).await, Ok(Some(()))) {
                    tracing::debug!(%peer, "did not take the list of STUN services");
                }
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checked with `echo -n '1700007200:12D3…' | openssl dgst -sha1 -hmac north -binary | base64`.
    #[test]
    fn turn_credentials_are_those_of_coturn() {
        let peer: PeerId = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5".parse().expect("a peer id");
        let turn = Turn { urls: vec!["turn:turn.example.org".to_owned()], secret: "north".to_owned() };
        let server = credentials(&turn, &peer, 1_700_000_000);
        assert_eq!(server.username.as_deref(), Some(format!("1700007200:{peer}").as_str()));
        assert_eq!(server.credential.as_deref(), Some("wsGdTYbLcZDD8OUL0tuYitZ9E9A="));
        assert!(server.is_valid());
        assert!(!format!("{turn:?}").contains("north"), "a secret stays out of logs");
    }
}
