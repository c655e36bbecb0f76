//! The page, embedded in the program when it was built.

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use data_encoding::HEXLOWER;
use rust_embed::RustEmbed;

/// The folder that `build.rs` names. Files are looked up by name in the program, not on the disk.
#[derive(RustEmbed)]
#[folder = "$CDI_WEB_FOLDER"]
struct Files;

/// What is served at `/` when the program was built without a page.
const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>CDI relay</title>\
<h1>This relay was built without the page</h1>\
<p>It relays all the same. Build page and relay together with <code>cargo xtask up</code>; or build the page \
with <code>cargo xtask web</code>, then the relay with <code>CDI_WEB_DIST</code> set to the folder that it prints.";

/// Names that carry a hash of the content never change what they mean.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// Everything else is asked for again; an unchanged file costs no more than the question.
const ASK_AGAIN: &str = "no-cache";

/// The file at `path` of the page, without the leading slash; the empty path is the page itself.
pub(crate) fn file(path: &str, request: &HeaderMap) -> Response {
    let name = if path.is_empty() { "index.html" } else { path };
    let Some(file) = Files::get(name) else {
        return if name == "index.html" {
            ([(CACHE_CONTROL, ASK_AGAIN)], Html(NOT_BUILT)).into_response()
        } else {
            (StatusCode::NOT_FOUND, "no such file\n").into_response()
        };
    };
    let tag = format!("\"{}\"", HEXLOWER.encode(&file.metadata.sha256_hash()[..16]));
    let cache = if has_hash(name) { FOREVER } else { ASK_AGAIN };
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    let headers =
        [(CONTENT_TYPE, with_charset(kind.essence_str())), (CACHE_CONTROL, cache.to_owned()), (ETAG, tag.clone())];
    // Weak or strong makes no difference to a GET; compression turns strong tags into weak ones.
    let known = request.get(IF_NONE_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if known.split(',').any(|item| item.trim().trim_start_matches("W/") == tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, file.data.into_owned()).into_response()
}

/// Text is UTF-8 here; browsers would guess otherwise.
fn with_charset(kind: &str) -> String {
    let is_text = kind.starts_with("text/") || kind == "application/javascript" || kind == "application/json";
    if is_text { format!("{kind}; charset=utf-8") } else { kind.to_owned() }
}

/// Whether the name ends in a hash before its extension: `app-0123456789abcdef.js`.
fn has_hash(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or_default();
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    let last = stem.rsplit(['-', '_']).next().unwrap_or_default();
    last.len() >= 16 && last.len() < stem.len() && last.bytes().all(|b| b.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hashed_names_are_kept_forever() {
        assert!(has_hash("app-0123456789abcdef.js"));
        assert!(has_hash("a/b/app_bg-0123456789abcdef0123.wasm"));
        for name in ["index.html", "app.js", "snippets/x-0123456789abcdef/inline0.js", "0123456789abcdef.js", ""] {
            assert!(!has_hash(name), "{name}");
        }
    }

    #[test]
    fn paths_that_are_no_names_of_files_are_not_found() {
        for path in ["../Cargo.toml", "/etc/passwd", "..", "%2e%2e/x", "index.html/"] {
            assert_eq!(file(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[test]
    fn the_page_is_there_with_or_without_having_been_built() {
        let response = file("", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(response.headers()[CACHE_CONTROL], ASK_AGAIN);
    }

    #[test]
    fn modules_have_the_type_that_browsers_insist_on() {
        assert_eq!(mime_guess::from_path("a.wasm").first_or_octet_stream().essence_str(), "application/wasm");
        assert_eq!(
            with_charset(mime_guess::from_path("a.js").first_or_octet_stream().essence_str()),
            "text/javascript; charset=utf-8"
        );
    }
}
