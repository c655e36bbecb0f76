// A js-libp2p peer that does what it is told: one function a command, with JSON in and out.
// `page.js` offers them to WebDriver, `node.js` over standard input.
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { gossipsub } from '@libp2p/gossipsub'
import { identify, identifyPush } from '@libp2p/identify'
import { kadDHT, passthroughMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { signedAdvert } from './advert.js'
import * as streams from './streams.js'

const TOPIC = 'cdi-network/peer-announce'
const KAD = '/cdi/testnet/1/kad'
/** Only a broken program takes this long. */
const PATIENCE_MS = 30_000

let node
/** Connections by the peer at the other end; the newest dial decides which one streams take. */
const connections = new Map()
/** Who was heard on the announce topic: peer id to number of bytes of its last message. */
const heard = new Map()

/** Runs `task` with a signal that ends it when it takes too long. */
const patiently = (task) => task({ signal: AbortSignal.timeout(PATIENCE_MS) })

/** Makes the commands of a peer that has these transports beside circuits. */
export function commands (transports) {
  return {
    /** Starts the peer; returns its id. */
    async start ({ listen = [] }) {
      node = await createLibp2p({
        addresses: { listen },
        transports: [circuitRelayTransport(), ...transports],
        connectionEncrypters: [noise()],
        streamMuxers: [yamux()],
        // Browsers' default refuses loopback.
        connectionGater: { denyDialMultiaddr: async () => false },
        services: {
          // It also runs by itself on a new connection, and by default one stream at a time may.
          identify: identify({ maxOutboundStreams: 4 }),
          identifyPush: identifyPush(),
          ping: ping(),
          pubsub: gossipsub({ allowPublishToZeroTopicPeers: true }),
          kad: kadDHT({
            protocol: KAD,
            clientMode: true,
            peerInfoMapper: passthroughMapper,
            validators: { cdi: async () => {} },
            selectors: { cdi: () => 0 }
          })
        }
      })
      streams.serve(node)
      node.addEventListener('connection:open', ({ detail }) => {
        // A direct connection is preferred, as by our own nodes.
        const known = connections.get(String(detail.remotePeer))
        if (known?.status !== 'open' || known.limits != null) connections.set(String(detail.remotePeer), detail)
      })
      node.services.pubsub.addEventListener('message', ({ detail }) => {
        if (detail.topic === TOPIC) heard.set(String(detail.from), detail.data.length)
      })
      node.services.pubsub.subscribe(TOPIC)
      return String(node.peerId)
    },

    /** Dials an address that ends with a peer id; says how it is reached. */
    async dial (address) {
      const begin = performance.now()
      const connection = await patiently((options) => node.dial(multiaddr(address), options))
      connections.set(String(connection.remotePeer), connection)
      return { ms: performance.now() - begin, address: String(connection.remoteAddr), limited: connection.limits != null }
    },

    /** Waits for a listen address that contains `part`, such as a reservation's. */
    async listening (part) {
      const find = () => node.getMultiaddrs().map(String).find((address) => address.includes(part))
      await until(find, 'self:peer:update')
      return find()
    },

    /** Waits for a connection to `peer` whose address contains `part`. */
    async connected (peer, part) {
      const find = () => node.getConnections().find((c) => String(c.remotePeer) === peer &&
        String(c.remoteAddr).includes(part))
      await until(find, 'connection:open')
      connections.set(peer, find())
      return String(find().remoteAddr)
    },

    /** Waits until no connection to `peer` is left. */
    async disconnected (peer) {
      await until(() => node.getConnections().every((c) => String(c.remotePeer) !== peer), 'peer:disconnect')
    },

    /** What a connected peer says of itself. */
    async identify (peer) {
      const said = await patiently((options) => node.services.identify.identify(connections.get(peer), options))
      return { agent: said.agentVersion, family: said.protocolVersion, protocols: said.protocols, peer: String(said.peerId) }
    },

    /** A ping's round trip in milliseconds. */
    async ping (peer) {
      return patiently((options) => node.services.ping.ping(connections.get(peer).remoteAddr, options))
    },

    /** Echoes `bytes` bytes over one stream and closes it cleanly; fails unless the same bytes come back. */
    async echo (peer, bytes) {
      return patiently((options) => streams.echo(connections.get(peer), bytes, options))
    },

    /** Round trips of one message there and back, in milliseconds, sorted. */
    measureEcho: (peer, bytes, rounds) => streams.measureEcho(connections.get(peer), bytes, rounds),
    /** Milliseconds until the peer confirms `bytes` bytes. */
    measureSend: (peer, bytes) => streams.measureSend(connections.get(peer), bytes),
    /** Milliseconds until both ends have received `bytes` bytes. */
    measureBoth: (peer, bytes) => streams.measureBoth(connections.get(peer), bytes),

    /** Waits until `peer` listens to announcements. */
    async neighbour (peer) {
      await until(() => node.services.pubsub.getSubscribers(TOPIC).some((p) => String(p) === peer),
        'subscription-change', node.services.pubsub)
    },

    /** Publishes an advert that our nodes believe, changed as `overrides` say. */
    async advertise (overrides = {}) {
      const { recipients } = await node.services.pubsub.publish(TOPIC, await signedAdvert(node, overrides))
      return recipients.length
    },

    /** Publishes that many bytes of nonsense. */
    async publishNonsense (bytes) {
      const data = new Uint8Array(bytes)
      crypto.getRandomValues(data.subarray(0, Math.min(bytes, 1024)))
      const { recipients } = await node.services.pubsub.publish(TOPIC, data)
      return recipients.length
    },

    /** Waits until an announcement of `peer` arrives; returns its size. */
    async heard (peer) {
      await until(() => heard.has(peer), 'message', node.services.pubsub)
      return heard.get(peer)
    },

    /** Stores a record in the DHT and returns how many peers took it. */
    async put (key, value) {
      let taken = 0
      for await (const event of node.services.kad.put(bytesOf(key), bytesOf(value))) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') taken += 1
      }
      return taken
    },

    /** Looks a record of the DHT up. */
    async get (key) {
      for await (const event of node.services.kad.get(bytesOf(key))) {
        if (event.name === 'VALUE') return new TextDecoder().decode(event.value)
      }
      return null
    },

    async stop () {
      await node.stop()
    }
  }
}

const bytesOf = (text) => new TextEncoder().encode(text)

/** Waits until `condition` holds, looking again at every `event`. */
async function until (condition, event, target = node) {
  if (condition()) return
  await new Promise((resolve, reject) => {
    const timer = setTimeout(() => finish(new Error(`nothing new for ${PATIENCE_MS} ms`)), PATIENCE_MS)
    const listener = () => condition() && finish()
    const finish = (error) => {
      clearTimeout(timer)
      target.removeEventListener(event, listener)
      error == null ? resolve() : reject(error)
    }
    target.addEventListener(event, listener)
  })
}
