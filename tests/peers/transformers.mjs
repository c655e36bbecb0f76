// transformers.js on onnxruntime-web.  node transformers.mjs DIR DEVICE THREADS PROMPT DECODE REPS
// DIR: what make_onnx.py wrote. DEVICE: wasm or webgpu.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { measure } from './chromium.mjs';

const [dir, device, ...numbers] = process.argv.slice(2);
const [threads, prompt, decode, reps] = numbers.map(Number);
const modules = path.join(import.meta.dirname, 'node_modules');
const exact = JSON.parse(readFileSync(path.join(modules, '@huggingface/transformers/package.json'), 'utf8')).version;

await measure({ '/modules/': modules, '/models/': path.dirname(path.resolve(dir)) }, async (task) => {
  const { exact, model, device, threads, prompt, decode, reps } = task;
  const { AutoModelForCausalLM, Tensor, env } = await import('/modules/@huggingface/transformers/dist/transformers.min.js');
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: '/models/', useBrowserCache: false, useWasmCache: false });
  env.backends.onnx.wasm.wasmPaths = `${location.origin}/modules/onnxruntime-web/dist/`;
  env.backends.onnx.wasm.numThreads = threads;
  const begun = performance.now();
  const network = await AutoModelForCausalLM.from_pretrained(model, { dtype: 'q4', device });
  const result = { variant: exact, threads, load_ms: performance.now() - begun, prefill: [], decode: [] };
  for (let rep = 0; rep <= reps; rep++) {
    const ids = BigInt64Array.from({ length: prompt }, (_, i) => BigInt(300 + (rep * 7919 + i * 97) % 600));
    const input_ids = new Tensor('int64', ids, [1, prompt]);
    const attention_mask = new Tensor('int64', new BigInt64Array(prompt).fill(1n), [1, prompt]);
    const at = [];
    // The first call hands over the prompt; then one a token.
    const streamer = { put() { at.push(performance.now()); }, end() {} };
    const start = performance.now();
    const tokens = decode + 1;
    await network.generate({ input_ids, attention_mask, max_new_tokens: tokens, min_new_tokens: tokens, do_sample: false, streamer });
    const times = at.slice(1);
    if (rep === 0) continue; // the first run warms caches and the compiler
    result.prefill.push(prompt / (times[0] - start) * 1e3);
    result.decode.push((times.length - 1) / (times.at(-1) - times[0]) * 1e3);
  }
  return result;
}, { exact, model: path.basename(dir), device, threads, prompt, decode, reps });
