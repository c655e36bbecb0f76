"""Train the Genesis demo model on the generated corpus (CPU, a few tens of minutes).

Inputs : <work>/corpus/{train,heldout}.jsonl written by corpus.py
Outputs: <work>/tokenizer.json, <work>/ckpt/*.pt (plain checkpoints), <out>/ (Hugging Face folder)

The network is a plain Llama: RMSNorm, rotary embeddings, grouped-query attention, SwiGLU, tied
embeddings. It is written out here because a small fused implementation is faster on a CPU than the
library's; `export` writes the library's layout and evaluate.py checks that both agree.
"""
import argparse
import json
import math
import os
import random
import shutil
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
EOT, START, END = 0, 1, 2
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] "
    "+ '<|im_end|>' + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
COMMON = dict(vocab=2560, head_dim=32, context=512, theta=10000.0, eps=1e-5)
PRESETS = {
    "genesis": COMMON | dict(layers=8, hidden=192, heads=6, kv_heads=2, ffn=512),
    # Proposes tokens that genesis checks: less than a fifth of its parameters, the same tokenizer.
    "draft": COMMON | dict(layers=4, hidden=96, heads=3, kv_heads=1, ffn=256),
}
CFG = dict(PRESETS["genesis"])


# ---------------------------------------------------------------- tokenizer

def train_tokenizer(work, given=None):
    """The tokenizer of <work>, copied from the file `given` or trained where there is none."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    path = f"{work}/tokenizer.json"
    if given:
        shutil.copyfile(given, path)
    if os.path.exists(path):
        return Tokenizer.from_file(path)
    tok = Tokenizer(models.BPE(unk_token=None, byte_fallback=False))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ])
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=CFG["vocab"], special_tokens=SPECIALS, min_frequency=2, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))

    def texts():
        with open(f"{work}/corpus/train.jsonl") as f:
            for i, line in enumerate(f):
                if i >= 60000:
                    break
                for m in json.loads(line)["messages"]:
                    yield m["role"] + "\n" + m["content"]

    tok.train_from_iterator(texts(), trainer)
    assert tok.get_vocab_size() == CFG["vocab"], tok.get_vocab_size()
    tok.save(path)
    return tok


def encode(tok, path):
    """One list of (ids, loss weights) a conversation, in file order, with its kind."""
    convs, kinds, segments = [], [], []
    with open(path) as f:
        for line in f:
            r = json.loads(line)
            kinds.append(r["kind"])
            convs.append([(m["role"], len(segments) + i) for i, m in enumerate(r["messages"])])
            segments += [m["role"] + "\n" + m["content"] for m in r["messages"]]
    enc = []
    for i in range(0, len(segments), 50000):
        enc += [e.ids for e in tok.encode_batch(segments[i:i + 50000], add_special_tokens=False)]
    newline = tok.encode("\n", add_special_tokens=False).ids
    head = len(tok.encode("assistant\n", add_special_tokens=False).ids)
    out = []
    for conv in convs:
        ids, w = [], []
        for role, s in conv:
            body = enc[s]
            ids += [START] + body + [END] + newline
            if role == "assistant":
                w += [0.1] * (1 + head) + [1.0] * (len(body) - head) + [1.0] + [0.1] * len(newline)
            else:
                w += [0.1] * (2 + len(body) + len(newline))
        ids.append(EOT)
        w.append(0.1)
        out.append((np.array(ids, np.int32), np.array(w, np.float32)))
    return out, kinds


class Packer:
    """Fills rows of `length` tokens with whole conversations; a row starts at a conversation's start."""

    def __init__(self, convs, seed):
        self.convs, self.rng = convs, random.Random(seed)
        self.order, self.at, self.spare = [], 0, []

    def _next(self):
        if self.at >= len(self.order):
            self.order = list(range(len(self.convs)))
            self.rng.shuffle(self.order)
            self.at = 0
        c = self.convs[self.order[self.at]]
        self.at += 1
        return c

    def _take(self, room, length):
        for i, c in enumerate(self.spare):
            if len(c[0]) <= room:
                return self.spare.pop(i)
        for _ in range(12):
            c = self._next()
            if len(c[0]) <= room or (room == length and len(c[0]) > length):
                return c
            if len(self.spare) < 64:
                self.spare.append(c)
        return None

    def batch(self, rows, length):
        x = np.zeros((rows, length + 1), np.int64)
        w = np.zeros((rows, length + 1), np.float32)
        for r in range(rows):
            n = 0
            while n < length - 8:
                c = self._take(length + 1 - n, length + 1)
                if c is None:
                    break
                k = min(len(c[0]), length + 1 - n)
                x[r, n:n + k], w[r, n:n + k] = c[0][:k], c[1][:k]
                n += k
        x, w = torch.from_numpy(x), torch.from_numpy(w)
        return x[:, :-1], x[:, 1:], w[:, 1:]


# ---------------------------------------------------------------- network

def rms(x, weight):
    v = x.float()
    v = v * torch.rsqrt(v.pow(2).mean(-1, keepdim=True) + CFG["eps"])
    return v.to(x.dtype) * weight.to(x.dtype)


def rope_tables(length):
    d = CFG["head_dim"]
    inv = 1.0 / (CFG["theta"] ** (torch.arange(0, d, 2).float() / d))
    a = torch.outer(torch.arange(length).float(), inv)
    a = torch.cat([a, a], -1)
    return a.cos(), a.sin()


def rotate(x, cos, sin):
    h = x.shape[-1] // 2
    r = torch.cat([-x[..., h:], x[..., :h]], -1)
    return x * cos + r * sin


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        h, d = CFG["hidden"], CFG["head_dim"]
        self.n1, self.n2 = nn.Parameter(torch.ones(h)), nn.Parameter(torch.ones(h))
        self.qkv = nn.Linear(h, (CFG["heads"] + 2 * CFG["kv_heads"]) * d, bias=False)
        self.o = nn.Linear(CFG["heads"] * d, h, bias=False)
        self.gate_up = nn.Linear(h, 2 * CFG["ffn"], bias=False)
        self.down = nn.Linear(CFG["ffn"], h, bias=False)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        nh, nk, d = CFG["heads"], CFG["kv_heads"], CFG["head_dim"]
        y = self.qkv(rms(x, self.n1)).view(b, t, nh + 2 * nk, d).transpose(1, 2)
        qk = rotate(y[:, :nh + nk], cos.to(y.dtype), sin.to(y.dtype))
        q, k, v = qk[:, :nh], qk[:, nh:], y[:, nh + nk:]
        k = k[:, :, None].expand(b, nk, nh // nk, t, d).reshape(b, nh, t, d)
        v = v[:, :, None].expand(b, nk, nh // nk, t, d).reshape(b, nh, t, d)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, nh * d))
        g, u = self.gate_up(rms(x, self.n2)).chunk(2, -1)
        return x + self.down(F.silu(g) * u)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(CFG["vocab"], CFG["hidden"])
        self.layers = nn.ModuleList(Layer() for _ in range(CFG["layers"]))
        self.norm = nn.Parameter(torch.ones(CFG["hidden"]))
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if "embed" in name else p.shape[1] ** -0.5 * 0.6
                if name.endswith(("o.weight", "down.weight")):
                    std /= math.sqrt(2 * CFG["layers"])
                nn.init.normal_(p, std=std)
        cos, sin = rope_tables(CFG["context"])
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(self, x):
        t = x.shape[1]
        h = self.embed(x)
        if torch.is_autocast_enabled("cpu"):
            h = h.to(torch.bfloat16)
        for layer in self.layers:
            h = layer(h, self.cos[:t], self.sin[:t])
        return F.linear(rms(h, self.norm), self.embed.weight)

    def loss(self, x, y, w):
        logits = self(x)
        ce = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none")
        w = w.flatten()
        return (ce * w).sum() / w.sum()


# ---------------------------------------------------------------- export

def export(state, work, out, dtype=torch.float16):
    from safetensors.torch import save_file
    os.makedirs(out, exist_ok=True)
    nh, nk, d, f = CFG["heads"], CFG["kv_heads"], CFG["head_dim"], CFG["ffn"]
    t = {"model.embed_tokens.weight": state["embed.weight"], "model.norm.weight": state["norm"]}
    for i in range(CFG["layers"]):
        p, s = f"model.layers.{i}.", f"layers.{i}."
        q, k, v = state[s + "qkv.weight"].split([nh * d, nk * d, nk * d])
        gate, up = state[s + "gate_up.weight"].split([f, f])
        t |= {p + "self_attn.q_proj.weight": q, p + "self_attn.k_proj.weight": k,
              p + "self_attn.v_proj.weight": v, p + "self_attn.o_proj.weight": state[s + "o.weight"],
              p + "mlp.gate_proj.weight": gate, p + "mlp.up_proj.weight": up,
              p + "mlp.down_proj.weight": state[s + "down.weight"],
              p + "input_layernorm.weight": state[s + "n1"],
              p + "post_attention_layernorm.weight": state[s + "n2"]}
    save_file({k: v.to(dtype).contiguous().clone() for k, v in t.items()},
              f"{out}/model.safetensors", metadata={"format": "pt"})
    write = lambda name, obj: open(f"{out}/{name}", "w").write(json.dumps(obj, indent=2) + "\n")
    write("config.json", {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama",
        "vocab_size": CFG["vocab"], "hidden_size": CFG["hidden"], "intermediate_size": f,
        "num_hidden_layers": CFG["layers"], "num_attention_heads": nh, "num_key_value_heads": nk,
        "head_dim": d, "hidden_act": "silu", "max_position_embeddings": CFG["context"],
        "rms_norm_eps": CFG["eps"], "rope_theta": CFG["theta"], "rope_scaling": None,
        "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0,
        "tie_word_embeddings": True, "initializer_range": 0.02, "pretraining_tp": 1,
        "bos_token_id": START, "eos_token_id": END, "pad_token_id": EOT,
        "torch_dtype": str(dtype).split(".")[1], "use_cache": True})
    write("generation_config.json", {
        "bos_token_id": START, "eos_token_id": [END, EOT], "pad_token_id": EOT,
        "do_sample": False, "max_new_tokens": 220})
    special = {"bos_token": SPECIALS[START], "eos_token": SPECIALS[END], "pad_token": SPECIALS[EOT]}
    write("special_tokens_map.json", special | {"additional_special_tokens": SPECIALS[1:]})
    write("tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": CFG["context"],
        "clean_up_tokenization_spaces": False, "add_bos_token": False, "add_prefix_space": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "additional_special_tokens": SPECIALS[1:], **special,
        "added_tokens_decoder": {str(i): {
            "content": s, "lstrip": False, "normalized": False, "rstrip": False,
            "single_word": False, "special": True} for i, s in enumerate(SPECIALS)},
        "chat_template": CHAT_TEMPLATE})
    open(f"{out}/tokenizer.json", "w").write(open(f"{work}/tokenizer.json").read())


# ---------------------------------------------------------------- training

@torch.no_grad()
def heldout_loss(net, batches, bf16):
    """Mean loss on the assistant's tokens, by kind and over all."""
    net.eval()
    res = {}
    for kind, (x, y, w) in batches.items():
        m = (w > 0.5).float()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = net(x)
        ce = F.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none")
        res[kind] = ((ce * m.flatten()).sum().item(), m.sum().item())
    net.train()
    total = sum(a for a, _ in res.values()) / sum(n for _, n in res.values())
    return total, {k: round(a / n, 4) for k, (a, n) in res.items()}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--out", default="out")
    ap.add_argument("--preset", choices=sorted(PRESETS), default="genesis")
    ap.add_argument("--tokenizer", help="use this tokenizer.json instead of training one")
    ap.add_argument("--steps", type=int, default=3000)
    ap.add_argument("--tokens", type=int, default=4096, help="tokens a step")
    ap.add_argument("--lr", type=float, default=2e-3)
    ap.add_argument("--warmup", type=int, default=100)
    ap.add_argument("--long-every", type=int, default=6, help="each n-th step uses rows of 512 tokens")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--eval-every", type=int, default=250)
    ap.add_argument("--max-minutes", type=float, default=0, help="shorten the schedule to fit, 0 = off")
    ap.add_argument("--data", default="train", help="<work>/corpus/<data>.jsonl")
    ap.add_argument("--stop", type=int, default=0, help="stop here although the schedule goes on, 0 = off")
    ap.add_argument("--init", help="start from this checkpoint's weights")
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--fp32", action="store_true")
    a = ap.parse_args()
    CFG.update(PRESETS[a.preset])
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    os.makedirs(f"{a.work}/ckpt", exist_ok=True)

    tok = train_tokenizer(a.work, a.tokenizer)
    train, _ = encode(tok, f"{a.work}/corpus/{a.data}.jsonl")
    held, kinds = encode(tok, f"{a.work}/corpus/heldout.jsonl")
    print(f"{len(train)} conversations, {sum(len(c[0]) for c in train) / 1e6:.2f} M tokens; "
          f"{len(held)} held out", flush=True)
    packer = Packer(train, a.seed)
    batches = {}
    for kind in sorted(set(kinds)):
        part = [c for c, k in zip(held, kinds) if k == kind]
        batches[kind] = Packer(part, 7).batch(24, 256)

    net = Net()
    if a.init:
        net.load_state_dict(torch.load(a.init, weights_only=True))
    params = sum(p.numel() for p in net.parameters())
    print(f"{params} parameters", flush=True)
    decay = [p for p in net.parameters() if p.dim() == 2]
    rest = [p for p in net.parameters() if p.dim() < 2]
    opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}],
                            lr=a.lr, betas=(0.9, 0.98), eps=1e-9, fused=True)
    step_loss = torch.compile(net.loss, dynamic=False) if a.compile else net.loss
    t0, seen, steps, log = time.time(), 0, a.steps, []
    ema = None
    step = 0
    while step < (a.stop or steps):
        if a.max_minutes and step in (60, 250, 600):   # fit the cosine to the time that there is
            rate = (time.time() - t0) / step
            steps = min(a.steps, int(a.max_minutes * 60 / rate))
            print(f"schedule: {steps} steps at {rate:.3f} s", flush=True)
        length = 512 if step % a.long_every == a.long_every - 1 else 256
        x, y, w = packer.batch(a.tokens // length, length)
        frac = min(1.0, max(0.0, (step - a.warmup) / max(1, steps - a.warmup)))
        lr = a.lr * min(1.0, (step + 1) / a.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * frac)))
        for g in opt.param_groups:
            g["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16, enabled=not a.fp32):
            loss = step_loss(x, y, w)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        step += 1
        seen += x.numel()
        v = loss.item()
        ema = v if ema is None else 0.97 * ema + 0.03 * v
        if step % 50 == 0 or step <= 3:
            dt = time.time() - t0
            print(f"{step}/{steps} loss {ema:.4f} lr {lr:.2e} {seen / dt:.0f} tok/s {dt / 60:.1f} min", flush=True)
        if step % a.eval_every == 0 or step in (steps, a.stop):
            total, by = heldout_loss(net, batches, not a.fp32)
            log.append({"step": step, "tokens": seen, "minutes": round((time.time() - t0) / 60, 2),
                        "train": round(ema, 4), "heldout": round(total, 4), "by_kind": by})
            print("heldout", json.dumps(log[-1]), flush=True)
            torch.save(net.state_dict(), f"{a.work}/ckpt/{a.data}.pt.tmp")
            os.replace(f"{a.work}/ckpt/{a.data}.pt.tmp", f"{a.work}/ckpt/{a.data}.pt")
            with open(f"{a.work}/{a.data}_log.json", "w") as f:
                json.dump({"args": vars(a), "parameters": params, "log": log}, f, indent=1)
    export(net.state_dict(), a.work, a.out)
    print(f"done: {steps} steps, {seen / 1e6:.2f} M tokens, {(time.time() - t0) / 60:.1f} min", flush=True)


if __name__ == "__main__":
    main()
