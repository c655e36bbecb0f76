//! A relay process of one test, with an identity of its own.

use std::env;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(30);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A relay on loopback that serves the page. Dropping it ends it; after a failed test its log is shown.
pub struct Relay {
    child: Child,
    address: SocketAddr,
    dir: TempDir,
}

impl Relay {
    /// Starts `CDI_RELAY_BIN`, or else the release build in the target directory, on a free port.
    pub fn start() -> Result<Self> {
        // Taken and given back: the relay says only in its log which port it chose.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let dir = tempfile::Builder::new().prefix("cdi-relay-").tempdir()?;
        let child = launch(address, dir.path())?;
        Ok(Self { child, address, dir })
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
        self.child = launch(self.address, self.dir.path())?;
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

/// Starts the program and waits until it listens.
fn launch(address: SocketAddr, dir: &Path) -> Result<Child> {
    let path = dir.join("log");
    let log = File::options().create(true).append(true).open(&path)?;
    let program = binary();
    let mut child = Command::new(&program)
        .args(["--listen", &address.to_string(), "--no-p2p-listen", "--data"])
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
