//! A web server for the pages of foreign peers: the relay serves its own page only.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::{env, fs, io, thread};

use anyhow::{Context, Result};

/// Serves the files that `cargo xtask` prepared for the interop tests, on loopback, until the process ends.
#[derive(Debug, Clone, Copy)]
pub struct Site(SocketAddr);

impl Site {
    /// Serves `CDI_INTEROP`, or else target/interop/dev.
    pub fn start() -> Result<Self> {
        let dir = Self::dir();
        dir.join("page.js").metadata().with_context(|| {
            format!("{} lacks the peers: `cargo xtask test --only interop` builds them", dir.display())
        })?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let dir = dir.clone();
                // A browser that has gone away is not the test's subject.
                thread::spawn(move || answer(&stream, &dir).ok());
            }
        });
        Ok(Self(address))
    }

    /// Where the prepared files lie.
    #[must_use]
    pub fn dir() -> PathBuf {
        env::var_os("CDI_INTEROP")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/interop/dev"), PathBuf::from)
    }

    /// The address of `<page>.html`.
    #[must_use]
    pub fn page(&self, page: &str) -> String {
        format!("http://{}/{page}.html", self.0)
    }
}

/// Answers one `GET`. Only file names are served, no paths.
fn answer(mut stream: &TcpStream, dir: &Path) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let name = request.split([' ', '?']).nth(1).unwrap_or_default().trim_start_matches('/');
    let file = Some(name).filter(|name| !name.contains('/')).and_then(|name| fs::read(dir.join(name)).ok());
    let (status, body) = file.map_or(("404 Not Found", Vec::new()), |file| ("200 OK", file));
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html",
        Some("js") => "text/javascript",
        Some("wasm") => "application/wasm",
        _ => "application/octet-stream",
    };
    let length = body.len();
    // Isolated as the relay serves its page: timers are coarse otherwise.
    let isolation = "Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n";
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{isolation}");
    write!(stream, "{head}Connection: close\r\n\r\n")?;
    stream.write_all(&body)
}
