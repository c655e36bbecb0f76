//! Page and WebSocket over TLS: certificates from files, and from an authority.

mod support;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cdi_relay::{Config, RelayHandle, TlsSource};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use support::{PATIENCE, relay_with};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const NAME: &str = "relay.example";

/// A certificate for [`NAME`] in two files.
fn certificate(directory: &Path) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.to_owned()]).expect("a certificate");
    let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("writes");
    std::fs::write(&key, made.key_pair.serialize_pem()).expect("writes");
    (cert, key)
}

/// A client that trusts the certificates in this file alone.
fn client(roots: &Path) -> TlsConnector {
    let mut store = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(roots).expect("readable") {
        store.add(certificate.expect("a certificate")).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    TlsConnector::from(Arc::new(builder.with_root_certificates(store).with_no_client_auth()))
}

/// What a request is answered with.
async fn ask(address: SocketAddr, client: &TlsConnector, request: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(NAME).expect("a name");
    let mut stream = client.connect(name, stream).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 16 * 1024];
    let mut length = 0;
    while !answer[..length].windows(4).any(|w| w == b"\r\n\r\n") || length < 200 {
        match stream.read(&mut answer[length..]).await {
            Ok(0) | Err(_) => break,
            Ok(read) => length += read,
        }
    }
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

async fn secure(cert: &Path, key: &Path) -> RelayHandle {
    let tls = Some(TlsSource::Files { cert: cert.to_owned(), key: key.to_owned() });
    relay_with(Config { tls, ..Config::default() }).await
}

#[tokio::test]
async fn page_and_web_socket_share_the_secure_port() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate(directory.path());
    let relay = secure(&cert, &key).await;
    assert!(relay.web_socket_address().to_string().contains("/tls/ws"));
    let client = client(&cert);
    let page = format!("GET /relay.json HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let answer = ask(relay.http_addr(), &client, &page).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains(&format!("/dns/{NAME}/tcp/443/tls/ws/p2p/")), "{answer}");
    let upgrade = format!(
        "GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    let answer = tokio::time::timeout(PATIENCE, async {
        let stream = TcpStream::connect(relay.http_addr()).await.expect("connects");
        let mut stream = client.connect(ServerName::try_from(NAME).expect("a name"), stream).await.expect("TLS");
        stream.write_all(upgrade.as_bytes()).await.expect("writes");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        String::from_utf8_lossy(&answer).into_owned()
    });
    assert_eq!(answer.await.expect("in time"), "HTTP/1.1 101");
    // Without TLS there is nothing to be had.
    let mut plain = TcpStream::connect(relay.http_addr()).await.expect("connects");
    plain.write_all(page.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(!answer.starts_with(b"HTTP"));
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate(directory.path());
    let relay = secure(&cert, &key).await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n");
    let old = directory.path().join("old.pem");
    std::fs::copy(&cert, &old).expect("copies");
    let trusts_old = client(&old);
    assert!(ask(relay.http_addr(), &trusts_old, &request).await.expect("an answer").starts_with("HTTP/1.1 200"));
    certificate(directory.path());
    let new = client(&cert);
    relay.reload_certificates();
    let changed = async {
        while ask(relay.http_addr(), &new, &request).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new one is used");
    // A client that has not been here before: one that has goes on with what was agreed then.
    assert!(ask(relay.http_addr(), &client(&old), &request).await.is_err(), "the old one is not");
}

/// An authority of our own: pebble, the test server of Let's Encrypt, from the package of that name.
mod authority {
    use std::process::{Child, Command, Stdio};

    use super::*;

    pub struct Pebble {
        child: Child,
        pub directory: String,
        pub roots: PathBuf,
    }

    impl Drop for Pebble {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    fn free_port() -> u16 {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("bound").port()
    }

    /// Starts it, to ask for its challenges at `challenge_port`; `None` where it is not installed.
    pub fn start(files: &Path, challenge_port: u16) -> Option<Pebble> {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        let (roots, key) = (files.join("pebble.pem"), files.join("pebble.key"));
        std::fs::write(&roots, made.cert.pem()).expect("writes");
        std::fs::write(&key, made.key_pair.serialize_pem()).expect("writes");
        let (listen, management) = (free_port(), free_port());
        let config = serde_json::json!({ "pebble": {
            "listenAddress": format!("127.0.0.1:{listen}"),
            "managementListenAddress": format!("127.0.0.1:{management}"),
            "certificate": roots, "privateKey": key,
            "httpPort": 1, "tlsPort": challenge_port,
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        let path = files.join("pebble.json");
        std::fs::write(&path, config.to_string()).expect("writes");
        let child = Command::new("pebble")
            .args(["-config", path.to_str().expect("UTF-8")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "0")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        while std::net::TcpStream::connect(("127.0.0.1", listen)).is_err() {
            std::thread::yield_now();
        }
        Some(Pebble { child, directory: format!("https://localhost:{listen}/dir"), roots })
    }
}

#[tokio::test]
async fn an_authority_grants_a_certificate_to_who_answers_its_challenge() {
    let files = tempfile::tempdir().expect("a directory");
    // The authority has to know the port before the relay has it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound").port();
    let Some(pebble) = authority::start(files.path(), port) else {
        println!("LEFT OUT: pebble is not installed, so no certificate is asked for (Debian: apt install pebble)");
        return;
    };
    let cache = files.path().join("acme");
    let tls = TlsSource::Acme {
        domains: vec!["localhost".to_owned()],
        email: None,
        directory: Some(pebble.directory.clone()),
        roots: Some(pebble.roots.clone()),
        cache: Some(cache.clone()),
    };
    let config = Config { listen: ([127, 0, 0, 1], port).into(), tls: Some(tls), ..Config::default() };
    let relay = cdi_relay::Relay::start(config.clone()).await.expect("starts without a certificate");
    let granted = async {
        loop {
            if let Some(certificate) = shown(relay.http_addr()).await {
                return certificate;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let first = tokio::time::timeout(PATIENCE * 3, granted).await.expect("a certificate is granted");
    relay.shutdown().await;
    drop(pebble);

    let relay = cdi_relay::Relay::start(config).await.expect("starts again");
    let kept = async {
        loop {
            if let Some(certificate) = shown(relay.http_addr()).await {
                return certificate;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let second = tokio::time::timeout(PATIENCE, kept).await.expect("the kept certificate is used");
    assert_eq!(first, second);
}

/// The certificate that a server shows for `localhost`, whoever signed it.
async fn shown(address: SocketAddr) -> Option<Vec<u8>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let verifier = Arc::new(anyone::Anyone(provider));
    let config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    let stream = TcpStream::connect(address).await.ok()?;
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.to_vec())
}

/// Trust in anyone, to look at what is shown.
mod anyone {
    use std::sync::Arc;

    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub struct Anyone(pub Arc<CryptoProvider>);

    impl ServerCertVerifier for Anyone {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
}
