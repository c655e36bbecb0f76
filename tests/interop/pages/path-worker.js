// The worker of worker.html.
import init, { work } from './links.js'

await init({ module_or_path: 'links_bg.wasm' })
await work()
