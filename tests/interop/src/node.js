// The peer in Node.
import './old-node.js'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { obey } from './commanded.js'
import { commands } from './peer.js'

await obey(commands([tcp(), webSockets()]))
