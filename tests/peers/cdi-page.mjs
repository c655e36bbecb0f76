// Runs in the page: speaks the messages of crates/node/src/compute/protocol.rs with the worker.
import { decode as read, encodeOptions } from '@ipld/dag-cbor';
import { Token, Type, encode } from 'cborg';
import { CID } from 'multiformats/cid';

// A number that is written as a float even where it is whole, which JavaScript does not tell.
class Float {
  constructor(value) { this.value = value; }
}
const toCid = encodeOptions.typeEncoders.Object;
const toTokens = (value) => (value instanceof Float ? [new Token(Type.float, value.value)] : toCid(value));
const options = { ...encodeOptions, typeEncoders: { ...encodeOptions.typeEncoders, Object: toTokens } };
const GREEDY = { temperature: new Float(0), top_k: 0, top_p: new Float(1), seed: 0 };

// Requests out, answers in, one at a time.
class Half {
  constructor(module) {
    const source = `import start from '${location.origin}/web/${module}.js';
      await start({ module_or_path: '${location.origin}/web/${module}_bg.wasm' });`;
    this.worker = new Worker(URL.createObjectURL(new Blob([source], { type: 'text/javascript' })), { type: 'module' });
    this.next = 1;
    this.ready = new Promise((resolve, reject) => {
      this.worker.onerror = (event) => reject(new Error(event.message || 'the worker did not load'));
      this.worker.onmessage = ({ data }) => (data === 'ready' ? resolve() : reject(new Error(String(data))));
    });
  }

  ask(ask) {
    const header = encode({ id: this.next++, ask }, options);
    const parts = [header.slice().buffer, new ArrayBuffer(0)];
    return new Promise((resolve, reject) => {
      this.worker.onmessage = ({ data }) => {
        if (typeof data === 'string') return reject(new Error(data));
        const { answer } = read(new Uint8Array(data[0]));
        if (answer.progress) return undefined;
        return answer.failed ? reject(new Error(answer.failed.message)) : resolve(answer);
      };
      this.worker.postMessage(parts, parts);
    });
  }
}

export async function run({ model: { protocol, cid, layers, vocab }, module, threads, prompt, decode, reps }) {
  const half = new Half(module);
  await half.ready;
  const model = CID.parse(cid);
  const { started } = await half.ask({ start: {
    version: protocol, network: 'testnet', gateways: [location.origin], store_bytes: 8e9, kv_bytes: 1e9, prefer: 'cpu',
  } });
  await half.ask({ open_model: { model } });
  const all = [0, layers - 1];
  const begun = performance.now();
  const { loaded } = await half.ask({ load: { model, layers: all, pin: false } });
  const load_ms = performance.now() - begun;
  const result = { variant: loaded.kernel_id, threads, tier: started.tier, load_ms, prefill: [], decode: [] };
  for (let rep = 0; rep <= reps; rep++) {
    const stage = { session: new Uint8Array(16).fill(rep + 1), layer: 0 };
    await half.ask({ open_stage: { stage, model, layers: all, positions: prompt + decode } });
    const step = (start, tokens) => half.ask({ step: { stage, start, tokens, sample: [start + tokens.length - 1, GREEDY] } });
    const ids = Array.from({ length: prompt }, (_, i) => (300 + rep * 7919 + i * 97) % vocab);
    const start = performance.now();
    let { tokens } = await step(0, ids);
    const first = performance.now();
    for (let i = 0; i < decode; i++) ({ tokens } = await step(prompt + i, [tokens[0][1]]));
    const end = performance.now();
    await half.ask({ close_stage: { stage } });
    if (rep === 0) continue; // the first run warms caches and the compiler
    result.prefill.push(prompt / (first - start) * 1e3);
    result.decode.push(decode / (end - first) * 1e3);
  }
  return result;
}
