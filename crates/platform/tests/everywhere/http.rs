use std::time::Duration;

use cdi_platform::http::{HttpError, Limits, Received, get, get_text};
use cdi_platform::testing::async_test;

/// Answers `/ok`, `/chunked` (no length), `/stall` (never ends) and nothing else.
#[cfg(not(target_arch = "wasm32"))]
async fn server() -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let length = stream.read(&mut request).await.unwrap_or(0);
            let request = String::from_utf8_lossy(&request[..length]);
            let answer = match request.split(' ').nth(1) {
                Some("/ok") => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello",
                Some("/chunked") => {
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
                }
                Some("/stall") => "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhel",
                _ => "HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).await.expect("writes");
            tokio::spawn(async move {
                // Held open until the client goes.
                let _end = stream.read(&mut [0]).await;
            });
        }
    });
    format!("http://{address}")
}

#[cfg(not(target_arch = "wasm32"))]
#[async_test]
async fn answers_are_bounded_in_bytes_and_time() {
    let base = server().await;
    let mut progress = Vec::new();
    let body = get(&format!("{base}/ok"), Limits::bytes(5), |received| progress.push(received)).await;
    assert_eq!(body, Ok(b"hello".to_vec()));
    assert_eq!(progress.last(), Some(&Received { bytes: 5, total: Some(5) }));
    for path in ["ok", "chunked"] {
        assert_eq!(get_text(&format!("{base}/{path}"), Limits::bytes(5)).await, Ok("hello".to_owned()));
        let too_large = get_text(&format!("{base}/{path}"), Limits::bytes(4)).await;
        assert_eq!(too_large, Err(HttpError::TooLarge { limit: 4 }), "{path}");
    }
    let hurried = Limits { max_bytes: 5, timeout: Duration::from_millis(100) };
    assert_eq!(get_text(&format!("{base}/stall"), hurried).await, Err(HttpError::TimedOut));
    assert_eq!(get_text(&format!("{base}/none"), Limits::bytes(5)).await, Err(HttpError::Status(404)));
}

#[cfg(target_arch = "wasm32")]
#[async_test]
async fn answers_are_bounded_in_bytes() {
    let mut progress = Vec::new();
    let body = get("data:text/plain,hello", Limits::bytes(5), |received| progress.push(received)).await;
    assert_eq!(body, Ok(b"hello".to_vec()));
    assert_eq!(progress.last().map(|received: &Received| received.bytes), Some(5));
    let too_large = get_text("data:text/plain,hello", Limits::bytes(4)).await;
    assert_eq!(too_large, Err(HttpError::TooLarge { limit: 4 }));
    assert_eq!(get_text("data:text/plain,%ff", Limits::bytes(4)).await, Err(HttpError::NotText));
    assert_eq!(get_text("/does-not-exist", Limits::bytes(4)).await, Err(HttpError::Status(404)));
    let hurried = Limits { max_bytes: 5, timeout: Duration::ZERO };
    assert_eq!(get_text("/does-not-exist", hurried).await, Err(HttpError::TimedOut));
}

#[async_test]
async fn nobody_there() {
    let nobody = get_text("http://127.0.0.1:1/", Limits::bytes(5)).await;
    assert!(matches!(nobody, Err(HttpError::Unreachable(_))), "{nobody:?}");
    let nonsense = get_text("http://", Limits::bytes(5)).await;
    assert!(matches!(nonsense, Err(HttpError::Unreachable(_))), "{nonsense:?}");
}
