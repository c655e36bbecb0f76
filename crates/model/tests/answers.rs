//! From a question to an answer: template, tokenizer, stage, sampler and decoder together.

use cdi_model::chat::ChatTemplate;
use cdi_model::compute::{Compute, WeightFormat};
use cdi_model::config::TokenizerConfig;
use cdi_model::fixture::GENESIS;
use cdi_model::fixture::reference::Reference;
use cdi_model::llama::{LlamaStage, LogitRows, StageInput, StageOutput};
use cdi_model::sampler::choose;
use cdi_model::tokenizer::{StreamDecoder, Tokenizer};
use cdi_types::sampling::Sampling;
use serde::Deserialize;

/// Questions that the reference back end answers here. It is slow; fast back ends ask all of them.
const ASKED: usize = 6;

#[derive(Deserialize)]
struct Question {
    question: String,
    must_contain: Vec<String>,
}

fn answer(compute: &mut Reference, stage: &LlamaStage<Reference>, question: &str) -> String {
    let tokenizer = Tokenizer::from_json(include_bytes!("../genesis/tokenizer.json")).expect("loads");
    let config = TokenizerConfig::from_json(include_bytes!("../genesis/tokenizer_config.json")).expect("parses");
    let template = ChatTemplate::new(config.chat_template.as_deref()).expect("parses");
    let message = serde_json::json!({"role": "user", "content": question});
    let prompt = template.render(&[message], true).expect("renders");
    let mut ids = tokenizer.encode(&prompt, false).expect("encodes");
    let mut decoder = StreamDecoder::new(tokenizer);
    let mut cache = stage.new_cache(compute, 256).expect("a cache");
    let mut text = String::new();
    loop {
        let start = cache.held();
        let input = StageInput::Tokens(&ids[start as usize..]);
        let output = stage.forward(compute, input, start, &mut cache, LogitRows::Last).expect("runs");
        let StageOutput::Logits(logits) = output else { unreachable!("the whole model") };
        let logits = pollster::block_on(compute.read(&logits)).expect("reads");
        let id = choose(&logits, &Sampling::GREEDY, cache.held()).expect("a token");
        if matches!(id, 0 | 2) || cache.held() == cache.positions() {
            return text + &decoder.flush().expect("decodes");
        }
        text += &decoder.push(id).expect("decodes");
        ids.push(id);
    }
}

#[test]
fn genesis_answers_questions_about_the_swarm() {
    let questions: Vec<Question> = serde_json::from_str(include_str!("../genesis/questions.json")).expect("a list");
    assert!(questions.len() >= 30);
    let compute = &mut Reference::new();
    let stage = GENESIS.stage(compute, GENESIS.whole().expect("layers"), WeightFormat::F32).expect("loads");
    for Question { question, must_contain } in questions.iter().step_by(questions.len().div_ceil(ASKED)) {
        let answer = answer(compute, &stage, question);
        let lower = answer.to_lowercase();
        assert!(must_contain.iter().any(|key| lower.contains(&key.to_lowercase())), "{question} {answer}");
    }
}
