//! Tokenizer and chat templates against Hugging Face transformers, natively and in a browser.

use cdi_model::chat::{ChatError, ChatTemplate, with_special_tokens};
use cdi_model::tokenizer::{StreamDecoder, Tokenizer};
use serde::{Deserialize, Serialize};
use wasm_bindgen_test::wasm_bindgen_test;

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
    decoded: String,
}

/// In this order, which templates that print a message as JSON show.
#[derive(Debug, Serialize, Deserialize)]
struct Message {
    role: String,
    content: String,
}

#[derive(Deserialize)]
struct Rendering {
    name: String,
    template: String,
    bos_token: String,
    eos_token: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    /// Nothing where the template refuses.
    rendered: Option<String>,
}

#[wasm_bindgen_test(unsupported = test)]
fn texts_have_the_same_ids() {
    let texts: Vec<Text> = serde_json::from_str(include_str!("../fixtures/tokenizer.json")).expect("fixture");
    assert!(texts.len() >= 40);
    let tokenizer = Tokenizer::from_json(include_bytes!("../genesis/tokenizer.json")).expect("loads");
    for Text { text, ids, decoded } in texts {
        assert_eq!(tokenizer.encode(&text, false), Ok(ids.clone()), "{text:?}");
        assert_eq!(tokenizer.decode(&ids), Ok(decoded.clone()), "{text:?}");
        let mut stream = StreamDecoder::new(tokenizer.clone());
        let parts: String = ids.iter().map(|id| stream.push(*id).expect("decodes")).collect();
        assert_eq!(parts + &stream.flush().expect("decodes"), decoded, "{text:?}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn chats_are_rendered_alike() {
    let renderings: Vec<Rendering> = serde_json::from_str(include_str!("../fixtures/chat.json")).expect("fixture");
    for r in renderings {
        let source = with_special_tokens(&r.template, Some(&r.bos_token), Some(&r.eos_token));
        let template = ChatTemplate::new(Some(&source)).expect("parses");
        let rendered = template.render(&r.messages, r.add_generation_prompt);
        match r.rendered {
            Some(expected) => assert_eq!(rendered, Ok(expected), "{}: {:?}", r.name, r.messages),
            None => assert!(matches!(rendered, Err(ChatError::Refused(_))), "{}: {rendered:?}", r.name),
        }
    }
}
