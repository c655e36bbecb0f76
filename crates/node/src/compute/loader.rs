//! From CIDs to models: reads manifests, tokenizers and layers through the block store.

use cdi_compute::backend::Backend;
use cdi_compute::executor::{Executor, ExecutorError, StageId};
use cdi_model::compute::WeightFormat;
use cdi_model::links::Nodes;
use cdi_model::plan::{PlanError, StagePlan, memory_bytes, tokenizer_blocks};
use cdi_model::tokenizer::MAX_TOKENIZER_BYTES;
use cdi_store::BlockStore;
use cdi_store::blocks::StoreError;
use cdi_store::fetch::{FetchError, Fetcher, Progress, Wanted};
use cdi_types::manifest::{Architecture, Llama, Manifest, ManifestError};
use cdi_types::{Cid, LayerRange};
use futures::lock::Mutex;

/// Models that take less than this as 32-bit floats are kept so: exact, and small enough for every tab. Twice what is
/// called small by its file, which mostly holds 16-bit ones.
const EXACT_BELOW_BYTES: u64 = 2 * cdi_swarm::placement::SMALL_MODEL_BYTES;

/// Why a model or its layers were not loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// A block cannot be had.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The manifest is malformed.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The model's tables are malformed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The back end refused.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
}

/// A model whose manifest is here.
pub(super) struct Model {
    pub(super) id: Cid,
    pub(super) manifest: Manifest,
}

impl Model {
    /// Hyperparameters.
    pub(super) const fn llama(&self) -> &Llama {
        let Architecture::Llama(llama) = &self.manifest.architecture;
        llama
    }

    /// The format that its weights are kept in. A function of the manifest alone, so that all nodes with
    /// equal kernels give equal bits.
    fn format(&self) -> WeightFormat {
        let llama = self.llama();
        let widths = [llama.hidden_size, llama.intermediate_size, llama.num_attention_heads * llama.head_dim];
        let blocks = widths.iter().all(|width| width.is_multiple_of(32));
        // What the file takes does not say it: in 4 bits it is an eighth.
        let whole = LayerRange::whole(llama.num_hidden_layers);
        let bytes = whole.map_or(0, |layers| memory_bytes(llama, layers, WeightFormat::F32));
        if bytes >= EXACT_BELOW_BYTES && blocks { WeightFormat::Q8_0 } else { WeightFormat::F32 }
    }
}

/// Reads blocks through the store.
pub(super) struct Loader {
    pub(super) store: BlockStore,
    pub(super) fetcher: Fetcher,
}

impl Loader {
    /// Reads a manifest.
    pub(super) async fn model(&self, id: Cid) -> Result<Model, LoadError> {
        let manifest = Manifest::decode(&self.fetcher.block(&self.store, &id).await?)?;
        Ok(Model { id, manifest })
    }

    /// Reads the `tokenizer.json` of a model.
    pub(super) async fn tokenizer(&self, manifest: &Manifest) -> Result<Vec<u8>, LoadError> {
        if manifest.tokenizer.bytes > MAX_TOKENIZER_BYTES as u64 {
            return Err(ManifestError::Invalid("a tokenizer of absurd length".to_owned()).into());
        }
        let blocks = self.resolve(|nodes| tokenizer_blocks(manifest, nodes)).await?;
        let mut tokenizer = Vec::new();
        for (cid, _) in blocks {
            tokenizer.extend(self.fetcher.block(&self.store, &cid).await?);
        }
        Ok(tokenizer)
    }

    /// Fetches the layers' blocks and loads them, a tensor's rows at a time. Other work on the executor
    /// goes on between blocks.
    pub(super) async fn load(
        &self,
        model: &Model,
        layers: LayerRange,
        executor: &Mutex<Executor<Backend>>,
        mut on_progress: impl FnMut(Progress) + cdi_platform::task::MaybeSend,
    ) -> Result<(Progress, String), LoadError> {
        let plan = self.resolve(|nodes| StagePlan::new(&model.manifest, layers, nodes)).await?;
        let wanted: Vec<Wanted> = plan.blocks().map(|b| Wanted { cid: b.cid, bytes: b.bytes }).collect();
        let mut progress = self.fetcher.all(&self.store, &wanted, &mut on_progress).await?;
        let missing = executor.lock().await.missing(model.id, layers);
        for part in missing {
            let id = StageId { model: model.id, layers: part };
            let part_plan = self.resolve(|nodes| StagePlan::new(&model.manifest, part, nodes)).await?;
            executor.lock().await.begin_stage(id, model.llama(), model.format())?;
            if let Err(error) = self.write(&part_plan, id, executor).await {
                executor.lock().await.abandon(id);
                return Err(error);
            }
            executor.lock().await.finish_stage(id)?;
        }
        progress.kept_in_memory |= self.store.stats().memory_blocks > 0;
        let kernel_id = executor.lock().await.kernel_id(model.format());
        Ok((progress, kernel_id))
    }

    async fn write(&self, plan: &StagePlan, id: StageId, executor: &Mutex<Executor<Backend>>) -> Result<(), LoadError> {
        for tensor in &plan.tensors {
            for block in &tensor.blocks {
                let bytes = self.fetcher.block(&self.store, &block.cid).await?;
                let mut executor = executor.lock().await;
                executor.write_rows(id, tensor.tensor, block.rows.start, tensor.dtype, &bytes)?;
            }
        }
        Ok(())
    }

    /// The CIDs of everything that `layers` need, to pin them, and of the tokenizer: once this tab has asked, it can ask
    /// again without the network.
    pub(super) async fn cids(&self, model: &Model, layers: LayerRange) -> Result<Vec<Cid>, LoadError> {
        let plan = self.resolve(|nodes| StagePlan::new(&model.manifest, layers, nodes)).await?;
        let tables = layers.iter().filter_map(|l| model.manifest.layers.get(l as usize)).copied();
        let tokenizer = self.resolve(|nodes| tokenizer_blocks(&model.manifest, nodes)).await?;
        let own = [model.id, model.manifest.shared];
        let blocks = plan.blocks().map(|b| b.cid);
        Ok(own.into_iter().chain(tables).chain(tokenizer.into_iter().map(|(cid, _)| cid)).chain(blocks).collect())
    }

    /// Runs a pure step again and again, fetching the nodes that it misses.
    async fn resolve<T>(&self, step: impl Fn(&Nodes) -> Result<T, PlanError>) -> Result<T, LoadError> {
        let mut nodes = Nodes::new();
        loop {
            match step(&nodes) {
                Err(PlanError::Missing(cids)) => {
                    for cid in cids {
                        let bytes = self.fetcher.block(&self.store, &cid).await?;
                        nodes.insert(cid, bytes);
                    }
                }
                result => return Ok(result?),
            }
        }
    }
}
