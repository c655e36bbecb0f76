//! The harness against a page of a few lines: what the end-to-end tests rely on.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use anyhow::Result;
use cdi_tests::{Browser, Within};
use serde_json::{Value, json};

const PAGE: &str = r#"<!doctype html><link rel="icon" href="data:,">
<textarea data-testid="prompt"></textarea>
<select data-testid="route-mode"><option value="auto">a</option><option value="tab">t</option></select>
<button data-testid="send">send</button>
<p data-testid="answer" data-state="idle"></p>
<script>
  const byId = (id) => document.querySelector(`[data-testid="${id}"]`);
  byId('send').onclick = () => setTimeout(() => {
    byId('answer').textContent = `${byId('route-mode').value}: ${byId('prompt').value}`;
    byId('answer').dataset.state = 'done';
  });
</script>"#;

/// Serves the page to everybody until the process ends. Isolated as the relay serves its page, because isolation
/// changes which process a tab runs in.
fn serve() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let request = BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
            request.for_each(drop);
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\
                        Cross-Origin-Opener-Policy: same-origin\r\nCross-Origin-Embedder-Policy: require-corp\r\n";
            // A browser that has gone away is not this test's subject.
            let _ = write!(stream, "{head}Content-Length: {}\r\n\r\n{PAGE}", PAGE.len());
        }
    });
    Ok(address)
}

#[tokio::test]
async fn acts_waits_reports_and_kills() -> Result<()> {
    let url = format!("http://{}/", serve()?);
    let browser = Browser::start().await?;
    let (first, second) = (browser.open(&url).await?, browser.open(&url).await?);

    first.type_into("prompt", "why?").await?;
    first.choose("route-mode", "tab").await?;
    first.click("send").await?;
    assert_eq!(first.wait_for_state("answer", &["done", "error"], Within::seconds(10)).await?, "done");
    assert_eq!(first.text("answer").await?, "tab: why?");
    assert_eq!(second.attribute("answer", "data-state").await?.as_deref(), Some("idle"), "the tabs are two");
    assert_eq!(first.eval("return self.crossOriginIsolated", vec![]).await?, json!(true));
    assert!(first.screenshot("harness").await?.metadata()?.len() > 1000);

    let late = second.wait_for_state("answer", &["done"], Within::seconds(1)).await;
    let late = format!("{:#}", late.expect_err("nobody pressed send"));
    assert!(late.contains("state=idle"), "the error says what the page shows: {late}");

    assert_eq!(browser.console_errors().await?, [""; 0]);
    let throw = "console.error('told'); \
         setTimeout(() => { setTimeout(() => document.body.dataset.thrown = ''); throw Error('thrown') })";
    second.eval(throw, vec![]).await?;
    second.wait_until("return 'thrown' in document.body.dataset", &Value::Null, Within::seconds(5)).await?;
    let errors = browser.console_errors().await?.join("\n");
    assert!(errors.contains("told") && errors.contains("thrown"), "{errors}");

    first.reload().await?;
    first.wait_for_state("answer", &["idle"], Within::seconds(10)).await?;
    first.kill()?;
    assert!(first.text("answer").await.is_err(), "the killed tab is gone");
    assert_eq!(second.attribute("answer", "data-state").await?.as_deref(), Some("idle"), "the other one lives");
    Ok(())
}
