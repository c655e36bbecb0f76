// Our compute worker, as the page runs it: the same module, the same messages, blocks from an HTTP gateway.
//   node cdi.mjs WEB BLOCKS MODULE THREADS PROMPT DECODE REPS
// WEB: what `cargo xtask web` makes. BLOCKS: a directory of blocks named by CID, with model.json.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { measure } from './chromium.mjs';

const [web, blocks, module, ...numbers] = process.argv.slice(2);
const [threads, prompt, decode, reps] = numbers.map(Number);
const model = JSON.parse(readFileSync(path.join(blocks, 'model.json'), 'utf8'));
const modules = path.join(import.meta.dirname, 'node_modules');

await measure({ '/web/': web, '/ipfs/': blocks, '/modules/': modules, '/bench/': import.meta.dirname }, async (task) => {
  const map = document.createElement('script');
  map.type = 'importmap';
  map.textContent = JSON.stringify({ imports: {
    '@ipld/dag-cbor': '/modules/@ipld/dag-cbor/src/index.js',
    'cborg': '/modules/cborg/cborg.js',
    'multiformats/cid': '/modules/multiformats/dist/src/cid.js',
  } });
  document.head.append(map);
  return (await import('/bench/cdi-page.mjs')).run(task);
}, { model, module, threads, prompt, decode, reps });
