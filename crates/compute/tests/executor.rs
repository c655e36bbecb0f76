//! Stages and sessions on the CPU back end.

mod model_files;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cdi_compute::cpu::{Cpu, KERNEL_ID};
use cdi_compute::executor::{Executor, ExecutorError, Input, Limits, MAX_STEP_ROWS, Output, SessionKey, StageId, Want};
use cdi_model::compute::WeightFormat;
use cdi_model::llama::{LogitRows, StageError};
use cdi_types::block::raw_cid;
use cdi_types::manifest::{DType, Llama};
use cdi_types::sampling::Sampling;
use model_files::Model;
use pollster::block_on;

const SAMPLED: Sampling = Sampling { temperature: 0.9, top_k: 0, top_p: 1.0, seed: 5 };
const IDS: [u32; 12] = [1, 283, 201, 384, 295, 259, 540, 33, 2, 201, 1, 285];
/// Bytes of keys and values of one position in all 8 layers of genesis: 2 heads of 32, keys and values, f32.
const KV_BYTES: u64 = 8 * 2 * 2 * 32 * 4;

fn limits() -> Limits {
    Limits { kv_bytes: 100 * KV_BYTES, sessions: 3 }
}

fn executor() -> Executor<Cpu> {
    Executor::new(Cpu::new(), limits(), Box::new(|| 0.0))
}

/// An executor with the whole genesis model.
fn genesis() -> (Executor<Cpu>, StageId) {
    let model = Model::genesis();
    let mut executor = executor();
    model.load(&mut executor, model.stage("0-7"), WeightFormat::F32);
    (executor, model.stage("0-7"))
}

fn key(stage: StageId, session: u8) -> SessionKey {
    SessionKey { session: [session; 16], stage }
}

fn tokens(executor: &mut Executor<Cpu>, key: SessionKey, start: u32, ids: &[u32], rows: LogitRows) -> Vec<u32> {
    let output = block_on(executor.step(key, start, Input::Tokens(ids), Want::Tokens(rows, SAMPLED)));
    tokens_of(output.expect("a step")).expect("the last stage gives tokens")
}

fn tokens_of(output: Output) -> Option<Vec<u32>> {
    if let Output::Tokens(ids) = output { Some(ids) } else { None }
}

/// A network of two layers, whose weights are all `value`.
fn uniform_model(value: f32) -> (Llama, impl Fn(&mut Executor<Cpu>, StageId)) {
    let llama = Llama {
        vocab_size: 16,
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: 4,
        max_position_embeddings: 32,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
    };
    let load = {
        let llama = llama.clone();
        move |executor: &mut Executor<Cpu>, stage| {
            let needs = executor.begin_stage(stage, &llama, WeightFormat::F32).expect("begins").to_vec();
            for spec in needs {
                let (rows, cols) = spec.shape.rows_cols();
                let bytes: Vec<u8> = (0..rows * cols).flat_map(|_| value.to_le_bytes()).collect();
                executor.write_rows(stage, spec.tensor, 0, DType::F32, &bytes).expect("rows");
            }
            executor.finish_stage(stage).expect("complete");
        }
    };
    (llama, load)
}

fn stage(layers: &str) -> StageId {
    StageId { model: raw_cid(b"a model"), layers: layers.parse().expect("a range") }
}

/// Steps of one row, a draft checked in one step, a rollback and another session all choose the same tokens.
#[test]
fn tokens_do_not_depend_on_steps() {
    let (mut executor, stage) = genesis();
    let (one, other) = (key(stage, 1), key(stage, 2));
    executor.open_session(one, 40).expect("room");
    executor.open_session(other, 40).expect("room");
    let mut by_one = Vec::new();
    for (start, id) in (0..).zip(IDS) {
        by_one.extend(tokens(&mut executor, one, start, &[id], LogitRows::Last));
    }
    assert_eq!(tokens(&mut executor, other, 0, &IDS, LogitRows::From(0)), by_one);
    assert_eq!(executor.held(one), Some(12));

    // Roll back by starting at a held position, and by truncation.
    assert!(tokens(&mut executor, one, 5, &[7, 8, 9], LogitRows::None).is_empty());
    assert_eq!(executor.held(one), Some(8));
    assert_eq!(executor.truncate(one, 5), Ok(5));
    assert_eq!(tokens(&mut executor, one, 5, &IDS[5..], LogitRows::From(2)), by_one[7..]);
}

#[test]
fn positions_are_checked() {
    let (mut executor, stage) = genesis();
    let key = key(stage, 1);
    executor.open_session(key, 8).expect("room");
    let mut step = |start, ids: &[u32]| {
        block_on(executor.step(key, start, Input::Tokens(ids), Want::Tokens(LogitRows::Last, Sampling::GREEDY))).err()
    };
    assert_eq!(step(1, &IDS[..1]), Some(StageError::Gap { start: 1, held: 0 }.into()));
    assert_eq!(step(0, &IDS[..4]), None);
    assert_eq!(step(5, &IDS[..1]), Some(StageError::Gap { start: 5, held: 4 }.into()));
    let beyond = |start, rows| Some(StageError::Positions { start, rows, positions: 8 }.into());
    assert_eq!(step(4, &IDS[..5]), beyond(4, 5));
    assert_eq!(step(4, &IDS[..4]), None);
    assert_eq!(step(8, &IDS[..1]), beyond(8, 1));
    // What was refused has changed nothing.
    assert_eq!(executor.held(key), Some(8));
}

#[test]
fn bad_inputs_are_typed_errors() {
    let model = Model::genesis();
    let mut executor = executor();
    let (front, back) = (model.stage("0-6"), model.stage("7-7"));
    model.load(&mut executor, front, WeightFormat::Q8_0);
    model.load(&mut executor, back, WeightFormat::Q8_0);
    let (front_key, back_key) = (key(front, 1), key(back, 1));
    executor.open_session(front_key, 20).expect("room");
    executor.open_session(back_key, 20).expect("room");
    let mut step = |key, input, want| block_on(executor.step(key, 0, input, want)).expect_err("a bad input");
    let greedy = Want::Tokens(LogitRows::Last, Sampling::GREEDY);
    let row = [0; 192 * 4];
    assert_eq!(step(front_key, Input::Tokens(&[1]), greedy), ExecutorError::Want { layers: front.layers, last: false });
    assert_eq!(
        step(back_key, Input::Hidden(&row), Want::Hidden),
        ExecutorError::Want { layers: back.layers, last: true }
    );
    assert_eq!(step(back_key, Input::Tokens(&[1]), greedy), StageError::Input(back.layers).into());
    assert_eq!(step(front_key, Input::Hidden(&row), Want::Hidden), StageError::Input(front.layers).into());
    assert_eq!(step(back_key, Input::Hidden(&row[1..]), greedy), ExecutorError::CutInput(767));
    assert_eq!(step(back_key, Input::Hidden(&row[4..]), greedy), StageError::Rank(191).into());
    assert_eq!(step(back_key, Input::Hidden(&[]), greedy), StageError::Rank(0).into());
    let beyond = StageError::Token { id: 2560, vocab_size: 2560 };
    assert_eq!(step(front_key, Input::Tokens(&[2560]), Want::Hidden), beyond.into());
    let long = vec![1; MAX_STEP_ROWS + 1];
    assert_eq!(step(front_key, Input::Tokens(&long), Want::Hidden), ExecutorError::TooManyRows(513));
    assert_eq!(step(key(front, 2), Input::Tokens(&[1]), Want::Hidden), ExecutorError::NoSession);
    let invalid = Sampling { top_p: 0.0, ..Sampling::GREEDY };
    let error = step(back_key, Input::Hidden(&row), Want::Tokens(LogitRows::Last, invalid));
    assert!(matches!(error, ExecutorError::Sample(_)), "{error}");
}

#[test]
fn budgets_are_kept() {
    let (mut executor, stage) = genesis();
    let weights = executor.stats().memory_bytes;
    executor.open_session(key(stage, 1), 60).expect("room");
    assert_eq!(executor.open_session(key(stage, 1), 1), Err(ExecutorError::SessionExists));
    let full = ExecutorError::KvFull { needed: 41 * KV_BYTES, free: 40 * KV_BYTES };
    assert_eq!(executor.open_session(key(stage, 2), 41), Err(full));
    executor.open_session(key(stage, 2), 39).expect("room");
    let stats = executor.stats();
    assert_eq!((stats.kv_bytes, stats.kv_limit_bytes, stats.sessions), (99 * KV_BYTES, 100 * KV_BYTES, 2));
    assert_eq!(stats.memory_bytes, weights + 99 * KV_BYTES);
    executor.open_session(key(stage, 3), 1).expect("room");
    assert_eq!(executor.open_session(key(stage, 4), 1), Err(ExecutorError::SessionsFull(3)));
    assert!(executor.close_session(key(stage, 1)));
    assert!(!executor.close_session(key(stage, 1)));
    executor.open_session(key(stage, 4), 60).expect("room again");
    let absurd = executor.open_session(key(stage, 5), u32::MAX);
    assert_eq!(absurd, Err(ExecutorError::SessionsFull(3)));
    assert_eq!(executor.keep(stage.model, None), 3);
    let stats = executor.stats();
    assert_eq!((stats.memory_bytes, stats.kv_bytes, stats.sessions, stats.stages.len()), (0, 0, 0, 0));
    assert_eq!(executor.open_session(key(stage, 1), 1), Err(ExecutorError::NoStage(stage)));
}

#[test]
fn stages_load_once_and_completely() {
    let (llama, load) = uniform_model(0.25);
    let mut executor = executor();
    let (front, half) = (stage("0-0"), stage("1-1"));
    assert_eq!(executor.finish_stage(front).err(), Some(ExecutorError::NoStage(front)));
    load(&mut executor, front);
    let again = executor.begin_stage(front, &llama, WeightFormat::F32).err();
    assert_eq!(again, Some(ExecutorError::StageExists(front)));
    let before = executor.stats().memory_bytes;
    let first = executor.begin_stage(half, &llama, WeightFormat::F32).expect("begins")[0];
    assert_eq!(executor.begin_stage(half, &llama, WeightFormat::F32).err(), Some(ExecutorError::StageExists(half)));
    executor.write_rows(half, first.tensor, 0, DType::F32, &[0; 32]).expect("a row");
    assert!(matches!(executor.finish_stage(half), Err(ExecutorError::Stage(StageError::Missing(_)))));
    assert_eq!(executor.stats().memory_bytes, before, "an incomplete stage is freed");
    executor.begin_stage(half, &llama, WeightFormat::F32).expect("begins anew");
    executor.abandon(half);
    assert_eq!(executor.finish_stage(half).err(), Some(ExecutorError::NoStage(half)));
    // The format is a part of the kernel id.
    let (mut executor, genesis) = genesis();
    assert_eq!(executor.stats().stages[0].kernel_id, format!("{KERNEL_ID}/f32"));
    executor.keep(genesis.model, None);
    let model = Model::genesis();
    model.load(&mut executor, model.stage("2-2"), WeightFormat::Q8_0);
    assert_eq!(executor.stats().stages[0].kernel_id, format!("{KERNEL_ID}/q8_0"));
}

/// Layers that arrive later join those that are there; sessions over a part, or over all, give the same tokens.
#[test]
fn a_stage_grows_and_shrinks() {
    let model = Model::genesis();
    let mut executor = executor();
    let part = |layers| model.stage(layers);
    model.load(&mut executor, part("2-4"), WeightFormat::F32);
    assert_eq!(executor.missing(model.imported.id, part("0-7").layers), [part("0-1").layers, part("5-7").layers]);
    model.load(&mut executor, part("5-7"), WeightFormat::F32);
    model.load(&mut executor, part("0-1"), WeightFormat::F32);
    assert_eq!(executor.missing(model.imported.id, part("0-7").layers), []);
    let stages: Vec<StageId> = executor.stats().stages.iter().map(|s| s.id).collect();
    assert_eq!(stages, [part("0-7")]);

    let (whole, front, back) = (key(part("0-7"), 1), key(part("0-3"), 2), key(part("4-7"), 3));
    for session in [whole, front, back] {
        executor.open_session(session, 20).expect("room");
    }
    let expected = tokens(&mut executor, whole, 0, &IDS, LogitRows::From(0));
    let rows = match block_on(executor.step(front, 0, Input::Tokens(&IDS), Want::Hidden)) {
        Ok(Output::Hidden(rows)) => rows,
        other => panic!("expected rows, got {other:?}"),
    };
    let step = executor.step(back, 0, Input::Hidden(&rows), Want::Tokens(LogitRows::From(0), SAMPLED));
    assert_eq!(block_on(step), Ok(Output::Tokens(expected)));

    // The whole and the back need layers that go; the front goes on.
    assert_eq!(executor.keep(model.imported.id, Some(part("0-3").layers)), 2);
    assert_eq!(executor.missing(model.imported.id, part("0-7").layers), [part("4-7").layers]);
    assert_eq!(block_on(executor.step(front, 0, Input::Tokens(&IDS), Want::Hidden)), Ok(Output::Hidden(rows)));
}

/// With a clock that advances 2 ms at each look, every step takes 2 ms.
#[test]
fn speed_is_work_over_time() {
    let ms = Arc::new(AtomicU64::new(0));
    let clock = { Box::new(move || ms.fetch_add(2, Ordering::Relaxed) as f64) };
    let mut executor = Executor::new(Cpu::new(), limits(), clock);
    let (_, load) = uniform_model(0.25);
    let whole = stage("0-1");
    load(&mut executor, whole);
    let key = key(whole, 1);
    executor.open_session(key, 16).expect("room");
    tokens(&mut executor, key, 0, &[1, 2, 3], LogitRows::Last);
    tokens(&mut executor, key, 3, &[4], LogitRows::Last);
    tokens(&mut executor, key, 4, &[5], LogitRows::None);
    let stats = executor.stats().stages.remove(0);
    // Of a layer: q and o 8x8, k and v 4x8, gate, up and down 12x8; two heads of 4 score and mix what they see.
    let layer = 2 * 64 + 2 * 32 + 3 * 96;
    let seen = 1 + 2 + 3 + 4 + 5;
    let multiply_adds = 2 * (5 * layer + 2 * 8 * seen) + 2 * 16 * 8;
    let gflops = f64::from(2 * multiply_adds) / 6e-3 / 1e9;
    assert!((stats.gflops.expect("steps") / gflops - 1.0).abs() < 1e-12, "{stats:?}");
    assert_eq!((stats.decode_ms, stats.decode_p95_ms), (Some(2.0), Some(2.0)));
    assert_eq!(stats.prefill_rows_per_second, Some(1_500.0));
    assert_eq!(stats.id, whole);
}

#[test]
fn the_self_test_accepts_good_stages_only() {
    let (mut executor, whole) = genesis();
    assert_eq!(block_on(executor.self_test(whole)), Ok(()));
    let memory = executor.stats().memory_bytes;
    assert_eq!(block_on(executor.self_test(whole)), Ok(()));
    assert_eq!(executor.stats().memory_bytes, memory);
    for (value, good) in [(0.25, true), (f32::NAN, false), (1e30, false), (0.0, false)] {
        let (_, load) = uniform_model(value);
        for layers in ["0-1", "0-0", "1-1"] {
            let (mut executor, stage) = (self::executor(), stage(layers));
            load(&mut executor, stage);
            let result = block_on(executor.self_test(stage));
            // Zero weights leave the hidden states of a stage in the middle of a model as they are.
            if value == 0.0 && layers == "1-1" {
                continue;
            }
            assert_eq!(result.is_ok(), good, "{value} {layers}: {result:?}");
        }
    }
}
