//! From a folder to blocks, and from blocks back to a stage.

use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use cdi_model::builder::StageBuilder;
use cdi_model::compute::WeightFormat;
use cdi_model::fixture::GENESIS;
use cdi_model::fixture::parity::run;
use cdi_model::fixture::reference::Reference;
use cdi_model::import::{Folder, ImportError, Imported, Label, import};
use cdi_model::links::Nodes;
use cdi_model::llama::LlamaStage;
use cdi_model::plan::{PlanError, StagePlan, kv_bytes_per_position, memory_bytes, tokenizer_blocks};
use cdi_model::range_read::{RangeError, RangeRead};
use cdi_types::block::{MAX_BLOCK_BYTES, verify};
use cdi_types::manifest::{Architecture, Manifest};
use cdi_types::{Cid, LayerRange};

const CONFIG: &[u8] = include_bytes!("../genesis/config.json");
const WEIGHTS: &[u8] = include_bytes!("../genesis/model.safetensors");
const TOKENIZER: &[u8] = include_bytes!("../genesis/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../genesis/tokenizer_config.json");
const GENERATION_CONFIG: &[u8] = include_bytes!("../genesis/generation_config.json");

/// The worked example of docs/manifest.md. A change means that every node must fetch the model anew.
const GENESIS_ID: &str = "bafyreiga3rp2zjmhbxmg2wxxzmaqqj3jmdr7te3ttrloutpe2nlzskcace";

type Blocks = HashMap<Cid, Vec<u8>>;

fn folder(weights: &dyn RangeRead) -> Folder<'_> {
    Folder {
        config: CONFIG,
        tokenizer: TOKENIZER,
        tokenizer_config: Some(TOKENIZER_CONFIG),
        generation_config: Some(GENERATION_CONFIG),
        weights: vec![weights],
    }
}

fn label() -> Label {
    Label { name: "genesis".to_owned(), license: "MIT".to_owned() }
}

fn import_all(folder: &Folder<'_>) -> Result<(Imported, Blocks), ImportError> {
    let mut blocks = Blocks::new();
    let imported = import::<String>(folder, label(), |cid, bytes| {
        verify(&cid, bytes).map_err(|e| e.to_string())?;
        blocks.insert(cid, bytes.to_vec());
        Ok(())
    })?;
    Ok((imported, blocks))
}

fn genesis() -> (Imported, Blocks) {
    import_all(&folder(&WEIGHTS)).expect("imports")
}

/// The fetch loop of a node, over a map instead of the network.
fn plan(manifest: &Manifest, layers: &str, blocks: &Blocks) -> StagePlan {
    let mut nodes = Nodes::new();
    loop {
        match StagePlan::new(manifest, layers.parse().expect("a range"), &nodes) {
            Err(PlanError::Missing(cids)) => nodes.extend(cids.into_iter().map(|cid| (cid, blocks[&cid].clone()))),
            plan => return plan.expect("a plan"),
        }
    }
}

fn load(compute: &mut Reference, manifest: &Manifest, layers: &str, blocks: &Blocks) -> LlamaStage<Reference> {
    let Architecture::Llama(llama) = &manifest.architecture;
    let range: LayerRange = layers.parse().expect("a range");
    let mut builder = StageBuilder::new(llama, range, WeightFormat::F32).expect("a builder");
    for tensor in plan(manifest, layers, blocks).tensors {
        for block in tensor.blocks {
            let bytes = &blocks[&block.cid];
            assert_eq!(bytes.len() as u64, block.bytes);
            builder.write_rows(compute, tensor.tensor, block.rows.start, tensor.dtype, bytes).expect("rows");
        }
    }
    builder.finish().expect("complete")
}

#[test]
fn genesis_has_the_documented_id() {
    let (imported, blocks) = genesis();
    assert_eq!(imported.id.to_string(), GENESIS_ID);
    assert_eq!(Manifest::decode(&blocks[&imported.id]), Ok(imported.manifest.clone()));
    assert_eq!(imported.manifest.weight_bytes, 2 * 3_640_512);
    assert_eq!(imported.manifest.end_of_text, [2, 0]);
    let documented = include_str!("../../../docs/manifest.md");
    let Manifest { shared, layers, tokenizer, .. } = &imported.manifest;
    assert!([&imported.id, shared].into_iter().chain(layers).all(|cid| documented.contains(&cid.to_string())));
    assert!(documented.contains(&format!("\"bytes\": {}", tokenizer.bytes)));
    let total: usize = blocks.values().map(Vec::len).sum();
    assert_eq!((blocks.len(), total), (85, 7_450_834));
}

#[test]
fn imported_blocks_compute_what_the_file_does() {
    let (imported, blocks) = genesis();
    let compute = &mut Reference::new();
    let sequence = &GENESIS.sequences().expect("fixture")[0];
    let steps = [sequence.ids.len()];
    let direct = GENESIS.stage(compute, GENESIS.whole().expect("layers"), WeightFormat::F32).expect("loads");
    let expected =
        pollster::block_on(run(compute, &[(&direct, direct.layers())], &sequence.ids, &steps)).expect("runs");
    let stages = ["0-2", "3-3", "4-7"].map(|layers| load(compute, &imported.manifest, layers, &blocks));
    let stages: Vec<_> = stages.iter().map(|stage| (stage, stage.layers())).collect();
    let logits = pollster::block_on(run(compute, &stages, &sequence.ids, &steps)).expect("runs");
    assert!(logits.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(logits.len(), expected.len());
}

#[test]
fn a_plan_counts_what_a_stage_takes() {
    let (Imported { manifest, .. }, blocks) = genesis();
    let Architecture::Llama(llama) = &manifest.architecture;
    let layer = 2 * (192 * 192 * 2 + 64 * 192 * 2 + 3 * 192 * 512 + 2 * 192);
    let embedding = 2 * 2560 * 192;
    assert_eq!(plan(&manifest, "3-4", &blocks).weight_bytes, 2 * layer);
    assert_eq!(plan(&manifest, "0-0", &blocks).weight_bytes, layer + embedding);
    assert_eq!(plan(&manifest, "7-7", &blocks).weight_bytes, layer + embedding + 2 * 192);
    assert_eq!(plan(&manifest, "0-7", &blocks).weight_bytes, manifest.weight_bytes);
    assert!(plan(&manifest, "0-7", &blocks).blocks().all(|b| b.bytes <= MAX_BLOCK_BYTES as u64));
    let range = "3-4".parse().expect("a range");
    assert_eq!(kv_bytes_per_position(llama, range), 2 * 2 * 64 * 4);
    assert_eq!(memory_bytes(llama, range, WeightFormat::F32), 4 * layer);
    let past = StagePlan::new(&manifest, "7-8".parse().expect("a range"), &Nodes::new());
    assert!(matches!(past, Err(PlanError::Layers { count: 8, .. })));
    let tokenizer: Vec<u8> = tokenizer_blocks(&manifest, &Nodes::new())
        .expect("inline")
        .into_iter()
        .flat_map(|(cid, bytes)| {
            assert_eq!(blocks[&cid].len() as u64, bytes);
            blocks[&cid].clone()
        })
        .collect();
    assert_eq!(tokenizer, TOKENIZER);
    let mut absurd = manifest;
    absurd.tokenizer.bytes = u64::MAX;
    assert_eq!(tokenizer_blocks(&absurd, &Nodes::new()), Err(PlanError::TokenizerTooLarge(u64::MAX)));
}

/// Records the largest single read.
struct Metered {
    largest: Cell<usize>,
}

impl RangeRead for Metered {
    fn size(&self) -> u64 {
        WEIGHTS.size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), RangeError> {
        self.largest.set(self.largest.get().max(buf.len()));
        WEIGHTS.read_at(offset, buf)
    }
}

#[test]
fn weights_are_read_block_by_block() {
    let file = Metered { largest: Cell::new(0) };
    import_all(&folder(&file)).expect("imports");
    assert!(file.largest.get() <= MAX_BLOCK_BYTES);
}

/// A safetensors file with the tensors of genesis after `change`, filled by `fill`.
fn changed_weights(change: impl Fn(&mut BTreeMap<String, Vec<u32>>), fill: [u8; 2]) -> Vec<u8> {
    let parsed = cdi_model::safetensors::Safetensors::open(WEIGHTS).expect("opens");
    let mut shapes = parsed.iter().map(|(name, info)| (name.to_owned(), info.shape.clone())).collect();
    change(&mut shapes);
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in shapes {
        let begin = end;
        end += shape.iter().map(|d| *d as usize).product::<usize>() * 2;
        let entry = serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(header.as_bytes());
    file.extend(fill.iter().copied().cycle().take(end));
    file
}

fn refused(weights: &[u8]) -> ImportError {
    import_all(&folder(&weights)).expect_err("refused")
}

#[test]
fn wrong_tensors_are_named() {
    let zero = [0, 0];
    let missing = refused(&changed_weights(|t| drop(t.remove("model.layers.3.mlp.up_proj.weight")), zero));
    assert_eq!(missing, ImportError::Missing(vec!["model.layers.3.mlp.up_proj.weight".to_owned()]));
    let extra = refused(&changed_weights(|t| drop(t.insert("model.extra".to_owned(), vec![1])), zero));
    assert_eq!(extra, ImportError::Unexpected(vec!["model.extra".to_owned()]));
    let shape = refused(&changed_weights(|t| drop(t.insert("model.norm.weight".to_owned(), vec![191])), zero));
    assert!(shape.to_string().contains("model.norm.weight"), "{shape}");
    for not_finite in [[0x00, 0x7c], [0x01, 0x7e], [0x00, 0xfc]] {
        let error = refused(&changed_weights(|_| (), not_finite));
        assert!(matches!(error, ImportError::NotFinite(_)), "{error}");
    }
    let twice = Folder { weights: vec![&WEIGHTS, &WEIGHTS], ..folder(&WEIGHTS) };
    assert!(matches!(import_all(&twice), Err(ImportError::Duplicate(_))));
}

#[test]
fn a_tied_head_that_is_stored_twice_changes_nothing() {
    let with_head = changed_weights(|t| drop(t.insert("lm_head.weight".to_owned(), vec![2560, 192])), [0, 0]);
    let without = changed_weights(|_| (), [0, 0]);
    let id = |weights: &[u8]| import_all(&folder(&weights)).expect("imports").0.id;
    assert_eq!(id(&with_head), id(&without));
}

#[test]
fn a_failing_store_stops_the_import() {
    let error = import(&folder(&WEIGHTS), label(), |_, _| Err("disk full")).expect_err("stops");
    assert_eq!(error, ImportError::Sink("disk full".to_owned()));
}
