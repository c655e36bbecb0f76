// Loads the program: checks what the browser can do, shows the progress, and says so when anything fails.
// Everything it writes is text; everything it shows stands in index.html.

import { worker } from './variant.js';

// The smallest module with a SIMD instruction: () -> v128 { i8x16.splat(i32.const 0) }.
const SIMD_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, // magic, version
  1, 5, 1, 96, 0, 1, 123, // types: () -> v128
  3, 2, 1, 0, // functions: one of type 0
  10, 8, 1, 6, 0, 65, 0, 253, 15, 11, // code
]);

// Before anything is drawn in the wrong colours; theme.rs writes it. Storage may be forbidden.
try {
  document.documentElement.dataset.theme = localStorage.getItem('cdi-theme') ?? 'dark';
} catch { /* dark */ }

// The browser runs no string as a script, and starts no worker but these (index.html asks for it).
const WORKERS = ['worker-boot.js', 'text-boot.js', 'metronome.js', 'sw.js'];
self.trustedTypes?.createPolicy('default', {
  createScriptURL(address) {
    if (WORKERS.some((name) => new URL(address, location.href).href === new URL(name, location.href).href)) return address;
    throw new TypeError(`not a worker of this page: ${address}`);
  },
});

const byId = (id) => document.getElementById(id);

function hasModuleWorkers() {
  let asked = false;
  try {
    // Options are read before the address, which is not one: nothing is started.
    new Worker('https://[', { get type() { asked = true; return 'module'; } });
  } catch { /* always */ }
  return asked;
}

function missingFeatures() {
  const needs = [
    [self.isSecureContext, 'A secure address: this page was opened over plain http.'],
    [typeof WebAssembly === 'object' && WebAssembly.validate(SIMD_MODULE), 'WebAssembly SIMD, which computes the model.'],
    ['RTCPeerConnection' in self, 'WebRTC, which connects tabs. Some privacy extensions turn it off.'],
    ['indexedDB' in self, 'IndexedDB, which keeps layers between visits. Some private windows turn it off.'],
    ['Worker' in self && hasModuleWorkers(), 'Module workers, which compute beside the page.'],
  ];
  return needs.filter(([present]) => !present).map(([, text]) => text);
}

function showUnsupported(missing) {
  byId('boot-missing').replaceChildren(...missing.map((text) => {
    const item = document.createElement('li');
    item.textContent = text;
    return item;
  }));
  byId('boot-loading').hidden = true;
  byId('boot-unsupported').hidden = false;
}

// A response that reports its bytes as they pass, and can still be compiled while it streams.
function observed(response) {
  const bar = byId('boot-progress');
  const status = byId('boot-status');
  // With a content encoding the length counts compressed bytes, the stream plain ones: no percentage then.
  const total = response.headers.has('content-encoding') ? 0 : Number(response.headers.get('content-length'));
  let done = 0;
  const meter = new TransformStream({
    transform(chunk, controller) {
      done += chunk.byteLength;
      if (total > 0) {
        bar.max = total;
        bar.value = Math.min(done, total);
      }
      status.textContent = `Loading the node… ${(done / 1e6).toFixed(1)} MB`;
      controller.enqueue(chunk);
    },
    flush() {
      bar.removeAttribute('value');
      status.textContent = 'Starting the node…';
    },
  });
  return new Response(response.body.pipeThrough(meter), { headers: { 'content-type': 'application/wasm' } });
}

function showFailed(error) {
  byId('boot-reason').textContent = String(error.message ?? error);
  byId('boot-loading').hidden = true;
  byId('boot-failed').hidden = false;
}

function showCrash(details) {
  if (!byId('crash').hidden) return;
  byId('app').inert = true;
  byId('crash-details').textContent = details;
  byId('crash').hidden = false;
  byId('crash-reload').focus();
}

// A panic tells its text first (see crash.rs); a trap of any other kind only shows as an uncaught error.
addEventListener('cdi-crash', (event) => {
  console.error(event.detail);
  showCrash(event.detail);
});
const onUncaught = (error) => {
  if (error instanceof WebAssembly.RuntimeError) showCrash(String(error.stack ?? error));
};
addEventListener('error', (event) => onUncaught(event.error));
addEventListener('unhandledrejection', (event) => onUncaught(event.reason));
byId('crash-reload').addEventListener('click', () => location.reload());

// Everything that this page stored, erased before any of it is open. `profile.rs` asks for it, in every tab.
const ERASE = 'cdi-erase';
new BroadcastChannel('cdi').addEventListener('message', ({ data }) => {
  if (data !== 'erase') return;
  try {
    sessionStorage.setItem(ERASE, '1');
  } catch { /* then it holds nothing either */ }
  location.reload();
});

function isToErase() {
  try {
    return sessionStorage.getItem(ERASE) !== null;
  } catch {
    return false;
  }
}

// A tab that is just leaving holds its databases for a moment: `blocked` is waited for.
function deleteDatabase(name) {
  return new Promise((resolve) => {
    const request = indexedDB.deleteDatabase(name);
    request.onsuccess = () => resolve(null);
    request.onerror = () => resolve(name);
    setTimeout(() => resolve(name), 15_000);
  });
}

async function erase() {
  const registrations = (await navigator.serviceWorker?.getRegistrations()) ?? [];
  await Promise.all(registrations.map((registration) => registration.unregister()));
  // A page that is still served by it would fill its cache again.
  if (navigator.serviceWorker?.controller) return location.reload();
  await Promise.all((await caches.keys()).map((name) => caches.delete(name)));
  const databases = await indexedDB.databases();
  const left = await Promise.all(databases.map(({ name }) => deleteDatabase(name)));
  try {
    const files = await navigator.storage.getDirectory();
    for await (const name of files.keys()) await files.removeEntry(name, { recursive: true });
  } catch { /* there are none, or no place for any */ }
  localStorage.clear();
  const failed = left.filter((name) => name !== null);
  byId('boot-loading').hidden = true;
  if (failed.length === 0) {
    sessionStorage.clear();
    byId('boot-erased').hidden = false;
  } else {
    byId('boot-left').textContent = failed.join(', ');
    byId('boot-not-erased').hidden = false;
  }
}

// The service worker makes the page open offline and tells when another version is there. It is no part of starting.
async function install() {
  if (!('serviceWorker' in navigator)) return;
  try {
    const registration = await navigator.serviceWorker.register('sw.js', { updateViaCache: 'none' });
    const offer = () => {
      if (registration.waiting && navigator.serviceWorker.controller) byId('update').hidden = false;
    };
    offer();
    // What this page fetched before the service worker saw it.
    const { active } = await navigator.serviceWorker.ready;
    active.postMessage({ keep: ['worker-boot.js', `${worker}.js`, `${worker}_bg.wasm`] });
    registration.addEventListener('updatefound', () => {
      registration.installing?.addEventListener('statechange', offer);
    });
    byId('update-reload').addEventListener('click', () => {
      navigator.serviceWorker.addEventListener('controllerchange', () => location.reload());
      registration.waiting?.postMessage('take over');
    });
  } catch (error) {
    console.info('This page will not open offline.', error);
  }
}

async function start() {
  const missing = missingFeatures();
  if (missing.length > 0) return showUnsupported(missing);
  try {
    const [program, response] = await Promise.all([import('./page.js'), fetch('page_bg.wasm')]);
    if (!response.ok) throw new Error(`page_bg.wasm: ${response.status} ${response.statusText}`);
    await program.default({ module_or_path: observed(response) });
    install();
  } catch (error) {
    if (error instanceof WebAssembly.RuntimeError) onUncaught(error);
    else showFailed(error);
  }
}

if (isToErase()) await erase();
else await start();
