//! Which tensors a range of layers has, and their shapes. The importer, the plan and the builder share this list.

use std::fmt;

use cdi_types::LayerRange;
use cdi_types::manifest::{Llama, Tensor};

/// Name of the embedding matrix in the shared table.
pub const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the final norm in the shared table.
pub const FINAL_NORM: &str = "model.norm.weight";
/// Name of an output head of its own in the shared table.
pub const HEAD: &str = "lm_head.weight";

/// Tables of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Tensors that belong to no layer.
    Shared,
    /// Tensors of this layer.
    Layer(u32),
}

/// Names one tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorRef {
    /// Its table.
    pub table: Table,
    /// Its name there.
    pub name: &'static str,
}

impl fmt::Display for TensorRef {
    /// The name in the Hugging Face layout.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.table {
            Table::Shared => f.write_str(self.name),
            Table::Layer(layer) => write!(f, "model.layers.{layer}.{}", self.name),
        }
    }
}

/// Shape of a weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Elements of a vector.
    Vector(u32),
    /// Rows (outputs) and columns (inputs) of a matrix.
    Matrix(u32, u32),
}

/// A tensor and the shape that the hyperparameters give it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorSpec {
    /// The tensor.
    pub tensor: TensorRef,
    /// Its shape.
    pub shape: Shape,
}

/// A stored tensor has another shape than the hyperparameters say.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tensor {tensor} has the shape {found:?}, expected {expected:?}")]
pub struct WrongShape {
    /// Its name in the Hugging Face layout.
    pub tensor: String,
    /// Its shape.
    pub found: Vec<u32>,
    /// The shape that the hyperparameters give it.
    pub expected: Vec<u32>,
}

impl Shape {
    /// Rows and columns, a vector being one row.
    #[must_use]
    pub const fn rows_cols(self) -> (u32, u32) {
        match self {
            Self::Vector(n) => (1, n),
            Self::Matrix(rows, cols) => (rows, cols),
        }
    }

    /// Dimensions, outermost first.
    #[must_use]
    pub fn dims(self) -> Vec<u32> {
        match self {
            Self::Vector(n) => vec![n],
            Self::Matrix(rows, cols) => vec![rows, cols],
        }
    }
}

impl TensorSpec {
    /// Checks the shape of a stored tensor.
    ///
    /// # Errors
    /// [`WrongShape`].
    pub fn check(&self, found: &[u32]) -> Result<(), WrongShape> {
        let expected = self.shape.dims();
        if expected == found {
            return Ok(());
        }
        Err(WrongShape { tensor: self.tensor.to_string(), found: found.to_vec(), expected })
    }

    /// [`TensorSpec::check`] for an entry of a table.
    ///
    /// # Errors
    /// [`WrongShape`].
    pub fn check_stored(&self, stored: &Tensor) -> Result<(), WrongShape> {
        self.check(&stored.shape)
    }
}

/// The tensors that the layers `layers` of `llama` need: the embedding with the first layer, final norm and
/// head with the last. A tied head is the embedding matrix, listed once.
#[must_use]
pub fn needed(llama: &Llama, layers: LayerRange) -> Vec<TensorSpec> {
    let shared = |name, shape| TensorSpec { tensor: TensorRef { table: Table::Shared, name }, shape };
    let vocabulary = Shape::Matrix(llama.vocab_size, llama.hidden_size);
    let (first, last) = (is_first(layers), is_last(llama, layers));
    let mut specs = Vec::new();
    if first || (last && llama.tie_word_embeddings) {
        specs.push(shared(EMBEDDING, vocabulary));
    }
    if last {
        specs.push(shared(FINAL_NORM, Shape::Vector(llama.hidden_size)));
    }
    if last && !llama.tie_word_embeddings {
        specs.push(shared(HEAD, vocabulary));
    }
    specs.extend(layers.iter().flat_map(|layer| {
        layer_shapes(llama)
            .map(|(name, shape)| TensorSpec { tensor: TensorRef { table: Table::Layer(layer), name }, shape })
    }));
    specs
}

/// Whether the range takes token ids.
#[must_use]
pub const fn is_first(layers: LayerRange) -> bool {
    layers.first() == 0
}

/// Whether the range gives logits.
#[must_use]
pub const fn is_last(llama: &Llama, layers: LayerRange) -> bool {
    layers.end() == llama.num_hidden_layers
}

/// Tensors of one layer. The products cannot overflow within the bounds of [`Llama::validate`].
fn layer_shapes(llama: &Llama) -> [(&'static str, Shape); 9] {
    let (hidden, ffn) = (llama.hidden_size, llama.intermediate_size);
    let queries = llama.num_attention_heads * llama.head_dim;
    let keys = llama.num_key_value_heads * llama.head_dim;
    [
        ("input_layernorm.weight", Shape::Vector(hidden)),
        ("self_attn.q_proj.weight", Shape::Matrix(queries, hidden)),
        ("self_attn.k_proj.weight", Shape::Matrix(keys, hidden)),
        ("self_attn.v_proj.weight", Shape::Matrix(keys, hidden)),
        ("self_attn.o_proj.weight", Shape::Matrix(hidden, queries)),
        ("post_attention_layernorm.weight", Shape::Vector(hidden)),
        ("mlp.gate_proj.weight", Shape::Matrix(ffn, hidden)),
        ("mlp.up_proj.weight", Shape::Matrix(ffn, hidden)),
        ("mlp.down_proj.weight", Shape::Matrix(hidden, ffn)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn llama(tied: bool) -> Llama {
        Llama {
            vocab_size: 10,
            hidden_size: 8,
            intermediate_size: 16,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 4,
            max_position_embeddings: 32,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: tied,
        }
    }

    fn shared(tied: bool, layers: &str) -> Vec<&'static str> {
        let specs = needed(&llama(tied), layers.parse().expect("a range"));
        specs.into_iter().filter(|s| s.tensor.table == Table::Shared).map(|s| s.tensor.name).collect()
    }

    #[test]
    fn each_end_brings_its_shared_tensors() {
        assert_eq!(shared(true, "0-1"), [EMBEDDING]);
        assert!(shared(true, "1-2").is_empty());
        assert_eq!(shared(true, "2-3"), [EMBEDDING, FINAL_NORM]);
        assert_eq!(shared(true, "0-3"), [EMBEDDING, FINAL_NORM]);
        assert_eq!(shared(false, "2-3"), [FINAL_NORM, HEAD]);
        assert_eq!(shared(false, "0-3"), [EMBEDDING, FINAL_NORM, HEAD]);
        assert_eq!(needed(&llama(true), "1-2".parse().expect("a range")).len(), 18);
    }

    #[test]
    fn shapes_are_checked() {
        let layers = "3-3".parse().expect("a range");
        let specs = needed(&llama(true), layers);
        let q = specs.iter().find(|s| s.tensor.name.contains("q_proj")).expect("listed");
        assert_eq!(q.check(&[16, 8]), Ok(()));
        let wrong = q.check(&[8, 16]).expect_err("refused");
        assert_eq!(wrong.tensor, "model.layers.3.self_attn.q_proj.weight");
    }
}
