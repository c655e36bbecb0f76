//! Names of the tensors in a file, and the order of their rows.

use crate::tensors::{EMBEDDING, FINAL_NORM, HEAD, Table, TensorRef};

/// The name that GGUF gives a tensor of a Llama network.
/// Source: <https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py>.
pub(crate) fn stored_name(tensor: TensorRef) -> String {
    let name = match tensor.name {
        EMBEDDING => "token_embd",
        FINAL_NORM => "output_norm",
        HEAD => "output",
        "input_layernorm.weight" => "attn_norm",
        "self_attn.q_proj.weight" => "attn_q",
        "self_attn.k_proj.weight" => "attn_k",
        "self_attn.v_proj.weight" => "attn_v",
        "self_attn.o_proj.weight" => "attn_output",
        "post_attention_layernorm.weight" => "ffn_norm",
        "mlp.gate_proj.weight" => "ffn_gate",
        "mlp.up_proj.weight" => "ffn_up",
        "mlp.down_proj.weight" => "ffn_down",
        // A tensor without a name of its own is reported as missing.
        other => other,
    };
    match tensor.table {
        Table::Shared => format!("{name}.weight"),
        Table::Layer(layer) => format!("blk.{layer}.{name}.weight"),
    }
}

/// Whether the file holds the rows of each head interleaved.
///
/// llama.cpp rotates element `2i` with `2i + 1`, Hugging Face's layout, which ours is, `i` with `i + head_dim / 2`; its
/// converter reorders the rows of queries and keys so that the same numbers are rotated together.
pub(crate) fn is_interleaved(tensor: TensorRef) -> bool {
    matches!(tensor.name, "self_attn.q_proj.weight" | "self_attn.k_proj.weight")
}
