//! Unmodified clients of OpenAI and Ollama, against a relay whose compute is browser tabs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cdi_tests::{Browser, Clients, Relay, Tab};
use serde_json::json;

/// Until the relay's own node knows of hosts for all layers.
const KNOWN: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);
const STORY: &str = "Write a short story about a girl called Mira.";
/// Of the greedy answer of Hugging Face `transformers`.
const BEGINNING: &str = "Once upon a time there was a quiet girl named Toby, who lived in a warm desert.";
const TOKENS: u32 = 40;

#[tokio::test]
async fn clients_of_openai_and_ollama_are_answered_by_tabs() -> Result<()> {
    let relay = Relay::start()?;
    let url = relay.url();
    let base = url.trim_end_matches('/');
    let clients = Clients::start()?;
    let browser = Browser::start().await?;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let tab = Tab::join(&browser, &format!("{url}?compute=cpu")).await?;
        tab.host().await?;
        hosts.push(tab);
    }

    let begun = Instant::now();
    let openai = loop {
        match clients.call("openai", &json!([base, STORY, TOKENS])) {
            Ok(answers) => break answers,
            Err(error) if begun.elapsed() < KNOWN => {
                println!("not yet: {}", error.to_string().lines().next().unwrap_or_default());
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    println!("{openai:#}");
    let text = openai["whole"].as_str().unwrap_or_default();
    ensure!(text.starts_with(BEGINNING), "{text}");
    assert_eq!((&openai["streamed"], &openai["finish"]), (&json!(text), &json!("length")));
    assert_eq!(openai["usage"][0], openai["usage"][1]);
    assert_eq!(openai["usage"][0]["completion_tokens"], TOKENS);
    assert_eq!((&openai["missing"]["status"], &openai["missing"]["code"]), (&json!(404), &json!("model_not_found")));
    assert_eq!(openai["unsupported"]["status"], 501);

    let read = clients.call("hangUp", &json!([base, STORY]))?;
    assert_eq!(read, 3);

    let ollama = clients.call("ollama", &json!([base, STORY, TOKENS]))?;
    println!("{ollama:#}");
    for way in ["whole", "streamed", "generated"] {
        assert_eq!(ollama[way], text, "{way}");
    }
    assert_eq!((&ollama["tokens"], &ollama["layers"]), (&json!(TOKENS), &json!(8)));
    assert_eq!(ollama["missing"]["status"], 404);
    Ok(())
}
