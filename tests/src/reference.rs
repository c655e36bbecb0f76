//! The answers that the genesis model must give, letter for letter: computed by another implementation (Hugging Face
//! `transformers`, greedy) and committed beside the model.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;

/// A question and its one right answer under greedy decoding.
#[derive(Clone, Debug, Deserialize)]
pub struct Reference {
    /// What is asked, as the first message of a chat without system message.
    pub question: String,
    /// The whole answer.
    pub answer: String,
    /// Whether the answer is also true; the others are left out.
    pass: bool,
}

#[derive(Deserialize)]
struct Evaluation {
    questions: Vec<Reference>,
}

/// All questions that the model answers rightly, in the file's order.
pub fn references() -> Result<Vec<Reference>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/model/genesis/eval.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let evaluation: Evaluation = serde_json::from_str(&text).context("eval.json has another form")?;
    Ok(evaluation.questions.into_iter().filter(|question| question.pass).collect())
}
