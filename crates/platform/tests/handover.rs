//! Channels that a page hands over to its worker.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, reason = "tests")]

use cdi_platform::channel::{End, is_transferable, pair};
use cdi_platform::port::{Packet, Port, PortError};
use cdi_platform::testing::async_test;
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::JsFuture;
use web_sys::RtcDataChannel;

/// Two connections of this page with each other.
const CONNECTED: &str = "(async () => {\
    const [a, b] = [new RTCPeerConnection(), new RTCPeerConnection()];\
    a.onicecandidate = e => b.addIceCandidate(e.candidate);\
    b.onicecandidate = e => a.addIceCandidate(e.candidate);\
    const opened = new Promise(resolve => { a.createDataChannel('init').onopen = resolve });\
    await a.setLocalDescription();\
    await b.setRemoteDescription(a.localDescription);\
    await b.setLocalDescription();\
    await a.setRemoteDescription(b.localDescription);\
    await opened;\
    globalThis.agreed = (i) => [a, b][i].createDataChannel('', { negotiated: true, id: 960 });\
})()";

/// A worker that sends back what comes on the channel that it is given.
const ECHO: &str = "data:text/javascript,onmessage = e => {\
    const channel = e.data[2]; channel.binaryType = 'arraybuffer'; channel.onmessage = m => channel.send(m.data);\
    const none = new ArrayBuffer(0); postMessage([none, none]) };\
    postMessage('ready')";

fn agreed(side: u32) -> Option<RtcDataChannel> {
    let made = js_sys::eval(&format!("agreed({side})")).ok()?;
    made.dyn_into().ok()
}

#[async_test]
async fn a_worker_uses_the_channel_that_its_page_planned() {
    assert!(is_transferable(), "Chromium transfers data channels");
    let connected: js_sys::Promise = js_sys::eval(CONNECTED).expect("a script").dyn_into().expect("a promise");
    JsFuture::from(connected).await.expect("connected");
    let mut port = Port::spawn_worker(ECHO).expect("starts");
    // What is no plan stays in its thread, and the port goes on.
    let unplanned = Packet { channel: Some(pair().0), ..Packet::default() };
    match port.send(unplanned) {
        Ok(()) => {} // It waits for the worker, and is dropped then.
        Err(error) => assert_eq!(error, PortError::NotTransferable),
    }
    port.send(Packet { channel: Some(End::planned(|| agreed(0))), ..Packet::default() }).expect("sends");
    assert!(port.recv().await.is_some(), "the worker has it: {:?}", port.closed_reason());

    let (writer, mut reader) = End::planned(|| agreed(1)).open().expect("made here");
    writer.room(0).await.expect("it opens");
    for bytes in [1, 128 * 1024] {
        writer.send(&vec![7; bytes]).expect("sends");
        assert_eq!(reader.recv().await, Some(vec![7; bytes]));
    }
    writer.room(0).await.expect("it drains");
    writer.close();
    assert_eq!(reader.recv().await, None);
    port.terminate();
}
