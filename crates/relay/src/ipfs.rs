//! Serves blocks by their CID, as an IPFS trustless gateway: the client checks the hash, so that it need not
//! trust this relay.
//!
//! Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>. Only raw blocks are served
//! (`?format=raw`, or `Accept: application/vnd.ipld.raw`); CAR files are not.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use cdi_types::Cid;
use serde::Deserialize;

/// Media type of a raw block.
const RAW_TYPE: &str = "application/vnd.ipld.raw";
/// Longest CID text that is parsed. A CIDv1 with SHA-256 has 59 characters in base32, 79 in base 16.
const MAX_CID_CHARS: usize = 128;
/// A block never changes: eleven months, the value that the specification gives.
const FOREVER: &str = "public, max-age=29030400, immutable";
/// The requested path, for logs and clients behind proxies.
const IPFS_PATH: HeaderName = HeaderName::from_static("x-ipfs-path");
/// Pages served from elsewhere load blocks too, and theirs may require this permission (COEP).
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Blocks in memory.
pub(crate) type Blocks = Arc<HashMap<Cid, Bytes>>;

#[derive(Debug, Deserialize)]
struct Wanted {
    format: Option<String>,
}

/// `/ipfs/<cid>` over `blocks`.
pub(crate) fn router(blocks: Blocks) -> Router {
    Router::new().route("/ipfs/{*path}", get(block)).with_state(blocks)
}

async fn block(
    State(blocks): State<Blocks>,
    Path(path): Path<String>,
    Query(wanted): Query<Wanted>,
    headers: HeaderMap,
) -> Response {
    let Some(cid) = parse(&path) else {
        return refuse(StatusCode::BAD_REQUEST, "not a CID\n");
    };
    if !wants_raw(&wanted, &headers) {
        return refuse(StatusCode::NOT_ACCEPTABLE, "only raw blocks: ask with ?format=raw\n");
    }
    let Some(bytes) = blocks.get(&cid) else {
        return refuse(StatusCode::NOT_FOUND, "no such block here\n");
    };
    let tag = format!("\"{cid}.raw\"");
    let fresh = headers.get(IF_NONE_MATCH).is_some_and(|known| names(known, &tag));
    let headers = [
        (CONTENT_TYPE, RAW_TYPE.to_owned()),
        (CACHE_CONTROL, FOREVER.to_owned()),
        (ETAG, tag),
        (VARY, ACCEPT.to_string()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{cid}.bin\"")),
        (IPFS_PATH, format!("/ipfs/{cid}")),
        (ACCESS_CONTROL_ALLOW_ORIGIN, "*".to_owned()),
        (RESOURCE_POLICY, "cross-origin".to_owned()),
    ];
    if fresh { (StatusCode::NOT_MODIFIED, headers).into_response() } else { (headers, bytes.clone()).into_response() }
}

fn parse(text: &str) -> Option<Cid> {
    (text.len() <= MAX_CID_CHARS).then(|| Cid::try_from(text).ok()).flatten()
}

/// The parameter counts more than the header.
fn wants_raw(wanted: &Wanted, headers: &HeaderMap) -> bool {
    match &wanted.format {
        Some(format) => format == "raw",
        None => headers.get_all(ACCEPT).iter().any(|accept| names(accept, RAW_TYPE)),
    }
}

/// Whether a comma-separated header names `value`, parameters aside.
fn names(header: &HeaderValue, value: &str) -> bool {
    let item = |item: &str| item.split(';').next().unwrap_or_default().trim().trim_start_matches("W/") == value;
    header.to_str().is_ok_and(|text| text.split(',').any(item))
}

fn refuse(status: StatusCode, text: &'static str) -> Response {
    (status, [(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (RESOURCE_POLICY, "cross-origin")], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::{Method, Request};
    use cdi_types::block::raw_cid;
    use tower_service::Service as _;

    use super::*;

    const BLOCK: &[u8] = b"a block";

    async fn ask(method: Method, path: &str, header: Option<(HeaderName, &str)>) -> (StatusCode, HeaderMap, Bytes) {
        let blocks = HashMap::from([(raw_cid(BLOCK), Bytes::from_static(BLOCK))]);
        let mut request = Request::builder().method(method).uri(path);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = router(Arc::new(blocks)).call(request).await.expect("infallible");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 4096).await.expect("a small body");
        (parts.status, parts.headers, body)
    }

    async fn status(path: &str) -> StatusCode {
        ask(Method::GET, path, None).await.0
    }

    #[tokio::test]
    async fn a_block_comes_with_the_headers_of_the_specification() {
        let cid = raw_cid(BLOCK);
        let by_parameter = ask(Method::GET, &format!("/ipfs/{cid}?format=raw"), None).await;
        let by_header =
            ask(Method::GET, &format!("/ipfs/{cid}"), Some((ACCEPT, "text/html, application/vnd.ipld.raw;q=1"))).await;
        for (status, headers, body) in [by_parameter, by_header] {
            assert_eq!((status, &body[..]), (StatusCode::OK, BLOCK));
            assert_eq!(headers[CONTENT_TYPE], RAW_TYPE);
            assert_eq!(headers[CACHE_CONTROL], FOREVER);
            assert_eq!(headers[ETAG], format!("\"{cid}.raw\""));
            assert_eq!(headers[CONTENT_DISPOSITION], format!("attachment; filename=\"{cid}.bin\""));
            assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        }
    }

    #[tokio::test]
    async fn head_has_the_length_and_no_body() {
        let (status, headers, body) = ask(Method::HEAD, &format!("/ipfs/{}?format=raw", raw_cid(BLOCK)), None).await;
        assert_eq!((status, body.len()), (StatusCode::OK, 0));
        assert_eq!(headers["content-length"], BLOCK.len().to_string());
    }

    #[tokio::test]
    async fn a_known_block_is_not_sent_again() {
        let path = format!("/ipfs/{}?format=raw", raw_cid(BLOCK));
        let tag = format!("\"{}.raw\"", raw_cid(BLOCK));
        let (status, _, body) = ask(Method::GET, &path, Some((IF_NONE_MATCH, &format!("\"x\", W/{tag}")))).await;
        assert_eq!((status, body.len()), (StatusCode::NOT_MODIFIED, 0));
        assert_eq!(ask(Method::GET, &path, Some((IF_NONE_MATCH, "\"x\""))).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn what_cannot_be_served_is_said_so() {
        let cid = raw_cid(BLOCK);
        assert_eq!(status("/ipfs/notacid?format=raw").await, StatusCode::BAD_REQUEST);
        assert_eq!(status(&format!("/ipfs/{cid}/path?format=raw")).await, StatusCode::BAD_REQUEST);
        assert_eq!(status("/ipfs/..%2f..%2fetc%2fpasswd?format=raw").await, StatusCode::BAD_REQUEST);
        assert_eq!(status(&format!("/ipfs/{}?format=raw", "b".repeat(2000))).await, StatusCode::BAD_REQUEST);
        assert_eq!(status(&format!("/ipfs/{cid}?format=car")).await, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(status(&format!("/ipfs/{cid}")).await, StatusCode::NOT_ACCEPTABLE);
        assert_eq!(status(&format!("/ipfs/{}?format=raw", raw_cid(b"other"))).await, StatusCode::NOT_FOUND);
        let posted = ask(Method::POST, &format!("/ipfs/{cid}?format=raw"), None).await.0;
        assert_eq!(posted, StatusCode::METHOD_NOT_ALLOWED);
    }
}
