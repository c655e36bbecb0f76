use cdi_platform::channel::pair;
use cdi_platform::port::Port;
use cdi_types::session::Transcript;
use futures::channel::mpsc;
use futures::future::{Either, join, select};
use futures::{StreamExt as _, pin_mut};
use serde::Deserialize;

use super::*;
use crate::call::unpack;
use crate::compute::stage::Queued;

type Queue = mpsc::Receiver<Queued>;

/// What the page reads.
#[derive(Deserialize)]
struct Reply {
    answer: Answer,
}

/// A request of a page, and the page.
fn asked() -> (Asked, Port) {
    let (page, worker) = Port::pair();
    (Asked { sender: worker.split().0, id: 1 }, page)
}

async fn told(page: &mut Port, wanted: &Answer) {
    loop {
        let packet = page.recv().await.expect("the worker lives");
        if unpack::<Reply>(&packet).expect("an answer").answer == *wanted {
            return;
        }
    }
}

fn frame(rows: u32, row_bytes: usize) -> Frame {
    let payload = vec![7; rows as usize * row_bytes];
    let mut transcript = Transcript::default();
    transcript.push(0, rows, &payload);
    Frame { session: [1; 16], attempt: 0, branch: 0, position: 0, rows, transcript: transcript.value(), payload }
}

async fn next(queue: &mut Queue) -> Input {
    queue.next().await.expect("input").0
}

#[tokio::test]
async fn rows_and_credit_reach_their_links_and_a_close_loses_them() {
    let (here, there) = pair();
    let ((out, read_out), (back, read_back)) = (here.open().expect("open"), there.open().expect("open"));
    let (sender, receiver) = (Channel::new(true, out), Channel::new(false, back));
    let ((ask_sender, mut sender_page), (ask_receiver, mut receiver_page)) = (asked(), asked());
    let script = async {
        told(&mut sender_page, &Answer::Up).await;
        told(&mut receiver_page, &Answer::Up).await;
        let ((inbox, mut credits), (sink, mut frames)) = (Inbox::new(), Inbox::new());
        let out = sender.join(4, inbox.clone(), 11, true).expect("a place");
        assert!(sender.join(4, inbox.clone(), 12, true).is_none(), "the number is taken");
        assert!(sender.join(5, inbox, 12, false).is_none(), "it opens links, the other side does not");
        let back = receiver.join(4, sink, 22, false).expect("a place");
        out.rows(&frame(2, 512), true);
        let Input::Frame { link: 22, frame: bytes } = next(&mut frames).await else { panic!("not a frame") };
        assert_eq!(Frame::decode(&bytes), Ok(frame(2, 512)));
        back.credit(2);
        assert!(matches!(next(&mut credits).await, Input::Credit { link: 11, have: 2 }));
        // The receiver's stage has another link now; what is under way is no violation.
        drop(back);
        out.rows(&frame(1, 512), false);
        while receiver.figures.borrow().stale == 0 {
            tokio::task::yield_now().await;
        }
        receiver.close();
        assert!(matches!(next(&mut credits).await, Input::NextLost { link: 11 }));
        drop(out);
    };
    let both = join(sender.serve(read_out, &ask_sender), receiver.serve(read_back, &ask_receiver));
    let ((sent, received), ()) = join(both, script).await;
    let figures = |answer| match answer {
        Answer::ChannelClosed { figures, violation: None } => figures,
        other => panic!("{other:?}"),
    };
    let (sent, received) = (figures(sent), figures(received));
    assert_eq!((sent.sent_bytes, sent.received_bytes), (received.received_bytes, received.sent_bytes));
    assert_eq!((sent.stale, received.stale), (0, 1));
    assert_eq!(sent.bulk_bytes, wire::rows(4, &frame(2, 512)).len() as u64);
}

/// What a hostile end sends after the greeting, or in place of it, and the reason that the page is given.
#[tokio::test]
async fn who_breaks_the_rules_loses_the_channel() {
    let greeting = || Message::Greeting.encode();
    let rows = || wire::rows(4, &frame(1, 512));
    let flood = std::iter::once(greeting()).chain((0..2_000).map(|_| rows())).collect();
    let cases: [(Vec<Vec<u8>>, Violation); 5] = [
        (vec![greeting(), vec![9; 20]], Violation::Malformed),
        (vec![rows()], Violation::Greeting),
        (vec![greeting(), greeting()], Violation::Greeting),
        (vec![greeting(), Message::Credit { link: 4, have: 1 }.encode()], Violation::Direction),
        (flood, Violation::Credit),
    ];
    for (messages, expected) in cases {
        let (here, there) = pair();
        let ((out, reader), (hostile, _hostile_reader)) = (here.open().expect("open"), there.open().expect("open"));
        let channel = Channel::new(false, out);
        let (ask, _page) = asked();
        let (inbox, _never_read) = Inbox::new();
        let _place = channel.join(4, inbox, 1, false).expect("a place");
        for message in messages {
            hostile.send(&message).expect("sends");
        }
        let closed = channel.serve(reader, &ask).await;
        let Answer::ChannelClosed { violation, .. } = closed else { panic!("{closed:?}") };
        assert_eq!(violation, Some(expected.to_string()));
        assert!(channel.join(5, Inbox::new().0, 1, false).is_none(), "it stays closed");
    }
}

#[tokio::test]
async fn a_token_overtakes_the_bulk_that_waits() {
    let (here, there) = pair();
    let ((out, reader), (_back, mut other)) = (here.open().expect("open"), there.open().expect("open"));
    let channel = Channel::new(true, out);
    let (ask, _page) = asked();
    let place = channel.join(1, Inbox::new().0, 1, true).expect("a place");
    let script = async {
        assert_eq!(other.recv().await, Some(Message::Greeting.encode()));
        for _ in 0..32 {
            place.rows(&frame(16, 4096), true);
        }
        let mut bulk_before = 0;
        let mut queued = false;
        while let Some(message) = other.recv().await {
            if message.len() < 10_000 {
                break;
            }
            bulk_before += 1;
            if !std::mem::replace(&mut queued, true) {
                place.rows(&frame(1, 4096), false);
            }
        }
        bulk_before
    };
    let serving = channel.serve(reader, &ask);
    pin_mut!(script, serving);
    let Either::Left((bulk_before, _)) = select(script, serving).await else { panic!("closed") };
    assert!((1..=BULK_WATER / (16 * 4096) + 2).contains(&bulk_before), "{bulk_before} frames of bulk before the token");
}
