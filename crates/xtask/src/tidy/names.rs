//! Names that a crate must not know: what it cannot name it cannot come to depend on.

use super::Finding;
use super::source::{Keep, Tree, blank};

struct Ban {
    /// Directories below `crates/`, or `web`.
    crates: &'static [&'static str],
    names: &'static [&'static str],
    reason: &'static str,
}

/// A name matches a path in code from the beginning of a word: `libp2p` finds `libp2p_swarm` too.
const BANS: &[Ban] = &[
    Ban {
        crates: &["node"],
        names: &["libp2p", "wgpu", "rexie", "idb", "web_sys"],
        reason: "the engine is independent of transport, GPU, database and browser",
    },
    Ban { crates: &["web"], names: &["libp2p"], reason: "the page speaks to the node, never to the network" },
    Ban {
        crates: &["types", "swarm", "model", "ledger"],
        names: &["Instant::now", "SystemTime", "UNIX_EPOCH", "thread::sleep"],
        reason: "this crate reads no clock: take `now` as an argument",
    },
    Ban {
        crates: &["types", "swarm", "model", "ledger"],
        names: &["std::env", "thread::spawn", "tokio::spawn", "spawn_local"],
        reason: "this crate reads no environment and spawns nothing",
    },
    Ban {
        crates: &["types", "swarm", "model", "ledger"],
        names: &[
            "getrandom",
            "thread_rng",
            "rand::rng",
            "rand::random",
            "OsRng",
            "SysRng",
            "from_os_rng",
            "from_entropy",
        ],
        reason: "this crate draws no randomness: take a seed or a seeded generator as an argument",
    },
];

/// Finds banned names in the code of each crate's `src`; comments and literals may mention them.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.rust().filter(|file| file.path.contains("/src/") || file.path.starts_with("src/")) {
        let bans = BANS.iter().filter(|ban| ban.crates.contains(&file.crate_dir()));
        for (ban, name) in bans.flat_map(|ban| ban.names.iter().map(move |name| (ban, name))) {
            let code = blank(&file.text, Keep::Code);
            let found = code
                .match_indices(name)
                .filter(|(at, _)| !code[..*at].ends_with(|before: char| before.is_alphanumeric() || before == '_'));
            findings.extend(found.map(|(at, _)| file.finding(at, format!("`{name}`: {}", ban.reason))));
        }
    }
    for package in tree.packages() {
        let dir = package.dir.to_string_lossy();
        let banned = BANS.iter().filter(|ban| ban.crates.contains(&dir.strip_prefix("crates/").unwrap_or(&dir)));
        for (ban, name) in banned.flat_map(|ban| ban.names.iter().map(move |name| (ban, name))) {
            let dependencies = package.dependencies("dependencies").into_iter();
            findings.extend(dependencies.filter(|dependency| dependency.replace('-', "_").starts_with(name)).map(
                |dependency| Finding {
                    path: format!("{dir}/Cargo.toml"),
                    line: None,
                    message: format!("depends on `{dependency}`: {}", ban.reason),
                },
            ));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(path: &str, text: &str) -> usize {
        check(&Tree::of(&[(path, text)])).len()
    }

    #[test]
    fn each_ban_finds_its_names() {
        for ban in BANS {
            for (dir, name) in ban.crates.iter().flat_map(|dir| ban.names.iter().map(move |name| (dir, name))) {
                let path = if *dir == "web" { "web/src/lib.rs".into() } else { format!("crates/{dir}/src/lib.rs") };
                assert_eq!(count(&path, &format!("fn f() {{ {name}; }}")), 1, "{name} in {path}");
            }
        }
    }

    #[test]
    fn comments_literals_longer_words_and_other_crates_may_use_them() {
        assert_eq!(count("crates/node/src/lib.rs", "// libp2p\nfn f() { \"wgpu\"; my_libp2p }"), 0);
        assert_eq!(count("crates/net/src/lib.rs", "use libp2p::Swarm;"), 0);
    }

    #[test]
    fn a_dependency_on_a_banned_crate_is_found() {
        let manifest = "[package]\nname = \"cdi-node\"\n[dependencies]\nweb-sys = \"0.3\"\nlibp2p-swarm = \"0.47\"\n";
        assert_eq!(count("crates/node/Cargo.toml", manifest), 2);
    }
}
