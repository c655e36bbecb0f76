"""Writes a Q4_0 GGUF file as the ONNX graph that transformers.js runs.  python make_onnx.py GGUF DIR

The graph is that of the usual exporters: MatMulNBits with 4 bits in blocks of 32, and GroupQueryAttention, which rotates.
Matrices keep their bits; the output matrix, which the file holds in 8 bits, is rounded to 4, as those exporters do.
"""
import json
import os
import sys

import gguf
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"


class Graph:
    def __init__(self, reader):
        self.tensors = {t.name: t for t in reader.tensors}
        self.nodes, self.weights = [], []

    def constant(self, name, values):
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def node(self, op, inputs, output, outputs=1, domain="", **attributes):
        names = [output] if outputs == 1 else [output] + [""] * (outputs - 2) + [f"{output}.sum"]
        self.nodes.append(helper.make_node(op, inputs, names, name=output, domain=domain, **attributes))
        return output

    def floats(self, name):
        t = self.tensors[name]
        return gguf.dequantize(t.data, t.tensor_type).astype(np.float32)

    def matmul(self, x, name, output):
        t = self.tensors[name]
        stored = t.data if t.tensor_type == gguf.GGMLQuantizationType.Q4_0 else gguf.quantize(
            self.floats(name), gguf.GGMLQuantizationType.Q4_0)
        rows = stored.shape[0]
        blocks = stored.reshape(rows, -1, 18)
        scales = blocks[..., :2].copy().view(np.float16).astype(np.float32).reshape(rows, -1)
        # Elements i and i + 16 share a byte in the file, 2i and 2i + 1 in the graph.
        quants = np.concatenate([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], axis=-1)
        packed = (quants[..., ::2] | quants[..., 1::2] << 4).astype(np.uint8)
        return self.node("MatMulNBits", [x, self.constant(f"{output}.q", packed),
                                         self.constant(f"{output}.s", scales.reshape(-1))], output, domain=MICROSOFT,
                         K=blocks.shape[1] * 32, N=rows, bits=4, block_size=32, accuracy_level=4)


def main(path, out):
    reader = gguf.GGUFReader(path)
    field = lambda key: reader.fields[key].contents()
    g = Graph(reader)
    layers, heads = field("llama.block_count"), field("llama.attention.head_count")
    kv, h = field("llama.attention.head_count_kv"), field("llama.embedding_length")
    context, base = field("llama.context_length"), field("llama.rope.freq_base")
    eps = float(field("llama.attention.layer_norm_rms_epsilon"))
    dim = h // heads
    embedding = g.floats("token_embd.weight")
    vocab = embedding.shape[0]
    angles = np.outer(np.arange(context), base ** (-np.arange(0, dim, 2) / dim))
    cos, sin = (g.constant(n, f(angles).astype(np.float32)) for n, f in (("cos", np.cos), ("sin", np.sin)))

    axes = g.constant("axes", np.array([1], np.int64))
    count = g.node("ReduceSum", ["attention_mask", axes], "positions", keepdims=0)
    last = g.node("Sub", [count, g.constant("one", np.array([1], np.int64))], "last")
    lengths = g.node("Cast", [last], "seqlens_k", to=TensorProto.INT32)
    total = g.node("Gather", [g.node("Shape", ["attention_mask"], "mask_shape"),
                              g.constant("second", np.array(1, np.int64))], "total64", axis=0)
    total = g.node("Cast", [total], "total", to=TensorProto.INT32)

    x = g.node("Gather", [g.constant("embedding", embedding), "input_ids"], "embedded")
    inputs, outputs = [], []
    ids = helper.make_tensor_value_info
    # transformers.js knows the first dimension of an empty cache by its name.
    cache = lambda name, positions: ids(name, TensorProto.FLOAT, ["batch_size", kv, positions, dim])

    def norm(x, name, output):
        return g.node("SimplifiedLayerNormalization", [x, g.constant(f"{output}.w", g.floats(name))], output,
                      axis=-1, epsilon=eps, stash_type=1)

    for i in range(layers):
        p, past, present = f"blk.{i}.", f"past_key_values.{i}.", f"present.{i}."
        n = norm(x, p + "attn_norm.weight", p + "n1")
        q, k, v = (g.matmul(n, f"{p}attn_{m}.weight", p + m) for m in "qkv")
        g.nodes.append(helper.make_node(
            "GroupQueryAttention", [q, k, v, past + "key", past + "value", lengths, total, cos, sin],
            [p + "mixed", present + "key", present + "value"], name=p + "attention", domain=MICROSOFT,
            num_heads=heads, kv_num_heads=kv, do_rotary=1, rotary_interleaved=1, scale=dim ** -0.5))
        x = g.node("Add", [x, g.matmul(p + "mixed", p + "attn_output.weight", p + "o")], p + "x1")
        n = norm(x, p + "ffn_norm.weight", p + "n2")
        gate, up = (g.matmul(n, f"{p}ffn_{m}.weight", p + m) for m in ("gate", "up"))
        silu = g.node("Mul", [gate, g.node("Sigmoid", [gate], p + "sigmoid")], p + "silu")
        fed = g.matmul(g.node("Mul", [silu, up], p + "hidden"), p + "ffn_down.weight", p + "down")
        x = g.node("Add", [x, fed], p + "x2")
        for part in ("key", "value"):
            inputs.append(cache(past + part, "past"))
            outputs.append(cache(present + part, "total"))
    x = norm(x, "output_norm.weight", "normed")
    head = "output.weight" if "output.weight" in g.tensors else "token_embd.weight"
    g.matmul(x, head, "logits")

    graph = helper.make_graph(
        g.nodes, "llama",
        [ids("input_ids", TensorProto.INT64, ["batch_size", "rows"]), ids("attention_mask", TensorProto.INT64, ["batch_size", "total"]),
         *inputs],
        [ids("logits", TensorProto.FLOAT, ["batch_size", "rows", vocab]), *outputs], g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)],
                              ir_version=9)
    os.makedirs(f"{out}/onnx", exist_ok=True)
    onnx.save(model, f"{out}/onnx/model_q4.onnx")
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", hidden_size=h, num_hidden_layers=layers,
                  num_attention_heads=heads, num_key_value_heads=kv, head_dim=dim, vocab_size=vocab, bos_token_id=0,
                  eos_token_id=0, max_position_embeddings=context)
    for name, value in (("config", config), ("generation_config", dict(bos_token_id=0, eos_token_id=0))):
        with open(f"{out}/{name}.json", "w") as f:
            json.dump(value, f)


if __name__ == "__main__":
    main(*sys.argv[1:])
