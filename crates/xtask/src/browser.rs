//! Finding the browser and its WebDriver on this machine.

use std::env;
use std::path::PathBuf;

/// chromedriver: `CHROMEDRIVER`, else the first one on the search path.
pub fn chromedriver() -> Option<PathBuf> {
    match env::var_os("CHROMEDRIVER") {
        Some(path) => Some(PathBuf::from(path)),
        None => on_path("chromedriver"),
    }
}

/// The first file of that name in a directory of the search path.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let name = format!("{program}{}", env::consts::EXE_SUFFIX);
    env::split_paths(&env::var_os("PATH")?).map(|dir| dir.join(&name)).find(|path| path.is_file())
}
