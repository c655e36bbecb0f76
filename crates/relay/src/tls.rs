//! TLS for page and WebSocket, on the one port: certificates from files, or from an authority by ACME.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use futures::StreamExt as _;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{Acceptor, ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_acme::caches::DirCache;
use rustls_acme::{AcmeConfig, EventOk, is_tls_alpn_challenge};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::limits::{MAX_CERTIFICATE_BYTES, TLS_HANDSHAKE_TIMEOUT};
use crate::stop::Stop;

/// How often certificate files are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Where certificates come from.
#[derive(Debug, Clone)]
pub enum TlsSource {
    /// Two files in PEM format; read again when they change.
    Files {
        /// The certificate, then those that lead to its authority.
        cert: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// An authority that checks that this relay serves the domains (ACME, RFC 8555, by TLS-ALPN-01, RFC 8737).
    Acme {
        /// The names, all of which must lead to the relay's port 443.
        domains: Vec<String>,
        /// Whom the authority tells of trouble.
        email: Option<String>,
        /// URL of the authority's directory; `None` for Let's Encrypt.
        directory: Option<String>,
        /// Certificates, in PEM format, by which the authority itself is known; `None` for the usual ones.
        roots: Option<PathBuf>,
        /// Where account and certificates are kept; `None` to ask for new ones at each start.
        cache: Option<PathBuf>,
    },
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// A file holds something else, or too much.
    #[error("{}: {reason}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not belong together, or TLS refuses them.
    #[error("certificate and key: {0}")]
    Refused(#[from] rustls::Error),
}

/// Accepts TLS connections. Clones share the certificates.
#[derive(Clone)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    /// Answers the authority's question, which comes as a connection of its own kind.
    challenge: Option<Arc<ServerConfig>>,
}

impl Tls {
    /// Loads the certificates and keeps them fresh until the relay stops.
    ///
    /// # Errors
    /// [`TlsError`] when files are no use. An authority that refuses is asked again; what it says is logged.
    pub(crate) fn start(source: TlsSource, reload: Arc<Notify>, stop: Stop) -> Result<Self, TlsError> {
        match source {
            TlsSource::Files { cert, key } => {
                let files = Arc::new(Files::load(cert, key)?);
                tokio::spawn(files.clone().watch(reload, stop));
                Ok(Self { config: Arc::new(server(files)?), challenge: None })
            }
            TlsSource::Acme { domains, email, directory, roots, cache } => {
                let mut config = AcmeConfig::new_with_provider(domains, ring::default_provider().into())
                    .contact(email.map(|email| format!("mailto:{email}")))
                    .cache_option(cache.map(DirCache::new));
                config = match directory {
                    Some(url) => config.directory(url),
                    None => config.directory_lets_encrypt(true),
                };
                if let Some(path) = roots {
                    config = config.client_tls_config(Arc::new(client(&path)?));
                }
                let state = config.state();
                let challenge = Some(state.challenge_rustls_config_with_provider(ring::default_provider().into()));
                let config = Arc::new(server(state.resolver())?);
                tokio::spawn(renew(state, stop));
                Ok(Self { config, challenge })
            }
        }
    }

    /// The handshake of one connection; `None` when it was the authority's question, which is answered by it.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let handshake = async {
            let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
            match &self.challenge {
                Some(challenge) if is_tls_alpn_challenge(&start.client_hello()) => {
                    use tokio::io::AsyncWriteExt as _;
                    start.into_stream(challenge.clone()).await?.shutdown().await?;
                    Ok(None)
                }
                _ => start.into_stream(self.config.clone()).await.map(Some),
            }
        };
        tokio::time::timeout(TLS_HANDSHAKE_TIMEOUT, handshake).await?
    }
}

/// Follows the orders of certificates until the relay stops.
async fn renew<EC, EA>(mut state: rustls_acme::AcmeState<EC, EA>, mut stop: Stop)
where
    EC: std::fmt::Debug + 'static,
    EA: std::fmt::Debug + 'static,
{
    loop {
        let event = tokio::select! {
            event = state.next() => event,
            () = stop.requested() => return,
        };
        match event {
            Some(Ok(EventOk::DeployedNewCert)) => tracing::info!("a new certificate is in use"),
            Some(Ok(EventOk::DeployedCachedCert)) => tracing::info!("the kept certificate is in use"),
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(?error, "no certificate yet: it is tried again"),
            None => return,
        }
    }
}

fn server(resolver: Arc<dyn ResolvesServerCert>) -> Result<ServerConfig, TlsError> {
    let builder = ServerConfig::builder_with_provider(ring::default_provider().into());
    let mut config = builder.with_safe_default_protocol_versions()?.with_no_client_auth().with_cert_resolver(resolver);
    // WebSockets need HTTP/1.1.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// How an authority with its own certificates is spoken to.
fn client(roots: &Path) -> Result<rustls::ClientConfig, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    for certificate in certificates(roots)? {
        store.add(certificate)?;
    }
    let builder = rustls::ClientConfig::builder_with_provider(ring::default_provider().into());
    Ok(builder.with_safe_default_protocol_versions()?.with_root_certificates(store).with_no_client_auth())
}

/// Certificate and key in two files.
#[derive(Debug)]
struct Files {
    cert: PathBuf,
    key: PathBuf,
    loaded: RwLock<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for Files {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.loaded.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Files {
    fn load(cert: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let loaded = RwLock::new(read(&cert, &key)?);
        Ok(Self { cert, key, loaded })
    }

    /// When the files were changed last, as far as the system says.
    fn changed(&self) -> [Option<SystemTime>; 2] {
        [&self.cert, &self.key].map(|path| fs::metadata(path).and_then(|m| m.modified()).ok())
    }

    fn reload(&self) {
        match read(&self.cert, &self.key) {
            Ok(new) => {
                *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!("the certificate was read again");
            }
            // Half-written, perhaps: the old one goes on.
            Err(error) => tracing::warn!(%error, "the certificate was not read again"),
        }
    }

    async fn watch(self: Arc<Self>, reload: Arc<Notify>, mut stop: Stop) {
        let mut seen = self.changed();
        let mut look = tokio::time::interval(LOOK);
        loop {
            let asked = tokio::select! {
                _ = look.tick() => false,
                () = reload.notified() => true,
                () = stop.requested() => return,
            };
            let now = self.changed();
            if asked || now != seen {
                seen = now;
                self.reload();
            }
        }
    }
}

fn content(path: &Path, reason: &dyn ToString) -> TlsError {
    TlsError::Content { path: path.to_owned(), reason: reason.to_string() }
}

/// A file of bounded size.
fn bytes(path: &Path) -> Result<Vec<u8>, TlsError> {
    use std::io::Read as _;
    let file = |reason| TlsError::File { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    let limit = MAX_CERTIFICATE_BYTES + 1;
    fs::File::open(path).map_err(file)?.take(limit).read_to_end(&mut bytes).map_err(file)?;
    if bytes.len() as u64 == limit {
        return Err(content(path, &format!("larger than {MAX_CERTIFICATE_BYTES} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let bytes = bytes(path)?;
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match read {
        Ok(read) if read.is_empty() => Err(content(path, &"holds no certificate")),
        Ok(read) => Ok(read),
        Err(error) => Err(content(path, &error)),
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<CertifiedKey>, TlsError> {
    let chain = certificates(cert)?;
    let private = PrivateKeyDer::from_pem_slice(&bytes(key)?).map_err(|e| content(key, &e))?;
    Ok(Arc::new(CertifiedKey::from_der(chain, private, &ring::default_provider())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).expect("a certificate");
        let (cert, key) = (directory.join("cert.pem"), directory.join("key.pem"));
        fs::write(&cert, made.cert.pem()).expect("writes");
        fs::write(&key, made.key_pair.serialize_pem()).expect("writes");
        (cert, key)
    }

    fn shown(files: &Files) -> Vec<u8> {
        files.loaded.read().expect("not poisoned").cert[0].to_vec()
    }

    #[test]
    fn new_files_are_taken_and_broken_ones_are_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let (cert, key) = write(directory.path(), "one.example");
        let files = Files::load(cert.clone(), key.clone()).expect("loads");
        let first = shown(&files);
        write(directory.path(), "two.example");
        files.reload();
        let second = shown(&files);
        assert_ne!(first, second);
        fs::write(&cert, "-----BEGIN CERTIFICATE-----\nnonsense").expect("writes");
        files.reload();
        assert_eq!(shown(&files), second, "the old one goes on");
    }

    #[test]
    fn files_that_are_no_use_are_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let (cert, key) = write(directory.path(), "one.example");
        let missing = directory.path().join("missing.pem");
        assert!(matches!(read(&missing, &key), Err(TlsError::File { .. })));
        assert!(matches!(read(&key, &key), Err(TlsError::Content { .. })), "a key is no certificate");
        assert!(matches!(read(&cert, &cert), Err(TlsError::Content { .. })), "a certificate is no key");
        let other = tempfile::tempdir().expect("a directory");
        let (_, other_key) = write(other.path(), "one.example");
        assert!(matches!(read(&cert, &other_key), Err(TlsError::Refused(_))), "they do not belong together");
        let large = directory.path().join("large.pem");
        fs::write(&large, vec![b' '; 2 << 20]).expect("writes");
        assert!(matches!(read(&large, &key), Err(TlsError::Content { .. })));
    }
}
