// Entry of the compute worker; an uncaught error here closes the page's port, which shows it.
import { worker } from './variant.js';

const { default: start } = await import(`./${worker}.js`);
await start({ module_or_path: new URL(`${worker}_bg.wasm`, import.meta.url) });
