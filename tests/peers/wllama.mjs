// llama.cpp in WebAssembly by way of npm.  node wllama.mjs GGUF VERSION THREADS PROMPT DECODE REPS    (VERSION: 2 or 3)
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { measure } from './chromium.mjs';

const [gguf, version, ...numbers] = process.argv.slice(2);
const [threads, prompt, decode, reps] = numbers.map(Number);
const modules = path.join(import.meta.dirname, 'node_modules');
const name = version === '2' ? 'wllama-2' : '@wllama/wllama';
const exact = JSON.parse(readFileSync(path.join(modules, name, 'package.json'), 'utf8')).version;

await measure({ '/modules/': modules, '/model/': path.dirname(path.resolve(gguf)) }, async (task) => {
  const { name, exact, file, threads, prompt, decode, reps } = task;
  const { Wllama } = await import(`/modules/${name}/esm/index.js`);
  const base = `${location.origin}/modules/${name}/esm/`;
  const quiet = { debug() {}, log() {}, warn() {}, error() {} };
  const two = exact.startsWith('2.');
  const wasm = two
    ? { 'single-thread/wllama.wasm': `${base}single-thread/wllama.wasm`, 'multi-thread/wllama.wasm': `${base}multi-thread/wllama.wasm` }
    : { default: `${base}wasm/wllama.wasm` };
  const engine = new Wllama(wasm, { suppressNativeLog: true, logger: quiet });
  const blob = await (await fetch(`/model/${file}`)).blob();
  const begun = performance.now();
  const settings = { n_threads: threads, n_ctx: 1024, n_batch: 512 };
  await engine.loadModel([blob], two ? settings : { ...settings, n_ubatch: 512, n_gpu_layers: 0, n_parallel: 1, warmup: true });
  const result = { variant: exact, load_ms: performance.now() - begun, prefill: [], decode: [] };
  result.threads = engine.isMultithread() ? threads : 1;
  for (let rep = 0; rep <= reps; rep++) {
    let prefill, decoded;
    if (two) {
      await engine.kvClear();
      await engine.samplingInit({ temp: 0, top_k: 1 });
      const start = performance.now();
      await engine.decode(Array.from({ length: prompt }, (_, i) => 300 + (rep * 7919 + i * 97) % 600), {});
      const first = performance.now();
      for (let i = 0; i < decode; i++) {
        const { token } = await engine.samplingSample();
        await engine.samplingAccept([token]);
        await engine.decode([token], {});
      }
      [prefill, decoded] = [prompt / (first - start) * 1e3, decode / (performance.now() - first) * 1e3];
    } else {
      // Words of one token each; no prompt begins as the one before it did, or it would be taken from a cache.
      const word = (i) => ` ${String.fromCharCode(97 + (i + rep) % 26, 97 + (i * 7 + rep) % 26)}`;
      const text = Array.from({ length: prompt }, (_, i) => word(i)).join('');
      const { timings } = await engine.createCompletion({
        prompt: text, max_tokens: decode, temperature: 0, top_k: 1, ignore_eos: true,
      });
      // Where the model's words are not of one token, the engine says how many it had.
      prefill = timings.prompt_n / timings.prompt_ms * 1e3;
      decoded = (timings.predicted_n - 1) / timings.predicted_ms * 1e3;
      result.prompt = timings.prompt_n;
    }
    if (rep === 0) continue; // the first run warms caches and the compiler
    result.prefill.push(prefill);
    result.decode.push(decoded);
  }
  await engine.exit();
  return result;
}, { name, exact, file: path.basename(gguf), threads, prompt, decode, reps });
