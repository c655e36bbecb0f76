//! A `/webrtc-direct` server for browser tests: a relay that also echoes every stream of `/test/echo/1`.
//!
//! `cargo run -p cdi-webrtc --example direct_server` prints the address to dial and runs until its standard
//! input is closed.

#[cfg(not(target_arch = "wasm32"))]
mod server {
    use std::error::Error;
    use std::net::{Ipv4Addr, SocketAddr};

    use cdi_webrtc::direct::address_of;
    use cdi_webrtc::native::{Certificate, Config, DirectTransport};
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
    use libp2p::core::Transport as _;
    use libp2p::core::muxing::StreamMuxerBox;
    use libp2p::identity::Keypair;
    use libp2p::multiaddr::Protocol;
    use libp2p::swarm::{self, NetworkBehaviour, StreamProtocol, Swarm, SwarmEvent};
    use libp2p::{relay, swarm::Stream};
    use libp2p_stream as stream;

    #[derive(NetworkBehaviour)]
    struct Behaviour {
        relay: relay::Behaviour,
        streams: stream::Behaviour,
    }

    async fn echo(stream: Stream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.split();
        futures::io::copy(reader, &mut writer).await?;
        writer.close().await
    }

    pub async fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let direct = DirectTransport::new(keypair, Certificate::generate()?, Config::default());
        let transport = direct.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed();
        let behaviour = Behaviour {
            relay: relay::Behaviour::new(peer, relay::Config::default()),
            streams: stream::Behaviour::new(),
        };
        let mut incoming = behaviour.streams.new_control().accept(StreamProtocol::new("/test/echo/1"))?;
        let mut swarm = Swarm::new(transport, behaviour, peer, swarm::Config::with_tokio_executor());
        swarm.listen_on(address_of(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(echo(stream));
            }
        });
        std::thread::spawn(|| {
            let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
            std::process::exit(0);
        });
        loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                swarm.add_external_address(address.clone());
                println!("{}", address.with(Protocol::P2p(peer)));
            }
        }
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match server::run().await? {}
}

#[cfg(target_arch = "wasm32")]
fn main() {}
