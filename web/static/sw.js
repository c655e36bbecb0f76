// Makes the page open offline, and new versions quick: files are kept by the hash of their content, so that a new
// version fetches only what has changed, and never mixes with an old one. It caches and does nothing else: peer
// connections and kernels cannot live here.

// `cargo xtask web` writes the files of the page and the beginnings of their SHA-256 here.
const FILES = {/* files */};
// What is fetched when somebody needs it: a host needs no tokenizer, and one variant of the kernels is enough.
const ON_DEMAND = /^(text|worker)/;

const CACHE = 'cdi-page';
const keyOf = (name) => new URL(`${name}?${FILES[name]}`, registration.scope).href;

async function hashOf(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return [...digest.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
}

// Fetches a file of this version into the cache; what another version has in its place is not kept.
async function fetched(name) {
  const response = await fetch(new URL(name, registration.scope), { cache: 'no-cache' });
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  if (await hashOf(await response.clone().arrayBuffer()) !== FILES[name]) return { response, kept: false };
  const cache = await caches.open(CACHE);
  await cache.put(keyOf(name), response.clone());
  return { response, kept: true };
}

async function respond(name) {
  const cache = await caches.open(CACHE);
  const known = await cache.match(keyOf(name));
  return known ?? (await fetched(name)).response;
}

self.addEventListener('install', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    const shell = Object.keys(FILES).filter((name) => !ON_DEMAND.test(name));
    await Promise.all(shell.map(async (name) => {
      if (await cache.match(keyOf(name))) return;
      const { kept } = await fetched(name);
      if (!kept) throw new Error(`${name} is of another version`);
    }));
  })());
});

self.addEventListener('activate', (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    const wanted = new Set(Object.keys(FILES).map(keyOf));
    const kept = await cache.keys();
    await Promise.all(kept.filter(({ url }) => !wanted.has(url)).map((request) => cache.delete(request)));
    await clients.claim();
  })());
});

self.addEventListener('message', (event) => {
  if (event.data === 'take over') skipWaiting();
  const names = event.data?.keep ?? [];
  event.waitUntil(Promise.all(names.filter((name) => Object.hasOwn(FILES, name)).map(respond)));
});

self.addEventListener('fetch', (event) => {
  const { method, url } = event.request;
  const { pathname } = new URL(url);
  const scope = new URL(registration.scope);
  if (method !== 'GET' || new URL(url).origin !== scope.origin || !pathname.startsWith(scope.pathname)) return;
  const name = pathname.slice(scope.pathname.length) || 'index.html';
  if (Object.hasOwn(FILES, name)) event.respondWith(respond(name));
});
