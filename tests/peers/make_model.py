"""Writes a Llama network with random weights as GGUF: real shapes and formats, numbers without meaning.

    python make_model.py SHAPE TYPE OUT.gguf      SHAPE: tiny, smol135, tinyllama; TYPE: f16, q8_0, q4_0

The numbers of a tensor are a function of its name alone, so equal arguments give equal files. Q4_0 keeps the output matrix
(or the tied embedding) in Q8_0, as llama.cpp's own recipe keeps it above 4 bits.
"""
import sys
import zlib

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

# hidden, layers, heads, kv heads, feed-forward, vocabulary, rotary base, context, tied
SHAPES = {
    "tiny": (256, 4, 4, 2, 768, 4096, 10_000.0, 2048, True),
    "smol135": (576, 30, 9, 3, 1536, 49_152, 100_000.0, 8192, True),  # SmolLM2-135M
    "tinyllama": (2048, 22, 32, 4, 5632, 32_000, 10_000.0, 2048, False),  # TinyLlama-1.1B
}
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
TEMPLATE = ("{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
# Rows that are drawn and rounded at once: 2 ^ 24 elements at most.
CHUNK = 1 << 24


def vocabulary(size):
    """Bytes, then every word of a blank and two letters as one token, then tokens that no text has."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    letters, blank = [chr(c) for c in range(97, 123)], "\u0120"
    merges = [f"{blank} {a}" for a in letters] + [f"{blank}{a} {b}" for a in letters for b in letters]
    tokens = SPECIAL + characters + [m.replace(" ", "") for m in merges]
    return tokens + [f"<unused{i}>" for i in range(size - len(tokens))], merges


def values(name, rows, cols, std, mean=0.0):
    """The tensor in pieces of whole rows."""
    draw = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    step = max(1, CHUNK // cols)
    for first in range(0, rows, step):
        yield draw.standard_normal((min(step, rows - first), cols), dtype=np.float32) * std + mean


def main(shape, kind, out):
    h, layers, heads, kv, f, vocab, base, context, tied = SHAPES[shape]
    dim = h // heads
    w = gguf.GGUFWriter(out, "llama")
    w.add_name(f"{shape}-{kind}")
    w.add_context_length(context); w.add_embedding_length(h); w.add_block_count(layers); w.add_feed_forward_length(f)
    w.add_head_count(heads); w.add_head_count_kv(kv); w.add_rope_dimension_count(dim); w.add_rope_freq_base(base)
    w.add_layer_norm_rms_eps(1e-5); w.add_vocab_size(vocab)
    tokens, merges = vocabulary(vocab)
    w.add_tokenizer_model("gpt2"); w.add_tokenizer_pre("gpt-2"); w.add_token_list(tokens); w.add_token_merges(merges)
    w.add_token_types([gguf.TokenType.CONTROL if t in SPECIAL else gguf.TokenType.NORMAL for t in tokens])
    w.add_bos_token_id(0); w.add_eos_token_id(0); w.add_add_bos_token(False); w.add_chat_template(TEMPLATE)

    def matrix(name, rows, cols, std=None):
        head = name == ("token_embd.weight" if tied else "output.weight")
        dtype = {"f16": T.F16, "q8_0": T.Q8_0, "q4_0": T.Q8_0 if head else T.Q4_0}[kind]
        # One draw for all types: the same weights, rounded to f16 first.
        parts = (p.astype(np.float16) for p in values(name, rows, cols, std or cols**-0.5))
        if dtype == T.F16:
            return w.add_tensor(name, np.concatenate(list(parts)))
        w.add_tensor(name, np.concatenate([gguf.quantize(p.astype(np.float32), dtype) for p in parts]), raw_dtype=dtype)

    norm = lambda name: w.add_tensor(name, next(values(name, 1, h, 0.1, 1.0))[0])
    matrix("token_embd.weight", vocab, h, std=0.05)
    for i in range(layers):
        p = f"blk.{i}."
        norm(p + "attn_norm.weight")
        matrix(p + "attn_q.weight", h, h)
        matrix(p + "attn_k.weight", kv * dim, h)
        matrix(p + "attn_v.weight", kv * dim, h)
        matrix(p + "attn_output.weight", h, h)
        norm(p + "ffn_norm.weight")
        matrix(p + "ffn_gate.weight", f, h)
        matrix(p + "ffn_up.weight", f, h)
        matrix(p + "ffn_down.weight", h, f)
    norm("output_norm.weight")
    if not tied:
        matrix("output.weight", vocab, h)
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
