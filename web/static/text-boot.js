// Entry of the text worker; an uncaught error here closes the page's port, which shows it.
import start from './text.js';

await start({ module_or_path: new URL('text_bg.wasm', import.meta.url) });
