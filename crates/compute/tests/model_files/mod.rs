//! The genesis model as a node gets it: a manifest and its blocks, loaded into an executor.

use std::collections::HashMap;
use std::convert::Infallible;

use cdi_compute::executor::{Executor, StageId};
use cdi_model::compute::{Compute, WeightFormat};
use cdi_model::import::{Folder, Imported, Label, import};
use cdi_model::plan::StagePlan;
use cdi_types::Cid;
use cdi_types::manifest::{Architecture, Llama};

macro_rules! genesis {
    ($file:literal) => {
        include_bytes!(concat!("../../../model/genesis/", $file))
    };
}

pub const TOKENIZER: &[u8] = genesis!("tokenizer.json");

/// An imported model and its blocks.
pub struct Model {
    pub imported: Imported,
    blocks: HashMap<Cid, Vec<u8>>,
}

impl Model {
    pub fn genesis() -> Self {
        let weights: &[u8] = genesis!("model.safetensors");
        let folder = Folder {
            config: genesis!("config.json"),
            tokenizer: TOKENIZER,
            tokenizer_config: Some(genesis!("tokenizer_config.json")),
            generation_config: Some(genesis!("generation_config.json")),
            weights: vec![&weights],
        };
        let label = Label { name: "genesis".to_owned(), license: "MIT OR Apache-2.0".to_owned() };
        let mut blocks = HashMap::new();
        let imported = import(&folder, label, |cid, bytes| {
            blocks.insert(cid, bytes.to_vec());
            Ok::<(), Infallible>(())
        });
        Self { imported: imported.expect("the genesis model imports"), blocks }
    }

    pub fn llama(&self) -> &Llama {
        let Architecture::Llama(llama) = &self.imported.manifest.architecture;
        llama
    }

    pub fn stage(&self, layers: &str) -> StageId {
        StageId { model: self.imported.id, layers: layers.parse().expect("a range") }
    }

    /// Loads a stage block by block.
    pub fn load<C: Compute>(&self, executor: &mut Executor<C>, stage: StageId, format: WeightFormat) {
        let plan = StagePlan::new(&self.imported.manifest, stage.layers, &self.blocks).expect("a plan");
        executor.begin_stage(stage, self.llama(), format).expect("a stage begins");
        for tensor in &plan.tensors {
            for block in &tensor.blocks {
                let bytes = &self.blocks[&block.cid];
                executor.write_rows(stage, tensor.tensor, block.rows.start, tensor.dtype, bytes).expect("rows");
            }
        }
        executor.finish_stage(stage).expect("a complete stage");
    }
}
