//! Says which folder holds the page, for `src/page.rs` to embed.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-env-changed=CDI_WEB_DIST");
    let folder = match env::var_os("CDI_WEB_DIST").filter(|path| !path.is_empty()) {
        Some(path) => {
            let path = PathBuf::from(path);
            if !path.join("index.html").is_file() {
                let text = format!("CDI_WEB_DIST={} holds no index.html; `cargo xtask web` makes it", path.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            watch(&path)?;
            path.canonicalize()?
        }
        // Nothing to embed: the relay then serves a page that says so.
        None => {
            let out = env::var_os("OUT_DIR").ok_or(io::ErrorKind::NotFound)?;
            let empty = Path::new(&out).join("no-page");
            fs::create_dir_all(&empty)?;
            empty
        }
    };
    println!("cargo:rustc-env=CDI_WEB_FOLDER={}", folder.display());
    Ok(())
}

/// Cargo looks at a folder's own time only, so every folder and file is named.
fn watch(path: &Path) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", path.display());
    if path.is_dir() {
        for entry in fs::read_dir(path)? {
            watch(&entry?.path())?;
        }
    }
    Ok(())
}
