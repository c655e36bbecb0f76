// Bundles the peers: `node build.js <directory with node_modules> <output directory>`.
import { createRequire } from 'node:module'
import { cp, mkdir } from 'node:fs/promises'
import { join } from 'node:path'

const [installed, out] = process.argv.slice(2)
const { build } = createRequire(join(installed, 'package.json'))('esbuild')
// The packages lie elsewhere, so that the source tree stays as it is.
const shared = { bundle: true, minify: true, logLevel: 'warning', nodePaths: [join(installed, 'node_modules')] }
await mkdir(out, { recursive: true })
await build({ ...shared, entryPoints: ['src/page.js', 'src/raw.js'], outdir: out, format: 'esm', platform: 'browser' })
await build({
  ...shared,
  entryPoints: { peer: 'src/node.js', firefox: 'src/firefox.js', clients: 'src/clients.js' },
  outdir: out,
  outExtension: { '.js': '.mjs' },
  format: 'esm',
  platform: 'node',
  target: 'node18',
  // Bundled CommonJS asks for Node's own modules this way.
  banner: { js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);" }
})
await cp('pages', out, { recursive: true })
