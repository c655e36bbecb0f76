//! From question to text: the genesis model, in two stages on two executors, gives the answers that Hugging Face
//! transformers gave, word for word.

mod model_files;

use std::io::{Write as _, stderr};

use cdi_compute::backend::Backend;
use cdi_compute::executor::{Executor, Input, Limits, Output, SessionKey, StageId, Want};
use cdi_model::chat::ChatTemplate;
use cdi_model::compute::WeightFormat;
use cdi_model::llama::LogitRows;
use cdi_model::tokenizer::Tokenizer;
use cdi_types::sampling::Sampling;
use model_files::{Model, TOKENIZER};
use pollster::block_on;
use serde::Deserialize;
use serde_json::json;

const MAX_POSITIONS: u32 = 256;

#[derive(Deserialize)]
struct Evaluation {
    questions: Vec<Question>,
}

/// A question and the greedy answer of transformers.
#[derive(Deserialize)]
struct Question {
    question: String,
    answer: String,
}

/// A stage on an executor of its own.
struct Node {
    executor: Executor<Backend>,
    stage: StageId,
}

impl Node {
    fn new(model: &Model, stage: StageId, backend: Backend) -> Self {
        let limits = Limits { kv_bytes: 1 << 24, sessions: 1 };
        let mut executor = Executor::new(backend, limits, Box::new(|| 0.0));
        model.load(&mut executor, stage, WeightFormat::F32);
        block_on(executor.self_test(stage)).expect("the stage works");
        Self { executor, stage }
    }

    fn step(&mut self, start: u32, input: Input<'_>, want: Want) -> Output {
        let key = SessionKey { session: [1; 16], stage: self.stage };
        if self.executor.held(key).is_none() {
            self.executor.open_session(key, MAX_POSITIONS).expect("room");
        }
        block_on(self.executor.step(key, start, input, want)).expect("a step")
    }
}

fn answer(front: &mut Node, back: &mut Node, prompt: &[u32], end_of_text: &[u32]) -> Vec<u32> {
    let mut input = prompt.to_vec();
    let mut ids = Vec::new();
    let mut start = 0;
    loop {
        let hidden = match front.step(start, Input::Tokens(&input), Want::Hidden) {
            Output::Hidden(rows) => rows,
            Output::Tokens(_) => Vec::new(),
        };
        let want = Want::Tokens(LogitRows::Last, Sampling::GREEDY);
        let chosen = match back.step(start, Input::Hidden(&hidden), want) {
            Output::Tokens(ids) => ids,
            Output::Hidden(_) => Vec::new(),
        };
        start += u32::try_from(input.len()).expect("a short prompt");
        if end_of_text.contains(&chosen[0]) {
            return ids;
        }
        ids.extend(&chosen);
        input = chosen;
    }
}

/// Asks the first `count` questions of two nodes, on back ends of their own.
fn answers_are_those_of_transformers(front: Backend, back: Backend, count: usize) {
    let model = Model::genesis();
    let manifest = &model.imported.manifest;
    let tokenizer = Tokenizer::from_json(TOKENIZER).expect("a tokenizer");
    let template = ChatTemplate::new(manifest.chat_template.as_deref()).expect("a template");
    let mut front = Node::new(&model, model.stage("0-2"), front);
    let mut back = Node::new(&model, model.stage("3-7"), back);
    let evaluation: Evaluation =
        serde_json::from_slice(include_bytes!("../../model/genesis/eval.json")).expect("the evaluation");
    assert!(evaluation.questions.len() > 100);
    for Question { question, answer: expected } in evaluation.questions.into_iter().take(count) {
        let prompt = template.render(&[json!({"role": "user", "content": question})], true).expect("a prompt");
        let prompt = tokenizer.encode(&prompt, false).expect("ids");
        let ids = answer(&mut front, &mut back, &prompt, &manifest.end_of_text);
        assert_eq!(tokenizer.decode(&ids).expect("text"), expected, "{question}");
    }
}

#[test]
fn on_the_processor() {
    answers_are_those_of_transformers(Backend::cpu(), Backend::cpu(), usize::MAX);
}

/// Few questions, because the adapter of a test machine is played by its processor.
#[test]
fn on_gpu_and_processor_together() {
    match block_on(Backend::gpu()) {
        Ok(gpu) => answers_are_those_of_transformers(gpu, Backend::cpu(), 8),
        // Not by eprintln, whose text the harness would keep for itself.
        Err(error) => writeln!(stderr(), "SKIPPED genesis on a gpu: {error}").expect("standard error"),
    }
}
