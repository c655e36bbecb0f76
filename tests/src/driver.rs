//! The chromedriver process: one a browser, on a port that it chooses itself.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// chromedriver ends its browsers before itself; past this it is killed.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// A running chromedriver. Dropping it closes its browsers.
pub(crate) struct Driver {
    child: Child,
    address: SocketAddr,
}

impl Driver {
    /// Starts `CHROMEDRIVER`, or else the one on the search path.
    pub(crate) fn start() -> Result<Self> {
        let program = env::var_os("CHROMEDRIVER").unwrap_or_else(|| "chromedriver".into());
        let mut child = Command::new(&program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}: is chromium-driver installed?", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("chromedriver has no output")?);
        let Some(port) = announced_port(&mut lines) else {
            child.kill()?;
            child.wait()?;
            anyhow::bail!("chromedriver ended without naming its port");
        };
        // A full pipe would block it. Ends with the process.
        thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        Ok(Self { child, address: ([127, 0, 0, 1], port).into() })
    }

    /// Where it listens for WebDriver commands.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its own command for "quit every browser, then yourself".
    fn ask_to_end(&self) -> std::io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.address, SHUTDOWN_TIMEOUT)?;
        stream.set_read_timeout(Some(SHUTDOWN_TIMEOUT))?;
        write!(stream, "GET /shutdown HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address)?;
        stream.read(&mut [0; 64]).map(drop)
    }
}

/// Reads "ChromeDriver was started successfully on port 12345." off its first lines.
fn announced_port(lines: &mut impl BufRead) -> Option<u16> {
    let mut lines = lines.lines().map_while(Result::ok);
    lines.find_map(|line| line.split("successfully on port ").nth(1)?.trim_end_matches('.').parse().ok())
}

impl Drop for Driver {
    fn drop(&mut self) {
        let start = Instant::now();
        if self.ask_to_end().is_ok() {
            while start.elapsed() < SHUTDOWN_TIMEOUT && matches!(self.child.try_wait(), Ok(None)) {
                thread::sleep(Duration::from_millis(10));
            }
        }
        // Errors say that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
