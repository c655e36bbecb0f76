// The peer in a page: WebDriver calls `peer.<command>(…)`.
import { webRTC, webRTCDirect } from '@libp2p/webrtc'
import { webSockets } from '@libp2p/websockets'
import { commands } from './peer.js'

// No STUN server: nothing beyond this machine is spoken to.
const rtcConfiguration = { iceServers: [] }
globalThis.peer = commands([webSockets(), webRTC({ rtcConfiguration }), webRTCDirect({ rtcConfiguration })])
