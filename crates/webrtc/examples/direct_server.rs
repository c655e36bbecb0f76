//! What the browser tests talk to: a relay over `/webrtc-direct`, and a native node behind it. Both echo every stream
//! of `/test/echo/1`; the node also dials the address that it reads on `/test/dial/1`.
//!
//! `cargo run -p cdi-webrtc --example direct_server` prints the address of the relay and that of the node over
//! `/webrtc`, and runs until its standard input is closed.

#[cfg(not(target_arch = "wasm32"))]
mod server {
    use std::error::Error;
    use std::net::{Ipv4Addr, SocketAddr};

    use cdi_webrtc::address::is_direct_webrtc;
    use cdi_webrtc::direct::address_of;
    use cdi_webrtc::native::{Certificate, Config, DirectTransport};
    use cdi_webrtc::signalled;
    use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
    use libp2p::core::Transport as _;
    use libp2p::core::muxing::StreamMuxerBox;
    use libp2p::core::transport::{Boxed, upgrade};
    use libp2p::identity::{Keypair, PeerId};
    use libp2p::multiaddr::Protocol;
    use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
    use libp2p::swarm::{self, NetworkBehaviour, Stream, StreamProtocol, Swarm, SwarmEvent};
    use libp2p::{Multiaddr, noise, relay, yamux};
    use libp2p_stream as stream;

    #[derive(NetworkBehaviour)]
    struct RelayBehaviour {
        relay: relay::Behaviour,
        streams: stream::Behaviour,
    }

    #[derive(NetworkBehaviour)]
    struct NodeBehaviour {
        relay: relay::client::Behaviour,
        webrtc: signalled::Behaviour,
        streams: stream::Behaviour,
    }

    async fn echo(stream: Stream) -> std::io::Result<()> {
        let (reader, mut writer) = stream.split();
        futures::io::copy(reader, &mut writer).await?;
        writer.close().await
    }

    fn echo_all(streams: &stream::Behaviour) -> Result<(), Box<dyn Error>> {
        let mut incoming = streams.new_control().accept(StreamProtocol::new("/test/echo/1"))?;
        tokio::spawn(async move {
            while let Some((_, stream)) = incoming.next().await {
                tokio::spawn(echo(stream));
            }
        });
        Ok(())
    }

    fn direct(keypair: &Keypair) -> Result<Boxed<(PeerId, StreamMuxerBox)>, Box<dyn Error>> {
        let direct = DirectTransport::new(keypair.clone(), Certificate::generate()?, Config::default());
        Ok(direct.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection))).boxed())
    }

    /// Starts the relay; returns its address.
    async fn relay() -> Result<Multiaddr, Box<dyn Error>> {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let behaviour = RelayBehaviour {
            relay: relay::Behaviour::new(peer, relay::Config::default()),
            streams: stream::Behaviour::new(),
        };
        echo_all(&behaviour.streams)?;
        let mut swarm = Swarm::new(direct(&keypair)?, behaviour, peer, swarm::Config::with_tokio_executor());
        swarm.listen_on(address_of(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
                break address;
            }
        };
        swarm.add_external_address(address.clone());
        tokio::spawn(async move {
            loop {
                swarm.select_next_some().await;
            }
        });
        Ok(address.with(Protocol::P2p(peer)))
    }

    /// Runs the node behind `relay`.
    async fn node(relay_address: Multiaddr) -> Result<std::convert::Infallible, Box<dyn Error>> {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let (webrtc, webrtc_behaviour) = signalled::new(peer, signalled::Config::default());
        let (relayed, relay) = relay::client::new(peer);
        let relayed = relayed
            .upgrade(upgrade::Version::V1)
            .authenticate(noise::Config::new(&keypair)?)
            .multiplex(yamux::Config::default())
            .boxed();
        let transport = webrtc.or_transport(direct(&keypair)?).map(|output, _| output.into_inner());
        let transport = transport.or_transport(relayed).map(|output, _| output.into_inner()).boxed();
        let streams = stream::Behaviour::new();
        echo_all(&streams)?;
        let mut requests = streams.new_control().accept(StreamProtocol::new("/test/dial/1"))?;
        let behaviour = NodeBehaviour { relay, webrtc: webrtc_behaviour, streams };
        let config =
            swarm::Config::with_tokio_executor().with_idle_connection_timeout(std::time::Duration::from_secs(600));
        let mut swarm = Swarm::new(transport, behaviour, peer, config);
        swarm.listen_on(Protocol::WebRTC.into())?;
        swarm.listen_on(relay_address.with(Protocol::P2pCircuit))?;
        loop {
            tokio::select! {
                event = swarm.select_next_some() => match event {
                    SwarmEvent::NewListenAddr { address, .. } if is_direct_webrtc(&address) => println!("{address}"),
                    _ => {}
                },
                Some((peer, mut request)) = requests.next() => {
                    let mut text = String::new();
                    request.read_to_string(&mut text).await?;
                    let options = DialOpts::peer_id(peer).addresses(vec![text.parse()?]);
                    swarm.dial(options.condition(PeerCondition::Always).build())?;
                }
            }
        }
    }

    pub async fn run() -> Result<std::convert::Infallible, Box<dyn Error>> {
        std::thread::spawn(|| {
            let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
            std::process::exit(0);
        });
        let address = relay().await?;
        println!("{address}");
        node(address).await
    }
}

#[cfg(not(target_arch = "wasm32"))]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    match server::run().await? {}
}

#[cfg(target_arch = "wasm32")]
fn main() {}
