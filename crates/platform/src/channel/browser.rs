//! An `RTCDataChannel` in whichever thread it was opened.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Waker;

use gloo_events::EventListener;
use js_sys::{Array, ArrayBuffer, Function, Reflect, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{MessageEvent, RtcDataChannel, RtcDataChannelState, RtcDataChannelType};

use super::{Closed, End, INCOMING, Kind, MAX_MESSAGE_BYTES, Out, Reader, Writer};
use crate::js;

/// Makes the channel when it is handed over or opened; nothing when its connection is gone by then.
pub(super) type Plan = Box<dyn FnOnce() -> Option<RtcDataChannel>>;

impl End {
    /// An end that `make` makes when it is needed.
    pub fn planned(make: impl FnOnce() -> Option<RtcDataChannel> + 'static) -> Self {
        Self(Kind::Planned(Box::new(make)))
    }

    /// What travels to a worker; nothing for an end that is in this thread already, or cannot be made any more.
    pub(crate) fn into_transferred(self) -> Option<JsValue> {
        match self.0 {
            Kind::Planned(make) => make().map(JsValue::from),
            Kind::Made(_) => None,
        }
    }

    /// What came from a page. It is opened at once: messages that arrive before it has a handler are lost.
    pub(crate) fn from_transferred(value: &JsValue) -> Option<Self> {
        let channel: &RtcDataChannel = value.dyn_ref()?;
        Some(Self(Kind::Made(Box::new(attach(channel)))))
    }
}

/// Whether this page can hand a data channel over to a worker: Chromium can. One is tried, which costs a millisecond.
#[must_use]
pub fn is_transferable() -> bool {
    fn moved() -> Result<(), JsValue> {
        let construct: Function = js::global("RTCPeerConnection").ok_or(JsValue::NULL)?.dyn_into()?;
        let connection = Reflect::construct(&construct, &Array::new())?;
        let options = js::object([("negotiated", true.into()), ("id", 0.into())]);
        let moved = js::call(&connection, "createDataChannel", &["".into(), options]).and_then(|channel| {
            let transfer = js::object([("transfer", Array::of1(&channel).into())]);
            js::call(&js_sys::global(), "structuredClone", &[channel, transfer])
        });
        js::call(&connection, "close", &[])?;
        moved.map(drop)
    }
    moved().is_ok()
}

pub(super) fn open(plan: Plan) -> Option<(Writer, Reader)> {
    plan().map(|channel| attach(&channel))
}

/// A channel and what its events leave behind.
#[derive(Debug)]
pub(super) struct Channel {
    channel: RtcDataChannel,
    incoming: async_channel::Sender<Vec<u8>>,
    /// Who waits for room.
    waiting: RefCell<Option<Waker>>,
    closed: Cell<bool>,
    listeners: RefCell<Vec<EventListener>>,
}

fn attach(channel: &RtcDataChannel) -> (Writer, Reader) {
    channel.set_binary_type(RtcDataChannelType::Arraybuffer);
    let (incoming, messages) = async_channel::bounded(INCOMING);
    let (waiting, closed) = (RefCell::new(None), Cell::new(false));
    let shared =
        Rc::new(Channel { channel: channel.clone(), incoming, waiting, closed, listeners: RefCell::default() });
    // Weak: a channel that listened to itself would never be dropped.
    let listen = |name: &'static str, handle: fn(&Channel, &web_sys::Event)| {
        let shared = Rc::downgrade(&shared);
        EventListener::new(channel, name, move |event| {
            if let Some(shared) = shared.upgrade() {
                handle(&shared, event);
            }
        })
    };
    *shared.listeners.borrow_mut() = vec![
        listen("message", |channel, event| channel.on_message(event.unchecked_ref())),
        listen("open", |channel, _| channel.wake()),
        listen("bufferedamountlow", |channel, _| channel.wake()),
        listen("close", |channel, _| channel.on_closed()),
    ];
    let writer = Writer(Out::Browser(shared));
    (writer.clone(), Reader { incoming: messages, unread: None, writer })
}

impl Channel {
    pub(super) fn send(&self, message: &[u8]) -> Result<(), Closed> {
        if self.closed.get() {
            return Err(Closed);
        }
        self.channel.send_with_u8_array(message).map_err(|_| {
            self.close();
            Closed
        })
    }

    pub(super) fn buffered_bytes(&self) -> usize {
        // Until it is open nothing leaves, and a browser refuses to keep it.
        match self.channel.ready_state() {
            RtcDataChannelState::Connecting => usize::MAX,
            _ => self.channel.buffered_amount() as usize,
        }
    }

    pub(super) fn wake_below(&self, bytes: usize, waker: &Waker) {
        self.channel.set_buffered_amount_low_threshold(u32::try_from(bytes).unwrap_or(u32::MAX));
        *self.waiting.borrow_mut() = Some(waker.clone());
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    pub(super) fn close(&self) {
        self.channel.close();
        self.on_closed();
    }

    fn on_message(&self, event: &MessageEvent) {
        let data = event.data();
        let message = data.dyn_ref::<ArrayBuffer>().filter(|buffer| buffer.byte_length() as usize <= MAX_MESSAGE_BYTES);
        // Text, too long a message, or more of them than the protocol above allows.
        if message.is_none_or(|buffer| self.incoming.try_send(Uint8Array::new(buffer).to_vec()).is_err()) {
            self.close();
        }
    }

    fn on_closed(&self) {
        self.closed.set(true);
        self.incoming.close();
        self.wake();
    }

    fn wake(&self) {
        if let Some(waiting) = self.waiting.borrow_mut().take() {
            waiting.wake();
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.channel.close();
    }
}
