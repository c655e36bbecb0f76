//! One `RTCDataChannel`: its binding to a [`Substream`](crate::substream::Substream) and its callbacks.

use js_sys::{ArrayBuffer, Uint8Array};
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;
use web_sys::{Event, MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use crate::half_close::UnreadBudget;
use crate::substream::{Attention, DataChannel, LOW_WATER_BYTES, Port, Readiness, SendRefused, Substream, substream};

/// The channel as the stream sees it.
pub struct BrowserChannel(SendWrapper<RtcDataChannel>);

impl DataChannel for BrowserChannel {
    fn readiness(&self) -> Readiness {
        match self.0.ready_state() {
            RtcDataChannelState::Connecting => Readiness::Connecting,
            RtcDataChannelState::Open => Readiness::Open,
            _ => Readiness::Closed,
        }
    }

    fn buffered_bytes(&self) -> usize {
        self.0.buffered_amount() as usize
    }

    fn send(&mut self, message: &[u8]) -> Result<(), SendRefused> {
        self.0.send_with_u8_array(message).map_err(|_| SendRefused)
    }

    fn want_drained(&mut self) {
        self.0.set_buffered_amount_low_threshold(0);
    }

    fn close(&mut self) {
        self.0.close();
    }
}

/// A channel with its callbacks. They are unset before they are dropped: an event that is already
/// queued then finds no handler instead of a dropped closure.
pub(super) struct OpenChannel {
    channel: RtcDataChannel,
    port: Port<BrowserChannel>,
    _on_message: Closure<dyn FnMut(MessageEvent)>,
    _on_writable: Closure<dyn FnMut(Event)>,
    _on_closed: Closure<dyn FnMut(Event)>,
}

impl OpenChannel {
    /// Takes `channel` over. To be called within the task or event that produced the channel:
    /// a message that arrives while it has no handler is lost.
    pub(super) fn attach(
        id: u64,
        channel: RtcDataChannel,
        budget: UnreadBudget,
        attention: Attention,
    ) -> (Substream<BrowserChannel>, Self) {
        channel.set_binary_type(RtcDataChannelType::Arraybuffer);
        channel.set_buffered_amount_low_threshold(u32::try_from(LOW_WATER_BYTES).unwrap_or(u32::MAX));
        let (stream, port) = substream(id, BrowserChannel(SendWrapper::new(channel.clone())), budget, attention);

        let on_message = Closure::new({
            let (port, channel) = (port.clone(), channel.clone());
            move |event: MessageEvent| match event.data().dyn_into::<ArrayBuffer>() {
                Ok(buffer) => port.on_message(&Uint8Array::new(&buffer).to_vec()),
                Err(_) => {
                    tracing::debug!("text message on a libp2p data channel");
                    channel.close();
                    port.on_closed();
                }
            }
        });
        let on_writable = Closure::new({
            let port = port.clone();
            move |_: Event| port.on_writable()
        });
        let on_closed = Closure::new({
            let port = port.clone();
            move |_: Event| port.on_closed()
        });
        channel.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        channel.set_onopen(Some(on_writable.as_ref().unchecked_ref()));
        channel.set_onbufferedamountlow(Some(on_writable.as_ref().unchecked_ref()));
        channel.set_onclose(Some(on_closed.as_ref().unchecked_ref()));
        let open = Self { channel, port, _on_message: on_message, _on_writable: on_writable, _on_closed: on_closed };
        (stream, open)
    }

    pub(super) fn port(&self) -> &Port<BrowserChannel> {
        &self.port
    }

    /// Closes the channel, whatever its stream still waits for.
    pub(super) fn abort(&self) {
        self.channel.close();
        self.port.on_closed();
    }
}

impl Drop for OpenChannel {
    fn drop(&mut self) {
        self.channel.set_onmessage(None);
        self.channel.set_onopen(None);
        self.channel.set_onbufferedamountlow(None);
        self.channel.set_onclose(None);
    }
}
