//! GGUF files against llama.cpp: dequantisation, logits, tokens, chats; and what the importer refuses.

use std::cell::Cell;
use std::convert::Infallible;

use cdi_model::chat::ChatTemplate;
use cdi_model::compute::WeightFormat;
use cdi_model::fixture::gguf::{GGUF, GgufCase, StoredBlocks, difference, random_blocks};
use cdi_model::fixture::parity::run;
use cdi_model::fixture::reference::Reference;
use cdi_model::gguf::Gguf;
use cdi_model::import::{ImportError, Label, import_gguf};
use cdi_model::plan::{StagePlan, tokenizer_blocks};
use cdi_model::quant::dequantised;
use cdi_model::range_read::{RangeError, RangeRead};
use cdi_model::tokenizer::Tokenizer;
use cdi_types::block::{MAX_BLOCK_BYTES, verify};
use cdi_types::manifest::{DType, Manifest, TensorTable};
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test(unsupported = test)]
fn every_type_has_the_bits_of_ggml() {
    let all = random_blocks().expect("fixture");
    assert_eq!(all.len(), 6);
    for StoredBlocks { dtype, stored, elements } in all {
        let found = dequantised(dtype, &stored);
        assert_eq!(found.len(), elements.len(), "{dtype:?}");
        let same = |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
        let differing = found.iter().zip(&elements).position(|pair| !same(pair));
        assert_eq!(differing, None, "{dtype:?}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn logits_are_those_of_llama_cpp() {
    for case in &GGUF {
        let compute = &mut Reference::new();
        let stage = case.stage(compute, WeightFormat::F32).expect(case.name);
        let ids = case.expected().expect("fixture").ids;
        let steps = [&[ids.len() - 4][..], &[1; 4]].concat();
        let logits = pollster::block_on(run(compute, &[(&stage, stage.layers())], &ids, &steps)).expect("runs");
        let (largest, rms) = difference(&case.logits().expect("fixture"), &logits);
        println!("{}: largest difference {largest:.2e}, root mean square {rms:.2e} of the logits", case.name);
        assert!(rms <= case.tolerance, "{}: {rms}", case.name);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn texts_have_the_ids_of_llama_cpp() {
    for case in &GGUF {
        let expected = case.expected().expect("fixture");
        let tokenizer = tokenizer(case);
        for text in expected.texts {
            assert_eq!(tokenizer.encode(&text.text, false), Ok(text.ids), "{}: {:?}", case.name, text.text);
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn the_chat_template_comes_with_the_file() {
    for case in &GGUF {
        let (imported, _) = case.import().expect("imports");
        let template = ChatTemplate::new(imported.manifest.chat_template.as_deref()).expect("a template");
        let message = serde_json::json!({"role": "user", "content": "hi"});
        assert_eq!(template.render(&[message], false), Ok(case.expected().expect("fixture").chat));
        assert_eq!(imported.manifest.end_of_text, [2]);
    }
}

fn tokenizer(case: &GgufCase) -> Tokenizer {
    let (imported, blocks) = case.import().expect("imports");
    let cids = tokenizer_blocks(&imported.manifest, &blocks).expect("inline");
    let json: Vec<u8> = cids.iter().flat_map(|(cid, _)| blocks[cid].clone()).collect();
    Tokenizer::from_json(&json).expect("loads")
}

#[test]
fn quantised_blocks_keep_their_bits() {
    let case = &GGUF[5];
    let (imported, blocks) = case.import().expect("imports");
    assert!(blocks.iter().all(|(cid, bytes)| verify(cid, bytes).is_ok()));
    assert_eq!(case.import().expect("again").0.id, imported.id);
    assert_eq!(Manifest::decode(&blocks[&imported.id]), Ok(imported.manifest.clone()));
    let table = TensorTable::decode(&blocks[&imported.manifest.layers[0]]).expect("a table");
    let dtype = |name: &str| table.get(name).expect("listed").dtype;
    assert_eq!(dtype("mlp.gate_proj.weight"), DType::Q4K);
    assert_eq!(dtype("mlp.down_proj.weight"), DType::Q6K);
    assert_eq!(dtype("self_attn.o_proj.weight"), DType::Q8_0);
    assert_eq!(dtype("input_layernorm.weight"), DType::F32);
    let gguf = Gguf::open(case.file).expect("opens");
    let stored = |name: &str| {
        let info = gguf.get(name).expect("listed");
        let mut bytes = vec![0; usize::try_from(info.bytes).expect("small")];
        info.read_at(case.file, 0, &mut bytes).expect("reads");
        bytes
    };
    let plan = StagePlan::new(&imported.manifest, "0-0".parse().expect("a range"), &blocks).expect("a plan");
    let planned = |name: &str| -> Vec<u8> {
        let tensor = plan.tensors.iter().find(|t| t.tensor.name == name).expect("planned");
        tensor.blocks.iter().flat_map(|block| blocks[&block.cid].clone()).collect()
    };
    assert_eq!(planned("mlp.gate_proj.weight"), stored("blk.0.ffn_gate.weight"));
    // Rows 0, 2, 4, … of each head, then 1, 3, 5, …: two heads of 16.
    let (ours, theirs) = (planned("self_attn.q_proj.weight"), stored("blk.0.attn_q.weight"));
    let row = |bytes: &[u8], row: usize| bytes[row * 144..][..144].to_vec();
    for (to, from) in [(0, 0), (1, 2), (7, 14), (8, 1), (15, 15), (16, 16), (17, 18), (24, 17), (31, 31)] {
        assert_eq!(row(&ours, to), row(&theirs, from), "row {to}");
    }
}

/// A file in pieces, recording the largest read.
struct Metered {
    file: Vec<u8>,
    largest: Cell<usize>,
}

impl RangeRead for Metered {
    fn size(&self) -> u64 {
        self.file.as_slice().size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), RangeError> {
        self.largest.set(self.largest.get().max(buf.len()));
        self.file.as_slice().read_at(offset, buf)
    }
}

fn import(file: Vec<u8>) -> (Result<(), ImportError>, usize) {
    let file = Metered { file, largest: Cell::new(0) };
    let label = Label { name: "test".to_owned(), license: "MIT".to_owned() };
    let imported = import_gguf(&file, label, |_, _| Ok::<_, Infallible>(()));
    (imported.map(drop), file.largest.get())
}

/// The file with the first occurrence of `from` replaced by as many bytes.
fn replaced(file: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = file.windows(from.len()).position(|window| window == from).expect("there");
    let mut file = file.to_vec();
    file[at..at + to.len()].copy_from_slice(to);
    file
}

#[test]
fn a_file_is_read_piece_by_piece() {
    let (imported, largest) = import(GGUF[0].file.to_vec());
    assert_eq!(imported, Ok(()));
    assert!(largest <= 2 * MAX_BLOCK_BYTES);
}

#[test]
fn wrong_files_are_refused_by_name() {
    let file = GGUF[0].file;
    let renamed = import(replaced(file, b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight")).0;
    assert_eq!(renamed, Err(ImportError::Missing(vec!["blk.1.ffn_up.weight".to_owned()])));
    let experts = import(replaced(file, b"llama.context_length", b"llama.context_lenght")).0;
    assert!(matches!(experts, Err(ImportError::Gguf(_))), "{experts:?}");
    let gguf = Gguf::open(file).expect("opens");
    let mut infinite = file.to_vec();
    let at = usize::try_from(gguf.get("blk.1.ffn_up.weight").expect("listed").offset).expect("small");
    infinite[at..at + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    assert_eq!(import(infinite).0, Err(ImportError::NotFinite("model.layers.1.mlp.up_proj.weight".to_owned())));
    let bias = import(replaced(file, b"output_norm.weight", b"output_nrom.weight")).0;
    assert_eq!(bias, Err(ImportError::Missing(vec!["output_norm.weight".to_owned()])));
}
