//! A relay process of one test, with an identity of its own.

use std::env;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A relay on loopback that serves the page. Dropping it ends it; after a failed test its log is shown.
pub struct Relay {
    child: Child,
    address: SocketAddr,
    /// Where native nodes connect, if they may.
    p2p: Option<SocketAddr>,
    dir: TempDir,
}

impl Relay {
    /// Starts `CDI_RELAY_BIN`, or else the release build in the target directory, on a free port.
    pub fn start() -> Result<Self> {
        Self::launched(None)
    }

    /// Starts one that native nodes reach over TCP as well.
    pub fn start_with_tcp() -> Result<Self> {
        Self::launched(Some(free_address()?))
    }

    fn launched(p2p: Option<SocketAddr>) -> Result<Self> {
        let address = free_address()?;
        let dir = tempfile::Builder::new().prefix("cdi-relay-").tempdir()?;
        let child = launch(address, p2p, dir.path())?;
        Ok(Self { child, address, p2p, dir })
    }

    /// What it says about itself at `/relay.json`.
    pub fn describe(&self) -> Result<Value> {
        let mut stream = TcpStream::connect(self.address)?;
        write!(stream, "GET /relay.json HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut response = String::new();
        stream.read_to_string(&mut response)?;
        let (_, body) = response.split_once("\r\n\r\n").context("no HTTP response")?;
        serde_json::from_str(body).with_context(|| format!("not JSON: {body}"))
    }

    /// The first of its addresses whose parts include `part`, such as `ws`; ends with its peer id.
    pub fn dialled_over(&self, part: &str) -> Result<Option<String>> {
        let described = self.describe()?;
        let addresses = described["addresses"].as_array().context("no addresses")?;
        let mut addresses = addresses.iter().filter_map(Value::as_str);
        Ok(addresses.find(|address| address.split('/').any(|p| p == part)).map(str::to_owned))
    }

    /// The address for native nodes.
    pub fn tcp(&self) -> Result<String> {
        let p2p = self.p2p.context("started without TCP")?;
        let described = self.describe()?;
        let peer = described["peer_id"].as_str().context("no peer id")?;
        Ok(format!("/ip4/{}/tcp/{}/p2p/{peer}", p2p.ip(), p2p.port()))
    }

    /// Ends it. Its identity stays for [`Relay::start_again`].
    pub fn stop(&mut self) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), Signal::SIGINT);
        }
        let start = Instant::now();
        while start.elapsed() < STOP_TIMEOUT && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL);
        }
        // Errors say that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again where and as it was.
    pub fn start_again(&mut self) -> Result<()> {
        self.child = launch(self.address, self.p2p, self.dir.path())?;
        Ok(())
    }

    /// The address of the page.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

/// Taken and given back: the relay says only in its log which port it chose.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts the program and waits until it listens.
fn launch(address: SocketAddr, p2p: Option<SocketAddr>, dir: &Path) -> Result<Child> {
    let path = dir.join("log");
    let log = File::options().create(true).append(true).open(&path)?;
    let program = binary();
    let mut child = Command::new(&program)
        .args(["--listen", &address.to_string()])
        .args(match p2p {
            Some(p2p) => vec!["--p2p-listen".to_owned(), format!("/ip4/{}/tcp/{}", p2p.ip(), p2p.port())],
            None => vec!["--no-p2p-listen".to_owned()],
        })
        .arg("--data")
        .arg(dir.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}: `cargo xtask test --only relay` builds it", program.display()))?;
    let logged = || fs::read_to_string(&path).unwrap_or_default();
    let start = Instant::now();
    while TcpStream::connect_timeout(&address, POLL).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("the relay ended ({status}):\n{}", logged());
        }
        if start.elapsed() > START_TIMEOUT {
            child.kill()?;
            bail!("the relay does not listen on {address}:\n{}", logged());
        }
        thread::sleep(POLL);
    }
    Ok(child)
}

fn binary() -> PathBuf {
    env::var_os("CDI_RELAY_BIN").map_or_else(
        || {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
            target.join("release/cdi-relay")
        },
        PathBuf::from,
    )
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop();
        if thread::panicking() {
            eprintln!("log of the relay:\n{}", self.log());
        }
    }
}
