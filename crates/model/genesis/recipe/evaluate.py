"""Check the exported model with Hugging Face transformers under greedy decoding.

    python evaluate.py --work work --model out

1. The library's logits agree with the training network's (same weights, float32).
2. Test questions, none of which occurs in the training text -> <model>/eval.json: corpus.EVAL ("development": its
   result at a checkpoint of phase 1 was seen before phase 2 was written) and FRESH (never used for a decision).
3. Held-out wordings of every fact, arithmetic tables, capitals, echo, stories -> printed and summarised.
"""
import argparse
import json
import random
import re
import time

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import corpus
import train


# Written after the training text was final and never used to change it.
FRESH = [
    ("What's the big idea of CDI in a few words?", "swarm|many tabs|large models together", "what_cdi"),
    ("So how do all these tabs manage to answer one prompt?", "shard|pipeline", "how_works"),
    ("Does somebody own this network?", "Nobody owns|no owner", "owner"),
    ("Are the sources of the project public?", "open source", "open_source"),
    ("I would like to become part of the swarm, what must I do?", "open the page|Open the page", "join"),
    ("Do I need some special software for this?", "nothing to install|Nothing has to be installed", "install"),
    ("Is signing up required?", "account", "account"),
    ("Is there any charge for using CDI?", "free", "cost"),
    ("I only have an old iPhone, can it host something?", "phone", "phone"),
    ("Tell me, what is a shard of a model?", "layers", "shard"),
    ("What is the job of a stage in the pipeline?", "contiguous range of layers", "stage"),
    ("What kind of numbers travel between two tabs?", "activations|Activations|int8|f16", "activations"),
    ("Through which technology do two browsers exchange data?", "WebRTC", "webrtc"),
    ("What's libp2p good for in this project?", "peer-to-peer", "libp2p"),
    ("Why does the swarm need relays?", "introduces tabs", "relay"),
    ("Is it the relay that executes the model?", "tabs", "relay_compute"),
    ("Can anybody set up a relay of their own?", "anybody|Anybody", "run_relay"),
    ("My router uses NAT, will I still be able to join?", "relay", "nat"),
    ("Which APIs does the relay speak?", "OpenAI", "api"),
    ("I have an app for Ollama, can it talk to the swarm?", "Ollama", "ollama"),
    ("Can I watch the answer appear token by token?", "streamed|token by token", "streaming"),
    ("In which database does a tab save its shard?", "IndexedDB", "indexeddb"),
    ("Must the weights be downloaded again after I reload?", "new download|nothing is downloaded", "reload"),
    ("What makes a content hash useful?", "bytes", "content_hash"),
    ("How does CDI make use of the graphics card?", "WebGPU", "webgpu"),
    ("Is a computer without a GPU useless for the swarm?", "WASM SIMD|do not need a GPU", "no_gpu"),
    ("What happens to my answer if one of the tabs disappears?", "replays", "failover"),
    ("Will failover alter the text I get?", "identical", "same_answer"),
    ("Why does each answer come with a receipt?", "signed record", "receipt"),
    ("Which things are listed in a receipt?", "tokens and signed hashes|lists the model", "receipt_content"),
    ("What if a tab sends garbage on purpose?", "recompute|recomputing", "cheat"),
    ("What's the use of golden tickets?", "hidden test question", "golden"),
    ("What do contribution credits give me?", "priority", "credits"),
    ("How do I get more credits?", "host", "earn"),
    ("Is buying tokens necessary?", "optional", "need_token"),
    ("What is the upper limit of the token supply?", "21 million", "cap"),
    ("How does private mode hide what I write?", "embedding and the head", "private_mode"),
    ("Can strangers see what I typed?", "activations", "privacy"),
    ("Can a web page like this harm my computer?", "sandbox", "sandbox"),
    ("Is the data between tabs encrypted?", "encrypted", "encrypted"),
    ("What do Scouts and Oracles do?", "drafts tokens", "roles"),
    ("What's the KV cache there for?", "keys and values", "kv"),
    ("What is the tokenizer's job?", "token", "tokenizer"),
    ("Is a sharded model quicker than a local one?", "hop|locally is faster", "faster"),
    ("What does speculative decoding bring?", "one pass", "speculation"),
    ("Should the tab stay visible?", "hidden tab", "hidden_tab"),
    ("Which kinds of model files can I load?", "safetensors, GGUF and ONNX", "formats"),
    ("Who exactly are you?", "Genesis", "who"),
    ("How many weights are in you?", "3.6 million", "size"),
    ("Are you the same as GPT-4?", "Genesis", "chatgpt"),
    ("Do you ever say wrong things?", "wrong|mistakes", "wrong"),
    ("Why is the sky blue in the morning and red in the evening?", "very small model", "oos"),
    ("Who painted the ceiling of the Sistine Chapel?", "very small model", "oos"),
    ("How do I change a flat tyre?", "very small model", "oos"),
    ("Summarise the plot of Romeo and Juliet.", "very small model", "oos"),
    ("What is 1234 plus 5678?", "very small model", "oos"),
    ("Give me a regular expression for email addresses.", "very small model", "oos"),
    ("Which city is Italy's capital?", "Rome", "skill"),
    ("How much do 8 and 5 make?", "13", "skill"),
    ("Which day is after Thursday?", "Friday", "skill"),
]


class Chat:
    def __init__(self, path, dtype=torch.float32):
        self.tok = AutoTokenizer.from_pretrained(path)
        self.tok.padding_side = "left"
        self.model = AutoModelForCausalLM.from_pretrained(path, torch_dtype=dtype).eval()

    @torch.no_grad()
    def answers(self, chats, max_new_tokens=220):
        """Greedy answers to a list of chats (a chat is a question or a list of messages)."""
        chats = [[{"role": "user", "content": c}] if isinstance(c, str) else c for c in chats]
        out = []
        for i in range(0, len(chats), 32):
            enc = self.tok.apply_chat_template(chats[i:i + 32], add_generation_prompt=True, return_tensors="pt",
                                               padding=True, return_dict=True)
            ids = self.model.generate(**enc, max_new_tokens=max_new_tokens, do_sample=False)
            out += [self.tok.decode(r[enc["input_ids"].shape[1]:], skip_special_tokens=True).strip() for r in ids]
        return out


def contains(key, answer):
    return any(k.lower() in answer.lower() for k in key.split("|"))


def check_parity(work, chat):
    net = train.Net()
    state = torch.load(f"{work}/ckpt/phase2.pt", weights_only=True)
    net.load_state_dict({k: v.half().float() for k, v in state.items()})
    ids = chat.tok.apply_chat_template([{"role": "user", "content": "What is a shard?"}, {"role": "assistant", "content": "A part."}],
                                       return_tensors="pt")
    with torch.no_grad():
        return (net(ids) - chat.model(ids).logits).abs().max().item()


def story_checks(text, kind, name):
    """Form of a story: it is about the kind, the name that it gives stays, it ends properly, length in sentences."""
    hero = re.search(r"(?:named|called) ([A-Z][a-z]+)|^([A-Z][a-z]+) was an? ", text)
    hero = hero and (hero.group(1) or hero.group(2))
    sentences = len(re.findall(r"[.!?]\"?(?:\s|$)", text))
    return {"kind": kind in text.lower(), "hero_stays": bool(hero) and len(re.findall(rf"\b{hero}\b", text)) >= 2,
            "name": name is None or hero == name, "ends": text[-1:] in ".\"!", "sentences": 5 <= sentences <= 10}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default="work")
    ap.add_argument("--model", default="out")
    ap.add_argument("--preset", choices=sorted(train.PRESETS), default="genesis")
    ap.add_argument("--quick", action="store_true", help="only the test questions")
    ap.add_argument("--no-parity", action="store_true")
    a = ap.parse_args()
    train.CFG.update(train.PRESETS[a.preset])
    torch.set_num_threads(2)
    t0 = time.time()
    chat = Chat(a.model)
    summary = {}
    if not a.no_parity:
        summary["max_logit_difference"] = round(check_parity(a.work, chat), 6)

    asked = set()
    for name in ("train", "phase2"):
        with open(f"{a.work}/corpus/{name}.jsonl") as f:
            for line in f:
                asked |= {corpus.plain(m["content"]) for m in json.loads(line)["messages"] if m["role"] == "user"}
    tests = [(*t, "development") for t in corpus.EVAL] + [(*t, "fresh") for t in FRESH]
    known = [t[0] for t in tests if corpus.plain(t[0]) in asked]
    if known:
        print("dropped, because the training text has them:", known)
    tests = [t for t in tests if t[0] not in known]
    items = []
    for (q, key, topic, group), ans in zip(tests, chat.answers([t[0] for t in tests])):
        items.append({"question": q, "must_contain": key.split("|"), "topic": topic, "set": group, "answer": ans, "pass": contains(key, ans)})
    for group in ("development", "fresh", None):
        part = [i["pass"] for i in items if group in (None, i["set"])]
        summary["test_" + (group or "all")] = {"questions": len(part), "passed": sum(part), "rate": round(sum(part) / len(part), 4)}
    for i in items:
        print("PASS" if i["pass"] else "FAIL", "|", i["question"], "|", i["answer"])

    if not a.quick:
        facts = {fid: answers for fid, _, answers in corpus.FACTS}
        held = [json.loads(line) for line in open(f"{a.work}/corpus/heldout.jsonl")]
        fact = [r for r in held if r["kind"] == "fact"]
        got = chat.answers([r["messages"][0]["content"] for r in fact])
        bad = [(r["messages"][0]["content"], g) for r, g in zip(fact, got) if g not in facts[r["id"]]]
        summary["held_out_wordings"] = {"questions": len(fact), "exact_answer": len(fact) - len(bad)}
        print("\nheld-out wordings that got another answer:")
        for q, g in bad:
            print("  ", q, "|", g)

        oos = [r for r in held if r["kind"] == "out_of_scope"]
        got = chat.answers([r["messages"][:-1] for r in oos])
        good = [contains("very small model", g) for g in got]
        summary["out_of_scope"] = {"questions": len(oos), "declined": sum(good)}
        print("\nout-of-scope questions that were answered:")
        for r, g, k in zip(oos, got, good):
            if not k:
                print("  ", r["messages"][-2]["content"], "|", g)

        sums = [(f"What is {x} plus {y}?", x + y) for x in range(10) for y in range(10)]
        sums += [(f"What is {x} minus {y}?", x - y) for x in range(10) for y in range(x + 1)]
        sums += [(f"What is {x} times {y}?", x * y) for x in range(10) for y in range(10)]
        got = chat.answers([q for q, _ in sums], 24)
        ok = [bool(re.search(rf"is {r}\.", g)) for (_, r), g in zip(sums, got)]
        summary["single_digit_arithmetic"] = {"sums": len(sums), "right": sum(ok)}
        got = chat.answers([f"Could you name the capital of {c}?" for c, _ in corpus.CAPITALS], 24)
        summary["capitals"] = {"countries": len(got), "right": sum(t in g for (_, t), g in zip(corpus.CAPITALS, got))}
        rng = random.Random(99)
        lines = [" ".join(rng.choice(corpus.WORDS) for _ in range(rng.randint(2, 5))) for _ in range(50)]
        got = chat.answers([f"Repeat after me: {s}" for s in lines], 40)
        summary["echo"] = {"lines": 50, "right": sum(s == g for s, g in zip(lines, got))}

        kinds = ["fox", "robot", "rabbit", "dragon", "penguin", "pirate", "witch", "cloud", "bear", "princess", "frog", "teapot"]
        asks = [(k, None, f"Please tell me a story about {corpus.article(k)}!") for k in kinds]
        asks += [(k, n, f"Tell me a story about {corpus.article(k)} named {n}.") for k, n in zip(kinds, "Nora Max Ella Toby Ivy Gus Clara Milo Ned Stella Leo Poppy".split())]
        got = chat.answers([q for _, _, q in asks])
        res = [story_checks(g, k, n) for (k, n, _), g in zip(asks, got)]
        summary["stories"] = {"asked": len(res), **{c: sum(r[c] for r in res) for c in res[0]}}
        print()
        for (_, _, q), g in list(zip(asks, got))[::3]:
            print(q, "|", g, "\n")
        names = ["Sam", "Anna", "Priya", "Leo", "Omar", "Grace", "Walter", "Nina"]
        got = chat.answers([[{"role": "user", "content": f"My name is {n}."}, {"role": "assistant", "content": f"Nice to meet you, {n}! How can I help?"},
                             {"role": "user", "content": "What is a shard?"}, {"role": "assistant", "content": facts["shard"][0]},
                             {"role": "user", "content": "What is my name?"}] for n in names], 24)
        summary["remembers_name"] = {"chats": len(names), "right": sum(n in g for n, g in zip(names, got))}

    out = {"how": "greedy decoding with Hugging Face transformers, float32 arithmetic on the float16 weights, no system message; "
                  "a question passes when its answer contains one of must_contain (ignoring case); no question occurs in the training text; "
                  "the set 'development' was measured once before phase 2 of the training text was written, the set 'fresh' never",
           "summary": summary, "questions": items}
    with open(f"{a.model}/eval.json", "w") as f:
        json.dump(out, f, indent=1, ensure_ascii=False)
        f.write("\n")
    print(json.dumps(summary, indent=1), f"\n{time.time() - t0:.0f} s")


if __name__ == "__main__":
    main()
