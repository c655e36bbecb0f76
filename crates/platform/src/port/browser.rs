//! Ports between a page and its dedicated worker.
//!
//! A packet is an array of two transferred buffers. Text is for the port itself: a worker says [`READY`]
//! once it listens (messages that arrive at a worker before that are lost, and a module takes a while to
//! start), or why it died.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;

use async_channel::TrySendError;
use gloo_events::EventListener;
use js_sys::{Array, ArrayBuffer, Uint8Array};
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{EventTarget, MessageEvent, Worker, WorkerOptions, WorkerType};

use super::{CAPACITY, Packet, Port, PortError, Reason, Receiver, Sender, closed};
use crate::channel::End;
use crate::js;

const READY: &str = "ready";

/// What both halves of a browser port share.
#[derive(Debug)]
pub(super) struct Link {
    peer: Peer,
    packets: async_channel::Sender<Packet>,
    reason: Reason,
    /// Packets for a worker that does not listen yet; `None` once it does.
    early: RefCell<Option<Vec<Packet>>>,
    listeners: OnceCell<Vec<EventListener>>,
}

#[derive(Debug)]
enum Peer {
    /// The worker of this page.
    Worker(Worker),
    /// The page of this worker: the global object.
    Page(JsValue),
}

impl Port {
    /// Starts the module at `url` as a dedicated worker. The port closes, with a reason, when the worker
    /// cannot be loaded, throws, panics or sends something that is not a packet; and stops the worker when
    /// both of its halves are dropped.
    ///
    /// # Errors
    /// [`PortError::Closed`] when the browser refuses to start it.
    pub fn spawn_worker(url: &str) -> Result<Self, PortError> {
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let refused = |error: JsValue| PortError::Closed(js::describe(&error));
        let worker = Worker::new_with_options(url, &options).map_err(refused)?;
        let target = worker.clone();
        Ok(connect(Peer::Worker(worker), &target, Some(Vec::new())))
    }

    /// The worker's end of the port to its page. Call it once, and first: packets wait until then.
    ///
    /// # Errors
    /// [`PortError::Closed`] when this is not a dedicated worker.
    pub fn in_worker() -> Result<Self, PortError> {
        let global: JsValue = js_sys::global().into();
        if js::member(&global, "document").is_some() || js::member(&global, "postMessage").is_none() {
            return Err(PortError::Closed("not in a worker".to_owned()));
        }
        let port = connect(Peer::Page(global.clone()), global.unchecked_ref(), None);
        js::call(&global, "postMessage", &[READY.into()]).map_err(|e| PortError::Closed(js::describe(&e)))?;
        Ok(port)
    }
}

fn connect(peer: Peer, target: &EventTarget, early: Option<Vec<Packet>>) -> Port {
    let (packets, incoming) = async_channel::bounded(CAPACITY);
    let reason = Reason::default();
    let link =
        Rc::new(Link { peer, packets, reason: reason.clone(), early: RefCell::new(early), listeners: OnceCell::new() });
    // Weak: a link that listened to itself would never be dropped.
    let listen = |name: &'static str, handle: fn(&Link, &web_sys::Event)| {
        let link = Rc::downgrade(&link);
        EventListener::new(target, name, move |event| {
            if let Some(link) = link.upgrade() {
                handle(&link, event);
            }
        })
    };
    let mut listeners = vec![
        listen("message", |link, event| link.on_message(event.unchecked_ref())),
        listen("messageerror", |link, _| link.close("a message could not be read")),
    ];
    match &link.peer {
        Peer::Worker(_) => listeners.push(listen("error", |link, event| {
            let message = js::member(event, "message").and_then(|message| message.as_string());
            link.close(&message.unwrap_or_else(|| "the worker could not be loaded".to_owned()));
        })),
        // A rejected promise stops a task of the worker, of which the page would never hear.
        Peer::Page(_) => listeners.push(listen("unhandledrejection", |link, event| {
            let error = js::member(event, "reason").unwrap_or(JsValue::UNDEFINED);
            link.close(&js::describe(&error));
        })),
    }
    // The cell is fresh.
    let _empty = link.listeners.set(listeners);
    let receiver = Receiver { packets: incoming, reason, _link: Some(super::Link::Browser(Rc::clone(&link))) };
    Port { sender: Sender(super::Link::Browser(link)), receiver }
}

impl Link {
    pub(super) fn send(&self, packet: Packet) -> Result<(), PortError> {
        if self.packets.is_closed() {
            return Err(closed(&self.reason));
        }
        if let Some(early) = self.early.borrow_mut().as_mut() {
            if early.len() == CAPACITY {
                return Err(PortError::Full);
            }
            early.push(packet);
            return Ok(());
        }
        self.post(packet)
    }

    fn post(&self, packet: Packet) -> Result<(), PortError> {
        let parts: Array = [&packet.header, &packet.payload]
            .into_iter()
            .map(|bytes| JsValue::from(Uint8Array::from(bytes.as_slice()).buffer()))
            .collect();
        let has_channel = packet.channel.is_some();
        if let Some(end) = packet.channel {
            parts.push(&end.into_transferred().ok_or(PortError::NotTransferable)?);
        }
        let peer: &JsValue = match &self.peer {
            Peer::Worker(worker) => worker,
            Peer::Page(global) => global,
        };
        // The parts are both the message and the list of what is transferred.
        let posted = js::call(peer, "postMessage", &[parts.clone().into(), parts.into()]);
        posted.map(drop).map_err(|error| match has_channel {
            true => PortError::NotTransferable,
            false => PortError::Closed(js::describe(&error)),
        })
    }

    fn on_message(&self, event: &MessageEvent) {
        let data = event.data();
        if let Some(text) = data.as_string() {
            match text.as_str() {
                READY => self.on_ready(),
                why => self.close(why),
            }
            return;
        }
        let Some(packet) = read(&data) else { return self.close("received something that is not a packet") };
        match self.packets.try_send(packet) {
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => self.close("the reader is too far behind"),
        }
    }

    fn on_ready(&self) {
        let early = self.early.borrow_mut().take();
        for packet in early.into_iter().flatten() {
            match self.post(packet) {
                // Whoever sent it hears nothing of its channel.
                Ok(()) | Err(PortError::NotTransferable) => {}
                Err(error) => return self.close(&error.to_string()),
            }
        }
    }

    /// Stops the worker, or tells the page that this worker ended.
    pub(super) fn close(&self, why: &str) {
        // The first reason stands.
        if self.reason.set(why.to_owned()).is_err() {
            return;
        }
        self.packets.close();
        match &self.peer {
            Peer::Worker(worker) => worker.terminate(),
            Peer::Page(global) => {
                // A page that is gone needs no word.
                let _gone = js::call(global, "postMessage", &[why.into()]);
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.close("the other side left");
    }
}

fn read(data: &JsValue) -> Option<Packet> {
    let parts: &Array = data.dyn_ref()?;
    if !(2..=3).contains(&parts.length()) {
        return None;
    }
    let bytes = |index| {
        let buffer: JsValue = parts.get(index);
        buffer.is_instance_of::<ArrayBuffer>().then(|| Uint8Array::new(&buffer).to_vec())
    };
    let channel = (parts.length() == 3).then(|| parts.get(2));
    let channel = channel.map(|channel| End::from_transferred(&channel).ok_or(()));
    Some(Packet { header: bytes(0)?, payload: bytes(1)?, channel: channel.transpose().ok()? })
}
