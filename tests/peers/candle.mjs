// candle's quantised Llama in WebAssembly, SIMD128, one thread.  node candle.mjs PACKAGE GGUF PROMPT DECODE REPS
// PACKAGE: the directory with the bindings of ./candle. Its rayon needs a thread pool that it does not bring.
import path from 'node:path';
import { measure } from './chromium.mjs';

const [bindings, gguf, ...numbers] = process.argv.slice(2);
const [prompt, decode, reps] = numbers.map(Number);

await measure({ '/candle/': bindings, '/model/': path.dirname(path.resolve(gguf)) }, async ({ file, prompt, decode, reps }) => {
  const { default: init, Model, version } = await import('/candle/cdi_peer_candle.js');
  await init({ module_or_path: '/candle/cdi_peer_candle_bg.wasm' });
  const begun = performance.now();
  const response = await fetch(`/model/${file}`);
  const model = new Model(new Uint8Array(await response.arrayBuffer()));
  const result = { variant: version(), threads: 1, load_ms: performance.now() - begun, prefill: [], decode: [] };
  for (let rep = 0; rep <= reps; rep++) {
    const ids = Uint32Array.from({ length: prompt }, (_, i) => 300 + (rep * 7919 + i * 97) % 600);
    const start = performance.now();
    let id = model.eval(ids, 0);
    const first = performance.now();
    for (let i = 0; i < decode; i++) id = model.eval(Uint32Array.of(id), prompt + i);
    const end = performance.now();
    if (rep === 0) continue; // the first run warms caches and the compiler
    result.prefill.push(prompt / (first - start) * 1e3);
    result.decode.push(decode / (end - first) * 1e3);
  }
  return result;
}, { file: path.basename(gguf), prompt, decode, reps });
