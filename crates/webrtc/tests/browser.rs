//! `/webrtc` in a real browser: two tabs and a relay in one page.
//! `cargo xtask test-wasm -p cdi-webrtc`

#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation, reason = "a failed test may panic")]

mod streams;
mod swarm;

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use cdi_webrtc::browser::{Config, ConnectionName, RelayedAfterDirect};
use cdi_webrtc::half_close::MAX_UNREAD_BYTES;
use futures::channel::mpsc;
use futures::future::{join, join_all};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use futures_timer::Delay;
use libp2p::swarm::{Stream, StreamProtocol};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::spawn_local;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

use self::streams::{echo, exchange, pattern, read_all};
use self::swarm::{Node as Tab, connected_pair, patiently, start_relay};

wasm_bindgen_test_configure!(run_in_browser);

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
const ONE_WAY: StreamProtocol = StreamProtocol::new("/test/one-way/1");

/// A clean close is noticed within this time.
const CLOSE_NOTICED_MS: f64 = 200.0;

fn now_ms() -> f64 {
    js_sys::Date::now()
}

/// Uncaught errors of the page while this lives: a closure that was dropped too early shows up here.
struct PageErrors {
    seen: Rc<RefCell<Vec<String>>>,
    listener: Closure<dyn FnMut(JsValue)>,
}

impl PageErrors {
    fn watch() -> Self {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let list = Rc::clone(&seen);
        let listener = Closure::new(move |event: JsValue| {
            let message = js_sys::Reflect::get(&event, &"message".into()).ok().and_then(|text| text.as_string());
            list.borrow_mut().push(message.unwrap_or_default());
        });
        let window = web_sys::window().unwrap();
        window.add_event_listener_with_callback("error", listener.as_ref().unchecked_ref()).unwrap();
        Self { seen, listener }
    }

    fn assert_none(&self) {
        assert_eq!(*self.seen.borrow(), Vec::<String>::new());
    }
}

impl Drop for PageErrors {
    fn drop(&mut self) {
        let window = web_sys::window().unwrap();
        window.remove_event_listener_with_callback("error", self.listener.as_ref().unchecked_ref()).unwrap();
    }
}

/// Serves every stream of [`ECHO`] with `serve`, in the background.
fn serve<F: Future<Output = ()> + 'static>(tab: &mut Tab, serve: impl Fn(Stream) -> F + 'static) {
    let mut incoming = tab.streams.accept(ECHO).unwrap();
    spawn_local(async move {
        while let Some((_, stream)) = incoming.next().await {
            spawn_local(serve(stream));
        }
    });
}

async fn open(tab: &Tab, to: &Tab) -> Stream {
    patiently(tab.streams.clone().open_stream(to.peer, ECHO)).await.unwrap()
}

#[wasm_bindgen_test]
async fn streams_echo_both_ways_in_all_sizes() {
    let errors = PageErrors::watch();
    let start = now_ms();
    let (mut a, mut b) = connected_pair().await;
    console_log!("relay, reservation and direct connection: {} ms", now_ms() - start);
    serve(&mut a, echo);
    serve(&mut b, echo);
    for (from, to) in [(&a, &b), (&b, &a)] {
        for length in [0, 1, 100, 16_377, 16_378, 65_536, 1 << 20] {
            let data = pattern(length);
            assert!(exchange(open(from, to).await, &data).await.unwrap() == data, "{length} bytes");
        }
    }
    errors.assert_none();
}

/// The events of a channel of these names, and what their messages carried.
fn events(channel: &web_sys::RtcDataChannel) -> mpsc::UnboundedReceiver<(String, usize)> {
    let (heard, events) = mpsc::unbounded();
    let listener = Closure::<dyn FnMut(web_sys::MessageEvent)>::new(move |event: web_sys::MessageEvent| {
        let bytes = event.data().dyn_into::<js_sys::ArrayBuffer>().map_or(0, |buffer| buffer.byte_length());
        let _ = heard.unbounded_send((event.type_(), bytes as usize));
    });
    channel.set_binary_type(web_sys::RtcDataChannelType::Arraybuffer);
    for name in ["open", "message", "close"] {
        channel.add_event_listener_with_callback(name, listener.as_ref().unchecked_ref()).unwrap();
    }
    // As long as the page.
    listener.forget();
    events
}

#[wasm_bindgen_test]
async fn an_agreed_channel_carries_messages_and_ends_with_its_connection() {
    const LONGEST: usize = 128 * 1024;
    let (a, mut b) = connected_pair().await;
    serve(&mut b, echo);
    let name = a.connections.name(b.peer).unwrap();
    let (ours, theirs) = (ConnectionName::Ours(name.clone()), ConnectionName::Theirs(name));
    let there = b.connections.negotiated(a.peer, &theirs, 960, LONGEST).unwrap();
    let here = a.connections.negotiated(b.peer, &ours, 960, LONGEST).unwrap();
    let (mut at_here, mut at_there) = (events(&here), events(&there));
    let event = |name: &str, bytes| Some((name.to_owned(), bytes));
    assert_eq!(patiently(at_here.next()).await, event("open", 0));
    assert_eq!(patiently(at_there.next()).await, event("open", 0));
    for bytes in [1, LONGEST] {
        here.send_with_u8_array(&pattern(bytes)).unwrap();
        assert_eq!(patiently(at_there.next()).await, event("message", bytes));
    }
    // Streams go on beside it.
    assert!(exchange(open(&a, &b).await, &pattern(1000)).await.unwrap() == pattern(1000));

    assert!(a.connections.negotiated(b.peer, &ours, 960, LONGEST).is_err(), "the id is taken");
    assert!(a.connections.negotiated(b.peer, &theirs, 962, LONGEST).is_err(), "another connection");
    assert!(a.connections.negotiated(a.peer, &ours, 962, LONGEST).is_err(), "another peer");
    assert!(a.connections.negotiated(b.peer, &ours, 962, 1 << 30).is_err(), "messages that do not fit");
    a.connections.close_all();
    assert_eq!(patiently(at_there.next()).await, event("close", 0));
}

#[wasm_bindgen_test]
async fn latency_and_throughput() {
    let (a, mut b) = connected_pair().await;
    serve(&mut b, echo);
    let mut stream = open(&a, &b).await;
    let mut times = Vec::new();
    let clock = web_sys::window().unwrap().performance().unwrap();
    for _ in 0..200 {
        let start = clock.now();
        stream.write_all(&[1; 32]).await.unwrap();
        stream.read_exact(&mut [0; 32]).await.unwrap();
        times.push(clock.now() - start);
    }
    times.sort_by(f64::total_cmp);
    console_log!("echo of 32 B: p50 {:.2} ms, p95 {:.2} ms", times[100], times[190]);

    let start = clock.now();
    exchange(stream, &pattern(4 << 20)).await.unwrap();
    console_log!("echo of 4 MiB: {:.1} MiB/s each way", 4_000.0 / (clock.now() - start));

    // One way; `close` returns when the reader has confirmed that it has everything.
    let mut incoming = b.streams.accept(ONE_WAY).unwrap();
    let data = pattern(16 << 20);
    let mut stream = patiently(a.streams.clone().open_stream(b.peer, ONE_WAY)).await.unwrap();
    let start = clock.now();
    let read = async {
        let (_, mut stream) = incoming.next().await.unwrap();
        let mut received = Vec::new();
        read_all(&mut stream, &mut received).await.unwrap();
        received
    };
    let write = async {
        stream.write_all(&data).await.unwrap();
        stream.close().await.unwrap();
    };
    assert!(patiently(join(read, write)).await.0 == data);
    console_log!("16 MiB one way: {:.1} MiB/s", 16_000.0 / (clock.now() - start));
}

#[wasm_bindgen_test]
async fn one_side_can_finish_before_the_other_starts() {
    let errors = PageErrors::watch();
    let (a, mut b) = connected_pair().await;
    serve(&mut b, |mut stream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.unwrap();
        request.reverse();
        stream.write_all(&request).await.unwrap();
        // The test may be over before our FIN is confirmed.
        let _ = stream.close().await;
    });
    let mut stream = open(&a, &b).await;
    stream.write_all(b"request").await.unwrap();
    patiently(stream.close()).await.unwrap();
    let mut answer = Vec::new();
    patiently(stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, b"tseuqer");
    errors.assert_none();
}

/// More streams than a connection may have at a time: each must be let go of when it is over.
#[wasm_bindgen_test]
async fn many_streams_come_and_go() {
    let errors = PageErrors::watch();
    let (a, mut b) = connected_pair().await;
    serve(&mut b, echo);
    for round in 0..12_u8 {
        let all = (0..50).map(|index| {
            let a = &a;
            let b = &b;
            async move {
                let data = vec![round, index, 3];
                let stream = open(a, b).await;
                if index % 10 == 9 {
                    drop(stream);
                    return;
                }
                assert_eq!(exchange(stream, &data).await.unwrap(), data);
            }
        });
        join_all(all).await;
    }
    errors.assert_none();
}

#[wasm_bindgen_test]
async fn a_dropped_stream_is_reset_at_the_peer() {
    let (a, mut b) = connected_pair().await;
    let mut incoming = b.streams.accept(ECHO).unwrap();
    let mut stream = open(&a, &b).await;
    stream.write_all(b"unfinished").await.unwrap();
    let (_, mut at_b) = patiently(incoming.next()).await.unwrap();
    drop(stream);
    let mut received = Vec::new();
    let error = patiently(read_all(&mut at_b, &mut received)).await.unwrap_err();
    assert_eq!((error.kind(), &received[..]), (io::ErrorKind::ConnectionReset, &b"unfinished"[..]));
}

#[wasm_bindgen_test]
async fn closing_the_page_is_noticed_at_once() {
    let errors = PageErrors::watch();
    let (mut a, mut b) = connected_pair().await;
    serve(&mut b, echo);
    let mut stream = open(&a, &b).await;
    stream.write_all(&[7]).await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    let start = now_ms();
    b.connections.close_all();
    let error = patiently(stream.read_exact(&mut [0])).await.unwrap_err();
    let stream_ms = now_ms() - start;
    a.direct_closed().await;
    console_log!("close noticed: stream {stream_ms} ms ({}), connection {} ms", error.kind(), now_ms() - start);
    assert!(now_ms() - start < CLOSE_NOTICED_MS, "the peer learnt of the close by a time-out");
    b.direct_closed().await;
    assert_eq!(b.connections.count(), 0);
    errors.assert_none();
}

#[wasm_bindgen_test]
async fn closing_an_idle_connection_is_noticed_at_once() {
    let (mut a, b) = connected_pair().await;
    let start = now_ms();
    let peer = a.peer;
    b.command(move |swarm| swarm.disconnect_peer_id(peer).unwrap());
    a.direct_closed().await;
    console_log!("close of an idle connection noticed: {} ms", now_ms() - start);
    assert!(now_ms() - start < CLOSE_NOTICED_MS, "the peer learnt of the close by a time-out");
}

#[wasm_bindgen_test]
async fn the_pagehide_event_closes_everything() {
    let (mut a, b) = connected_pair().await;
    let guard = b.connections.close_on_pagehide().unwrap();
    let window = web_sys::window().unwrap();
    let start = now_ms();
    window.dispatch_event(&web_sys::Event::new("pagehide").unwrap()).unwrap();
    a.direct_closed().await;
    console_log!("pagehide noticed: {} ms", now_ms() - start);
    assert!(now_ms() - start < CLOSE_NOTICED_MS, "the peer learnt of the close by a time-out");
    drop(guard);
}

#[wasm_bindgen_test]
async fn a_slow_reader_loses_nothing() {
    let (a, mut b) = connected_pair().await;
    let mut incoming = b.streams.accept(ECHO).unwrap();
    let data = pattern(8 << 20);
    let mut stream = open(&a, &b).await;
    let read = async {
        let (_, mut stream) = incoming.next().await.unwrap();
        Delay::new(Duration::from_millis(1_500)).await;
        let mut received = Vec::new();
        read_all(&mut stream, &mut received).await.unwrap();
        received
    };
    let write = async {
        stream.write_all(&data).await.unwrap();
        stream.close().await.unwrap();
    };
    assert!(patiently(join(read, write)).await.0 == data);
}

#[wasm_bindgen_test]
async fn a_reader_that_never_reads_gets_the_stream_reset() {
    let (a, mut b) = connected_pair().await;
    let mut incoming = b.streams.accept(ECHO).unwrap();
    let mut stream = open(&a, &b).await;
    stream.write_all(&[1]).await.unwrap();
    let (_, mut at_b) = patiently(incoming.next()).await.unwrap();
    let chunk = vec![1; 1 << 16];
    let error = patiently(async {
        loop {
            if let Err(error) = stream.write_all(&chunk).await {
                return error;
            }
        }
    })
    .await;
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let mut received = Vec::new();
    let error = patiently(read_all(&mut at_b, &mut received)).await.unwrap_err();
    assert!(error.to_string().contains("faster"), "{error}");
    assert!((MAX_UNREAD_BYTES - (1 << 20)..=MAX_UNREAD_BYTES).contains(&received.len()), "{}", received.len());
}

#[wasm_bindgen_test]
async fn tabs_that_dial_each_other_at_once_end_up_connected() {
    let errors = PageErrors::watch();
    let relay = start_relay().await;
    let (mut a, mut b) = (Tab::start(Config::default()), Tab::start(Config::default()));
    let (address_a, address_b) = (a.listen(&relay).await, b.listen(&relay).await);
    a.dial(&address_b);
    b.dial(&address_a);
    assert_eq!((a.connected_directly().await, b.connected_directly().await), (b.peer, a.peer));
    serve(&mut b, echo);
    assert_eq!(exchange(open(&a, &b).await, b"glare").await.unwrap(), b"glare");
    errors.assert_none();
}

#[wasm_bindgen_test]
async fn relayed_connections_can_be_kept() {
    let relay = start_relay().await;
    let keep = Config { relayed_after_direct: RelayedAfterDirect::Keep, ..Config::default() };
    let (mut a, mut b) = (Tab::start(keep.clone()), Tab::start(keep));
    let address = b.listen(&relay).await;
    a.dial(&address);
    a.connected_directly().await;
    b.connected_directly().await;
    let peer = a.peer;
    let connections = b.ask(move |swarm| swarm.network_info().connection_counters().num_established()).await;
    assert!(b.ask(move |swarm| swarm.is_connected(&peer)).await);
    assert_eq!(connections, 3, "one to the relay, one relayed, one direct");
}

#[wasm_bindgen_test]
async fn dials_that_cannot_work_fail_with_a_reason() {
    let relay = start_relay().await;
    let mut dialer = Tab::start(Config::default());

    let absent = libp2p::PeerId::random();
    dialer.dial(&format!("{relay}/p2p-circuit/webrtc/p2p/{absent}").parse().unwrap());
    // Two dials fail, in any order: the relayed one that the other needs, and that one.
    let errors = [dialer.dial_error().await, dialer.dial_error().await];
    assert!(errors.iter().any(|error| error.contains("relayed connection")), "{errors:?}");

    let mut closed = Tab::start(Config::default());
    closed.listen_relayed_only(&relay).await;
    let start = now_ms();
    dialer.dial(&format!("{relay}/p2p-circuit/webrtc/p2p/{}", closed.peer).parse().unwrap());
    let error = dialer.dial_error().await;
    assert!(error.contains("signalling"), "{error}");
    assert!(now_ms() - start < 5_000.0, "the refusal was learnt of by a time-out");

    let mut hasty = Tab::start(Config { handshake_timeout: Duration::from_millis(1), ..Config::default() });
    let mut open = Tab::start(Config::default());
    hasty.dial(&open.listen(&relay).await);
    let error = hasty.dial_error().await;
    assert!(error.contains("timed out"), "{error}");
    for tab in [&dialer, &hasty] {
        assert_eq!(tab.connections.count(), 0, "a failed handshake leaves nothing behind");
    }
}
