//! `cargo xtask up`: from a fresh clone to a page that answers.

use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process::{cargo, run as run_command, timed};
use crate::web;
use crate::workspace::Workspace;

/// How long the relay may take to listen: it opens a key file and a socket, no more.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the relay may take to say goodbye to its peers before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often the relay's socket and process are looked at.
const POLL: Duration = Duration::from_millis(50);

/// Arguments of `up`.
#[derive(clap::Args)]
pub struct Args {
    /// Port of the page and the relay.
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on; 0.0.0.0 lets other machines in, which need https for WebGPU and storage.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Open the page in the default browser.
    #[arg(long)]
    open: bool,
}

/// Builds page and relay, and serves them until interrupted.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let address = free_address(&args.host, args.port)?;
    let dist = web::build(workspace)?;
    timed("relay: compile", || build_relay(workspace, &dist))?;

    let relay = relay_binary(workspace);
    let mut command = Command::new(&relay);
    command.args(["--listen", &address.to_string()]).stdin(Stdio::null());
    apart_from_the_terminal(&mut command);
    println!("\n── {} --listen {address}", relay.display());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", relay.display()))?;
    supervise(&mut child, address, args.open)
}

/// Builds the relay with the page inside, as `up`, the end-to-end tests and a release do.
pub fn build_relay(workspace: &Workspace, dist: &Path) -> Result<()> {
    let mut build = cargo();
    build.current_dir(&workspace.root).env("CDI_WEB_DIST", dist);
    run_command(build.args(["build", "--release", "--package", "cdi-relay"]))
}

/// What [`build_relay`] builds.
pub fn relay_binary(workspace: &Workspace) -> PathBuf {
    workspace.target_dir().join("release/cdi-relay").with_extension(std::env::consts::EXE_EXTENSION)
}

/// The address to listen on. Looked at before anything is built: a taken port should not cost minutes to learn of.
fn free_address(host: &str, port: u16) -> Result<SocketAddr> {
    let address = (host, port)
        .to_socket_addrs()
        .with_context(|| format!("`--host {host}` is no address of this machine"))?
        .next()
        .with_context(|| format!("`--host {host}` has no address"))?;
    match TcpListener::bind(address) {
        Ok(_) => Ok(address),
        Err(error) => bail!(
            "cannot listen on {address}: {error}.\nStop what uses port {port}, or take another: \
             `cargo xtask up --port {}`",
            port.checked_add(1).unwrap_or(8080)
        ),
    }
}

/// Announces the page once it answers, then waits for the relay's end or an interruption.
fn supervise(child: &mut Child, address: SocketAddr, open: bool) -> Result<()> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)).context("cannot watch for Ctrl-C")?;

    let url = format!("http://{}/", reachable(address));
    let start = Instant::now();
    while TcpStream::connect_timeout(&reachable(address), POLL).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("the relay ended before it listened ({status}); its own last lines above say why");
        }
        if interrupted.load(Ordering::Relaxed) {
            return stop(child).map(drop);
        }
        if start.elapsed() > START_TIMEOUT {
            stop(child)?;
            bail!("the relay did not listen on {address} within {:.0} s", start.elapsed().as_secs_f64());
        }
        thread::sleep(POLL);
    }
    println!("\n  ┌{0}┐\n  │  CDI is running:  {url}  │\n  └{0}┘\n  Ctrl-C stops it.\n", "─".repeat(url.len() + 21));
    if open {
        open_in_browser(&url);
    }
    loop {
        if let Some(status) = child.try_wait()? {
            bail!("the relay ended by itself ({status})");
        }
        if interrupted.load(Ordering::Relaxed) {
            println!("\nstopping the relay");
            return stop(child).map(drop);
        }
        thread::sleep(POLL);
    }
}

/// Asks the relay to end and kills it when it does not.
fn stop(child: &mut Child) -> Result<ExitStatus> {
    ask_to_end(child);
    let start = Instant::now();
    while start.elapsed() < STOP_TIMEOUT {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
    println!("the relay did not end within {} s: killing it", STOP_TIMEOUT.as_secs());
    child.kill()?;
    Ok(child.wait()?)
}

/// A process group of its own: Ctrl-C in the terminal reaches this program alone, which passes it on once.
#[cfg(unix)]
fn apart_from_the_terminal(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(unix)]
fn ask_to_end(child: &Child) {
    use nix::sys::signal::{Signal, kill};
    if let Ok(id) = i32::try_from(child.id()) {
        // An error means that it has ended already, which the caller sees next.
        let _ = kill(nix::unistd::Pid::from_raw(id), Signal::SIGINT);
    }
}

/// Windows delivers Ctrl-C to every program of the console.
#[cfg(not(unix))]
fn apart_from_the_terminal(_: &mut Command) {}

#[cfg(not(unix))]
fn ask_to_end(_: &Child) {}

/// What to connect to and to open: an unspecified address is only listened on.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => ([127, 0, 0, 1], v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => ([0u16, 0, 0, 0, 0, 0, 0, 1], v6.port()).into(),
        other => other,
    }
}

fn open_in_browser(url: &str) {
    let (program, args): (_, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[url]),
        "windows" => ("cmd", &["/C", "start", url]),
        _ => ("xdg-open", &[url]),
    };
    if let Err(error) = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
        println!("  (`{program}` did not start: {error}; open the address by hand)");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = free_address("127.0.0.1", port).unwrap_err().to_string();
        assert!(error.contains(&port.to_string()) && error.contains("--port"), "{error}");
    }

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reached("[::]:8080"), "[::1]:8080");
        assert_eq!(reached("192.0.2.1:80"), "192.0.2.1:80");
    }
}
