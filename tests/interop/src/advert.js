// An announcement as docs/protocol.md describes it, made without any of our own code.
import { encode } from '@ipld/dag-cbor'

const DOMAIN = 'cdi/envelope/1\0'

/** A signed advert of a node that computes nothing. */
export async function signedAdvert (node, { network = 'testnet', lifetimeMs = 60_000, build = 'js', forged = false }) {
  const key = node.components.privateKey
  const advert = {
    build, tier: 'none', shards: [], spare_layers: 0, kv_room: 0, upload_bytes_per_s: 0, hidden: false
  }
  const statement = encode({
    network,
    kind: 'advert',
    sender: key.publicKey.raw,
    sequence: Date.now(),
    expires_ms: Date.now() + lifetimeMs,
    payload: encode(advert)
  })
  const domain = new TextEncoder().encode(DOMAIN)
  const signed = new Uint8Array(domain.length + statement.length)
  signed.set(domain)
  signed.set(statement, domain.length)
  const signature = await key.sign(signed)
  if (forged) signature[0] ^= 1
  return encode({ statement, signature })
}
