"""Measures llama.cpp as it was built for this machine.  python llama_cpp_native.py GGUF THREADS PROMPT DECODE REPS"""
import json
import resource
import sys
import time

import llama_cpp
import numpy as np

path, (threads, prompt, decode, reps) = sys.argv[1], map(int, sys.argv[2:])
model = llama_cpp.Llama(path, n_ctx=prompt + decode, n_batch=prompt, n_ubatch=prompt, n_threads=threads,
                        n_threads_batch=threads, n_gpu_layers=0, verbose=False)
draw = np.random.default_rng(1)
prefills, decodes = [], []
for rep in range(reps + 1):
    ids = draw.integers(300, 900, prompt).tolist()
    model.reset()
    begun = time.perf_counter()
    model.eval(ids)
    first = time.perf_counter()
    for _ in range(decode):
        model.eval([model.sample(temp=0.0, top_k=1)])
    if rep > 0:  # the first run warms caches and clocks
        prefills.append(prompt / (first - begun))
        decodes.append(decode / (time.perf_counter() - first))
print(json.dumps({"variant": llama_cpp.__version__, "threads": threads, "prefill": prefills, "decode": decodes,
                  "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}))
