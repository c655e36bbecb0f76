//! What stages and their builder refuse.

use cdi_model::builder::StageBuilder;
use cdi_model::compute::WeightFormat;
use cdi_model::fixture::reference::Reference;
use cdi_model::fixture::{Case, TINY};
use cdi_model::llama::{LlamaStage, LogitRows, StageError, StageInput, StageOutput};
use cdi_model::tensors::{Shape, Table, TensorRef, TensorSpec};
use cdi_types::LayerRange;
use cdi_types::manifest::DType;

/// Three layers, vocabulary 96, hidden 32, context 64.
const CASE: Case = TINY[0];
const HIDDEN: [f32; 32] = [0.5; 32];

fn range(text: &str) -> LayerRange {
    text.parse().expect("a range")
}

fn stage(compute: &mut Reference, layers: &str) -> LlamaStage<Reference> {
    CASE.stage(compute, range(layers), WeightFormat::F32).expect("loads")
}

fn builder(layers: &str) -> StageBuilder<Reference> {
    StageBuilder::new(&CASE.llama().expect("valid"), range(layers), WeightFormat::F32).expect("a builder")
}

fn zeros(spec: &TensorSpec, rows: u32) -> Vec<u8> {
    vec![0; rows as usize * spec.shape.rows_cols().1 as usize * 2]
}

/// The error of running `input` at `start` after `held` positions.
fn refused(layers: &str, input: StageInput<'_>, held: u32, start: u32) -> StageError {
    let compute = &mut Reference::new();
    let stage = stage(compute, layers);
    let mut cache = stage.new_cache(compute, 8).expect("a cache");
    if held > 0 {
        let ids = vec![1; held as usize];
        stage.forward(compute, StageInput::Tokens(&ids), 0, &mut cache, LogitRows::None).expect("runs");
    }
    stage.forward(compute, input, start, &mut cache, LogitRows::Last).expect_err("refused")
}

#[test]
fn inputs_are_checked() {
    let tokens = StageInput::Tokens;
    assert_eq!(refused("0-2", tokens(&[1, 96]), 0, 0), StageError::Token { id: 96, vocab_size: 96 });
    assert_eq!(refused("0-2", tokens(&[]), 0, 0), StageError::Rank(0));
    assert_eq!(refused("0-2", StageInput::Hidden(&HIDDEN), 0, 0), StageError::Input(range("0-2")));
    assert_eq!(refused("1-2", tokens(&[1]), 0, 0), StageError::Input(range("1-2")));
    assert_eq!(refused("1-2", StageInput::Hidden(&HIDDEN[..31]), 0, 0), StageError::Rank(31));
    assert_eq!(refused("0-1", tokens(&[1]), 2, 3), StageError::Gap { start: 3, held: 2 });
    let full = StageError::Positions { start: 2, rows: 7, positions: 8 };
    assert_eq!(refused("0-1", tokens(&[1; 7]), 2, 2), full);
    assert!(matches!(refused("0-1", tokens(&[1]), 2, u32::MAX), StageError::Gap { .. }));
}

#[test]
fn caches_are_bounded_by_the_context_and_belong_to_their_stage() {
    let compute = &mut Reference::new();
    let (whole, part) = (stage(compute, "0-2"), stage(compute, "0-0"));
    for positions in [0, 65, u32::MAX] {
        assert!(matches!(whole.new_cache(compute, positions), Err(StageError::Positions { .. })));
    }
    let mut cache = whole.new_cache(compute, 64).expect("a cache");
    let foreign = part.forward(compute, StageInput::Tokens(&[1]), 0, &mut cache, LogitRows::Last);
    assert!(matches!(foreign, Err(StageError::ForeignCache)));
}

#[test]
fn logits_come_for_the_rows_that_are_wanted() {
    let compute = &mut Reference::new();
    let whole = stage(compute, "0-2");
    let mut cache = whole.new_cache(compute, 8).expect("a cache");
    let mut logits = |wanted| {
        let output = whole.forward(compute, StageInput::Tokens(&[1, 2, 3]), 0, &mut cache, wanted)?;
        Ok(match output {
            StageOutput::Logits(x) => {
                pollster::block_on(cdi_model::compute::Compute::read(compute, &x)).expect("reads")
            }
            StageOutput::Nothing => Vec::new(),
            StageOutput::Hidden(_) => panic!("hidden states"),
        })
    };
    let all = logits(LogitRows::From(0)).expect("runs");
    assert_eq!(all.len(), 3 * 96);
    assert_eq!(logits(LogitRows::Last).expect("runs"), &all[2 * 96..]);
    assert_eq!(logits(LogitRows::From(1)).expect("runs"), &all[96..]);
    assert_eq!(logits(LogitRows::None).expect("runs"), &[0.0; 0]);
    assert_eq!(logits(LogitRows::From(3)), Err(StageError::LogitRows(3)));
}

#[test]
fn going_back_replaces_what_followed() {
    let compute = &mut Reference::new();
    let whole = stage(compute, "0-2");
    let mut cache = whole.new_cache(compute, 8).expect("a cache");
    whole.forward(compute, StageInput::Tokens(&[1, 2, 3, 4]), 0, &mut cache, LogitRows::None).expect("runs");
    assert_eq!(cache.held(), 4);
    whole.forward(compute, StageInput::Tokens(&[5]), 1, &mut cache, LogitRows::None).expect("runs");
    assert_eq!(cache.held(), 2);
    cache.truncate(1);
    let gap = whole.forward(compute, StageInput::Tokens(&[5]), 2, &mut cache, LogitRows::None);
    assert!(matches!(gap, Err(StageError::Gap { start: 2, held: 1 })));
}

#[test]
fn rows_must_come_whole_and_in_order() {
    let compute = &mut Reference::new();
    let mut builder = builder("1-1");
    let spec = *builder.needs().iter().find(|s| s.shape == Shape::Matrix(64, 32)).expect("a matrix");
    let row = zeros(&spec, 1);
    let mut write = |first, bytes: &[u8]| builder.write_rows(compute, spec.tensor, first, DType::F16, bytes);
    assert_eq!(write(0, &row), Ok(()));
    for (first, bytes) in [(0, &row[..]), (2, &row), (1, &row[1..]), (1, &[]), (1, &zeros(&spec, 64))] {
        assert!(matches!(write(first, bytes), Err(StageError::Rows { .. })), "{first} {}", bytes.len());
    }
    assert_eq!(write(1, &zeros(&spec, 63)), Ok(()));
    assert!(matches!(write(64, &row), Err(StageError::Rows { .. })));
    let foreign = TensorRef { table: Table::Layer(2), name: spec.tensor.name };
    let error = builder.write_rows(compute, foreign, 0, DType::F16, &row);
    assert_eq!(error, Err(StageError::NotNeeded(foreign)));
}

#[test]
fn missing_tensors_are_named() {
    let compute = &mut Reference::new();
    let mut builder = builder("2-2");
    for spec in builder.needs().to_vec() {
        let rows = match spec.tensor.name {
            "model.norm.weight" => continue,
            "mlp.down_proj.weight" => 31,
            _ => spec.shape.rows_cols().0,
        };
        builder.write_rows(compute, spec.tensor, 0, DType::F16, &zeros(&spec, rows)).expect("rows");
    }
    let Err(error) = builder.finish() else { panic!("finished") };
    assert_eq!(error.to_string(), "missing tensors: model.norm.weight, model.layers.2.mlp.down_proj.weight");
}

#[test]
fn impossible_stages_are_refused() {
    let llama = CASE.llama().expect("valid");
    let new = |llama, layers, format| StageBuilder::<Reference>::new(&llama, range(layers), format).err();
    let past = new(llama.clone(), "2-3", WeightFormat::F32);
    assert_eq!(past, Some(StageError::Layers { layers: range("2-3"), count: 3 }));
    let mut odd = llama.clone();
    odd.intermediate_size = 48;
    assert!(matches!(new(odd.clone(), "0-2", WeightFormat::Q8_0), Some(StageError::Format { .. })));
    assert_eq!(new(odd, "0-2", WeightFormat::F32), None);
    let mut absurd = llama;
    absurd.hidden_size = u32::MAX;
    assert!(matches!(new(absurd, "0-2", WeightFormat::F32), Some(StageError::Model(_))));
}
