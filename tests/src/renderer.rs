//! The operating system's processes behind tabs. Chromium names its profile on the command line of each.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The renderer processes of the browser that uses `profile`. Read from /proc, so on Linux only; empty elsewhere.
pub(crate) fn processes(profile: &Path) -> BTreeSet<u32> {
    // The browser's own interface runs in such a process too.
    with_words(profile, |has| has("--type=renderer") && !has("--top-chrome-webui"))
}

/// The process that drives the GPU of the browser that uses `profile`.
pub(crate) fn gpu_process(profile: &Path) -> Option<u32> {
    with_words(profile, |has| has("--type=gpu-process")).pop_last()
}

/// The processes of the browser whose command lines are `wanted`, by the words that they have.
fn with_words(profile: &Path, wanted: impl Fn(&dyn Fn(&str) -> bool) -> bool) -> BTreeSet<u32> {
    let profile = format!("--user-data-dir={}", profile.display());
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        // A process that ended meanwhile has no command line.
        let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        // Chromium rewrites the line of a renderer as one string with spaces.
        let has = |word: &str| line.split(['\0', ' ']).any(|arg| arg == word);
        has(&profile) && wanted(&has)
    })
    .collect()
}

/// The processor time that a process has used, in ticks of the kernel's clock; 0 once it has ended.
pub(crate) fn cpu_ticks(id: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name in parentheses may hold spaces. After it, user and system time are the 12th and 13th field.
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum()
}
