// Entry of the compute worker; an uncaught error here closes the page's port, which shows it.
import start from './worker.js';

await start({ module_or_path: new URL('worker_bg.wasm', import.meta.url) });
