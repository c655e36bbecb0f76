//! The files that the rules read, and Rust text with comments and literals blanked out.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Finding;
use crate::workspace::Package;

/// Nothing in them was written here.
const SKIPPED: &[&str] = &["target", ".git", ".cache", "node_modules", "__pycache__"];
/// Larger files are data, such as tokenizers and model weights.
const LARGEST_SOURCE_BYTES: u64 = 256 * 1024;

/// The text files of the source tree.
pub struct Tree {
    /// In the order of their paths.
    pub files: Vec<File>,
}

/// One text file.
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

impl Tree {
    /// Reads the tree at `root`; binary and very large files are left out.
    pub fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut pending = vec![String::new()];
        while let Some(dir) = pending.pop() {
            let path = root.join(&dir);
            for entry in fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let below = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
                let kind = entry.file_type()?;
                if SKIPPED.contains(&name.as_str()) {
                    continue;
                }
                if kind.is_dir() {
                    pending.push(below);
                } else if kind.is_file() && entry.metadata()?.len() <= LARGEST_SOURCE_BYTES {
                    let bytes = fs::read(entry.path()).with_context(|| format!("cannot read {below}"))?;
                    files.extend(String::from_utf8(bytes).ok().map(|text| File { path: below, text }));
                }
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files })
    }

    /// The file at exactly that path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }

    /// All Rust files.
    pub fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.path.ends_with(".rs"))
    }

    /// The workspace's packages, from their manifests. One that cannot be parsed is cargo's to report.
    pub fn packages(&self) -> Vec<Package> {
        let manifests = self.files.iter().filter_map(|file| Some((file.path.strip_suffix("/Cargo.toml")?, file)));
        let members = manifests
            .filter(|(dir, _)| matches!(dir.split('/').collect::<Vec<_>>()[..], ["crates", _] | ["web"] | ["tests"]));
        members.filter_map(|(dir, file)| Package::parse(dir.into(), &file.text).ok()).collect()
    }

    /// A tree for a test.
    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File { path: (*path).to_owned(), text: (*text).to_owned() };
        Self { files: files.iter().map(file).collect() }
    }
}

impl File {
    /// The name of the directory below `crates/`, or `web` and `tests`.
    pub fn crate_dir(&self) -> &str {
        self.path.strip_prefix("crates/").unwrap_or(&self.path).split('/').next().unwrap_or_default()
    }

    /// A finding on the line that holds byte `at`.
    pub fn finding(&self, at: usize, message: String) -> Finding {
        let line = self.text[..at].matches('\n').count() + 1;
        Finding { path: self.path.clone(), line: Some(line), message }
    }
}

/// What [`blank`] leaves in place.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Code and the contents of literals.
    Literals,
    /// Code alone.
    Code,
}

/// The Rust `text` with every comment, and unless kept the content of every literal, replaced by spaces: positions
/// and lines stay what they were.
pub fn blank(text: &str, keep: Keep) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut word_before = false;
    while let Some(first) = rest.chars().next() {
        let (length, kept) = match literal_or_comment(rest, word_before) {
            Some(Token::Comment(length)) => (length, false),
            Some(Token::Literal(length)) => (length, keep == Keep::Literals),
            None => (first.len_utf8(), true),
        };
        let (token, after) = rest.split_at(length);
        if kept {
            out.push_str(token);
        } else {
            // One space a byte, line ends kept.
            out.extend(token.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
        }
        word_before = first.is_alphanumeric() || first == '_';
        rest = after;
    }
    out
}

enum Token {
    Comment(usize),
    Literal(usize),
}

/// The comment or literal that `rest` starts with. `word_before`: the character before belongs to an identifier, so
/// that an `r` or `b` here does not begin a literal.
fn literal_or_comment(rest: &str, word_before: bool) -> Option<Token> {
    if rest.starts_with("//") {
        return Some(Token::Comment(rest.find('\n').unwrap_or(rest.len())));
    }
    if rest.starts_with("/*") {
        return Some(Token::Comment(block_comment(rest)));
    }
    let body = if word_before { rest } else { rest.trim_start_matches(['b', 'c', 'r']) };
    let prefix = rest.len() - body.len();
    let hashes = body.len() - body.trim_start_matches('#').len();
    let raw = rest[..prefix].ends_with('r');
    if raw && body[hashes..].starts_with('"') {
        let end = format!("\"{}", "#".repeat(hashes));
        let content = prefix + hashes + 1;
        return Some(Token::Literal(rest[content..].find(&end).map_or(rest.len(), |at| content + at + end.len())));
    }
    match body.chars().next()? {
        '"' if prefix <= 1 => Some(Token::Literal(prefix + quoted(body, '"')?)),
        // A lifetime has no closing quote: 'a' against 'a, and '\n' has an escape.
        '\'' if prefix <= 1 && (body[1..].starts_with('\\') || body.chars().nth(2) == Some('\'')) => {
            Some(Token::Literal(prefix + quoted(body, '\'')?))
        }
        _ => None,
    }
}

fn quoted(text: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|&(_, c)| {
        let ends = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.map(|(at, c)| at + c.len_utf8())
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        let step = match &text.as_bytes()[at..] {
            [b'/', b'*', ..] => {
                depth += 1;
                2
            }
            [b'*', b'/', ..] => {
                depth -= 1;
                2
            }
            _ => 1,
        };
        at += step;
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_become_spaces_and_code_stays() {
        let code = |text| blank(text, Keep::Code).split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(code("a // b\nc /* d /* e */ f */ g"), "a c g");
        assert_eq!(code(r##"a "b\"c" d r#"e"f"# g br"h" i"##), "a d g i");
        assert_eq!(code("fn x<'a>(c: &'a u8) { '\"' } '\\'' y"), "fn x<'a>(c: &'a u8) { } y");
        assert_eq!(code("var\"x\" 'é' b'x' z"), "var z");
        let text = "let url = \"https://x\"; // é\n1";
        assert_eq!(blank(text, Keep::Code).len(), text.len());
        assert!(blank(text, Keep::Literals).contains("https://x"));
    }

    #[test]
    fn unfinished_text_does_not_panic() {
        for text in ["\"", "r#\"", "/*", "'", "b", "'\\", "é'"] {
            assert_eq!(blank(text, Keep::Code).len(), text.len(), "{text}");
        }
    }
}
