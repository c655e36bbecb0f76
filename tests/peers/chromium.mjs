// A page in headless Chromium with a server behind it, and the memory that the browser takes.
import { createReadStream, readFileSync, readdirSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import path from 'node:path';
import { chromium } from 'playwright-core';

const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };
const FLAGS = [
  '--no-sandbox', '--no-first-run', '--disable-quic', '--disable-background-networking', '--disable-component-update',
  '--disable-sync', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader',
];
// Cross-origin isolated, as the relay serves our page: engines with threads get them.
const HEADERS = {
  'cache-control': 'no-store',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-embedder-policy': 'require-corp',
  'cross-origin-resource-policy': 'same-origin',
};

// Serves files: `roots` maps a prefix of the address to a directory. `/` is an empty page.
export function serve(roots) {
  const server = createServer((request, response) => {
    const address = decodeURIComponent(new URL(request.url, 'http://localhost').pathname);
    const root = Object.keys(roots).find((prefix) => address.startsWith(prefix));
    const file = root && path.join(roots[root], path.normalize('/' + address.slice(root.length)));
    if (address === '/') {
      response.writeHead(200, { ...HEADERS, 'content-type': 'text/html' }).end('<!doctype html><meta charset=utf-8>');
      return;
    }
    const size = file && statSync(file, { throwIfNoEntry: false })?.size;
    if (size === undefined) {
      response.writeHead(404, HEADERS).end();
      return;
    }
    const type = TYPES[path.extname(file)] ?? 'application/octet-stream';
    const range = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    const end = range?.[2] ? Math.min(Number(range[2]), size - 1) : size - 1;
    response.writeHead(range ? 206 : 200, {
      ...HEADERS, 'content-type': type, 'accept-ranges': 'bytes', 'content-length': end - start + 1,
      ...(range && { 'content-range': `bytes ${start}-${end}/${size}` }),
    });
    if (request.method === 'HEAD') response.end();
    else createReadStream(file, { start, end }).pipe(response);
  });
  return new Promise((done) => server.listen(0, '127.0.0.1', () => done(server)));
}

// Runs `inPage(argument)` in a fresh page and prints its result, with the peak of memory, as one line of JSON.
export async function measure(roots, inPage, argument) {
  const server = await serve(roots);
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, headless: true, args: FLAGS });
  try {
    const page = await browser.newPage();
    page.on('pageerror', (error) => console.error(String(error)));
    page.on('console', (message) => process.env.VERBOSE && console.error(message.text()));
    await page.goto(`http://127.0.0.1:${server.address().port}/`);
    const empty = residentBytes();
    let peak = empty;
    const watch = setInterval(() => { peak = Math.max(peak, residentBytes()); }, 250);
    const result = await page.evaluate(inPage, argument);
    clearInterval(watch);
    console.log(JSON.stringify({ ...result, peak_mb: peak / 1e6, empty_mb: empty / 1e6 }));
  } finally {
    await browser.close();
    server.close();
  }
}

// Anonymous and shared memory of every process below this one, in bytes. Only Linux tells.
function residentBytes() {
  const read = (file) => { try { return readFileSync(file, 'utf8'); } catch { return ''; } };
  const children = new Map();
  let processes;
  try { processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name)); } catch { return 0; }
  for (const id of processes) {
    const parent = /\) \S+ (\d+)/.exec(read(`/proc/${id}/stat`))?.[1];
    children.set(parent, [...(children.get(parent) ?? []), id]);
  }
  const kilobytes = (id) => [...read(`/proc/${id}/status`).matchAll(/^Rss(?:Anon|Shmem):\s+(\d+)/gm)]
    .reduce((sum, match) => sum + Number(match[1]), 0);
  let sum = 0;
  for (const pending = [...(children.get(String(process.pid)) ?? [])]; pending.length > 0;) {
    const id = pending.pop();
    sum += kilobytes(id) * 1024;
    pending.push(...(children.get(id) ?? []));
  }
  return sum;
}
