//! What the tests need from the machine besides Rust: on Debian, as root, it is installed; elsewhere it is named.

use std::path::Path;
use std::process::Command;
use std::{env, fs};

use anyhow::Result;

use crate::browser::{chromedriver, on_path};
use crate::interop;
use crate::process::run;
use crate::workspace::Workspace;

/// Something that tests need and a plain machine may lack.
struct Need {
    what: &'static str,
    for_what: &'static str,
    /// Debian packages that bring it.
    debian: &'static [&'static str],
    present: fn() -> bool,
}

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler and linker (`cc`)",
        for_what: "linking anything",
        debian: &["gcc", "libc6-dev"],
        present: || on_path("cc").is_some(),
    },
    Need {
        what: "Chromium and chromedriver",
        for_what: "browser unit tests and end-to-end tests",
        debian: &["chromium", "chromium-driver"],
        present: has_browser,
    },
    Need {
        what: "Firefox (`firefox-esr`)",
        for_what: "tests of tabs in Firefox",
        debian: &["firefox-esr"],
        present: has_firefox,
    },
    Need {
        what: "Node 18 or newer, with npm",
        for_what: "tests with js-libp2p",
        debian: &["nodejs", "npm"],
        present: interop::has_node,
    },
    Need {
        what: "`ip` and `nft`",
        for_what: "tests of NATs, which need root as well",
        debian: &["iproute2", "nftables"],
        present: || cfg!(not(target_os = "linux")) || (on_path("ip").is_some() && on_path("nft").is_some()),
    },
    Need {
        what: "a Vulkan driver (Mesa's lavapipe will do)",
        for_what: "GPU kernel tests on the native side",
        debian: &["mesa-vulkan-drivers", "libvulkan1"],
        present: has_vulkan,
    },
];

/// Whether browser tests can run here.
pub fn has_browser() -> bool {
    chromedriver().is_some()
}

/// Whether there is a Firefox to drive: `FIREFOX`, else Debian's.
pub fn has_firefox() -> bool {
    env::var_os("FIREFOX").is_some() || on_path("firefox-esr").is_some()
}

/// Why no network namespaces with NATs can be made here; `None` if they can.
pub fn no_namespaces() -> Option<String> {
    let try_one = |program: &str, arguments: &[&str]| match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Some(format!("`{program} {}`: {}", arguments.join(" "), said.trim()))
        }
        Err(error) => Some(format!("`{program}`: {error}")),
    };
    // Of its own name: another run may be under way.
    let probe = format!("cdi-probe{}", std::process::id());
    let nft = [
        "netns",
        "exec",
        &probe,
        "nft",
        "add table ip probe; add chain ip probe post { type nat hook postrouting priority 100; }",
    ];
    if let Some(reason) = try_one("ip", &["netns", "add", &probe]) {
        return Some(reason);
    }
    let reason = try_one("ip", &nft);
    try_one("ip", &["netns", "del", &probe]).or(reason)
}

/// A Vulkan driver announces itself to the loader by a file in one of these directories.
fn has_vulkan() -> bool {
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    cfg!(not(target_os = "linux"))
        || drivers.iter().any(|dir| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Installs what is missing, or says what to install and which tests go without. The npm packages, too: the tests
/// themselves speak to nobody.
pub fn prepare(workspace: &Workspace) -> Result<()> {
    let missing = || NEEDS.iter().filter(|need| !(need.present)());
    let packages: Vec<&str> = missing().flat_map(|need| need.debian.iter().copied()).collect();
    if !packages.is_empty() && is_debian_root() {
        let apt = || {
            let mut apt = Command::new("apt-get");
            apt.env("DEBIAN_FRONTEND", "noninteractive");
            apt
        };
        let installed = run(apt().args(["update", "--quiet=2"])).and_then(|()| {
            run(apt().args(["install", "--quiet=2", "--yes", "--no-install-recommends"]).args(&packages))
        });
        if let Err(error) = installed {
            println!("  {error:#}");
        }
    }
    for need in NEEDS {
        if (need.present)() {
            println!("  found: {}", need.what);
        } else {
            println!(
                "  MISSING: {}, needed for {}. Debian: apt install {}",
                need.what,
                need.for_what,
                need.debian.join(" ")
            );
        }
    }
    if interop::has_node()
        && let Err(error) = interop::install(workspace)
    {
        println!("  MISSING: npm packages, needed for tests with js-libp2p: {error:#}");
    }
    Ok(())
}

/// apt-get can install here: a Debian or a descendant, and the user is root.
fn is_debian_root() -> bool {
    Path::new("/etc/debian_version").exists() && on_path("apt-get").is_some() && is_root()
}

#[cfg(unix)]
fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}
