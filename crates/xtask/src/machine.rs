//! What the tests need from the machine besides Rust: on Debian, as root, it is installed; elsewhere it is named.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::browser::{chromedriver, on_path};
use crate::process::run;

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

/// A Vulkan driver announces itself to the loader by a file in one of these directories.
fn has_vulkan() -> bool {
    let drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    cfg!(not(target_os = "linux"))
        || drivers.iter().any(|dir| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()))
}

/// Installs what is missing, or says what to install and which tests go without.
pub fn prepare() -> Result<()> {
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
