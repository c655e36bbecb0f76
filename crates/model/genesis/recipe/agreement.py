"""How often a draft model proposes the token that the model chooses, both greedy.

    python agreement.py --model .. --draft ../../genesis-draft

Both see the model's own answers to the test questions (eval.json of the model); at each position of an answer the
draft's most likely token is compared with the model's. With windows of four proposals, checked from the start of
each answer, the mean number of accepted proposals a window says what speculation gains.
"""
import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WINDOW = 4


@torch.no_grad()
def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--model", default="..")
    ap.add_argument("--draft", default="../../genesis-draft")
    a = ap.parse_args()
    tok = AutoTokenizer.from_pretrained(a.model)
    load = lambda path: AutoModelForCausalLM.from_pretrained(path, torch_dtype=torch.float32).eval()
    model, draft = load(a.model), load(a.draft)
    questions = [q["question"] for q in json.load(open(f"{a.model}/eval.json"))["questions"]]
    same = total = accepted = windows = 0
    for question in questions:
        enc = tok.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True,
                                      return_tensors="pt", return_dict=True)
        n = enc["input_ids"].shape[1]
        ids = model.generate(**enc, max_new_tokens=120, do_sample=False)[0]
        hits = (draft(ids[None]).logits[0, n - 1:-1].argmax(-1) == ids[n:]).tolist()
        same, total, at = same + sum(hits), total + len(hits), 0
        while at < len(hits):
            run = hits[at:at + WINDOW]
            ok = run.index(False) if False in run else len(run)
            accepted, windows, at = accepted + ok, windows + 1, at + ok + 1
    print(json.dumps({"questions": len(questions), "tokens": total, "agreement": round(same / total, 4),
                      "accepted_of_4": round(accepted / windows, 2)}))


if __name__ == "__main__":
    main()
