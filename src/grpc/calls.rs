//! What calls may hold of this process, whoever makes them: nobody is asked for a key before a first message is read.
//!
//! * One guest (a user, or the holder of a certificate) has at most [`OF_ONE_GUEST`] calls under way on one socket, all together
//!   [`OF_ALL`]. One more is refused at once. A call counts until both its request and its answer are gone.
//! * A message is at most [`SMALL_MESSAGE`] long. Only the methods of [`LARGE`] take more (up to [`super::MAX_MESSAGE`]); both
//!   learn from the kernel or the certificate who calls before they read.
//! * The messages of all other calls are taken off the connection at once, whole, and wait here. Where more than [`UNREAD`]
//!   bytes wait because nobody takes the answers, the call ends. So it does when a message that has begun is not whole within
//!   [`PATIENCE`], also long after its answer began.
//! * One connection holds at most [`STREAM_WINDOW`] unread bytes for each call, [`CONNECTION_WINDOW`] for all, and headers of
//!   [`HEADERS`] bytes.
//!
//! So what one guest sends holds at most 10 MiB of a process on each of its sockets: 64 calls with 96 KiB each (16 KiB that
//! wait, 48 KiB of room for an unfinished message with its newest frame, tonic's own buffer, headers), and 24 connections with
//! 128 KiB each (64 KiB unread, and what belongs to a connection itself). Answers that it asks for and does not take come on top:
//! 64, each at most 256 KiB, 16 MiB. All guests together: five times that. One thing is not in the sum: unread frames keep the
//! buffers that they were read into, so until PID 1 has said who calls a method of [`LARGE`], a connection can hold up to 3 MiB.

use super::limits::Place;
use crate::clock;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

/// Calls under way of one guest. Seven personas that share one user keep 28 open at their warden.
pub(super) const OF_ONE_GUEST: usize = 64;
/// Calls under way of all guests: more than f personas can hold with both of their users.
pub(super) const OF_ALL: usize = 320;
/// Calls under way on one connection.
pub(super) const OF_ONE_CONNECTION: u32 = 16;
/// Longest message of a method that is not in [`LARGE`], in bytes. A session's request is shorter than 1 KiB.
pub(super) const SMALL_MESSAGE: usize = 8 * 1024;
/// Bytes of whole messages of one call that may wait.
const UNREAD: usize = 16 * 1024;
/// What a waiting message costs beside its bytes.
const OVERHEAD: usize = 64;
/// Unread bytes of one call in the connection's own buffer.
pub(super) const STREAM_WINDOW: u32 = 32 * 1024;
/// Unread bytes of all calls of a connection in its own buffer. HTTP/2 knows no less at the beginning.
pub(super) const CONNECTION_WINDOW: u32 = 65_535;
/// Longest headers of one call, in bytes.
pub(super) const HEADERS: u32 = 8 * 1024;
/// Longest until an answer begins, and until a message that has begun is whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// The one call whose answer begins when its stream ends.
const UNTIMED: &str = "/zeta.bft.v1.WardenService/Submit";
/// Methods that carry statements. None reads before it knows that the main process of an agent's unit calls.
const LARGE: [&str; 2] = [UNTIMED, "/zeta.bft.v1.PeerService/Exchange"];
/// Bytes before each message: whether it is compressed, and its length.
const PREFIX: usize = 5;

/// With whom a connection is.
pub(super) trait Visitor: Clone + Send + Sync + 'static {
    /// Who counts its calls.
    type Guest: Ord + Clone + Send + Sync + 'static;

    /// Its place among the connections.
    fn place(&self) -> &Arc<Place<Self::Guest>>;
}

/// Holds one call to the rules above.
pub(super) async fn limit<I: Visitor>(request: Request, next: Next) -> Response {
    let Some(visitor) = request.extensions().get::<I>() else {
        return Status::unauthenticated("the transport does not tell who asks").into_http();
    };
    let Some(call) = visitor.place().begin_call() else {
        return Status::resource_exhausted("too many calls at once").into_http();
    };
    let call: Arc<dyn Send + Sync> = Arc::new(call);
    let path = request.uri().path();
    let (large, timed) = (LARGE.contains(&path), path != UNTIMED);
    let request = request.map(|body| {
        let body = if large { body } else { taken_at_once(body) };
        Body::new(Held { body, _call: Arc::clone(&call) })
    });
    let answer = if timed {
        tokio::time::timeout(PATIENCE, next.run(request))
            .await
            .unwrap_or_else(|_| Status::deadline_exceeded("no answer in time").into_http())
    } else {
        next.run(request).await
    };
    answer.map(|body| Body::new(Held { body, _call: call }))
}

/// A body that keeps its call counted.
struct Held {
    body: Body,
    _call: Arc<dyn Send + Sync>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The same messages, off the connection before anybody reads them.
fn taken_at_once(body: Body) -> Body {
    // What waits in it is counted in bytes.
    let (messages, taken) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    tokio::spawn(take(body, messages, Arc::clone(&waiting)));
    Body::from_stream(UnboundedReceiverStream::new(taken).map(move |message: Result<Bytes, Status>| {
        if let Ok(message) = &message {
            waiting.fetch_sub(message.len() + OVERHEAD, Ordering::Relaxed);
        }
        message
    }))
}

async fn take(body: Body, messages: mpsc::UnboundedSender<Result<Bytes, Status>>, waiting: Arc<AtomicUsize>) {
    let taking = async {
        let mut frames = body.into_data_stream();
        let (mut begun, mut whole_by) = (Vec::new(), clock::deadline(PATIENCE));
        loop {
            let frame = match begun.is_empty() {
                true => frames.next().await,
                false => tokio::time::timeout_at(whole_by, frames.next())
                    .await
                    .map_err(|_| Status::deadline_exceeded("a message was not whole in time"))?,
            };
            let Some(frame) = frame else { break };
            let frame = frame.map_err(|error| Status::cancelled(error.to_string()))?;
            if begun.is_empty() {
                whole_by = clock::deadline(PATIENCE);
            }
            // Copied: a frame keeps more of the connection's buffer than its own bytes.
            begun.extend_from_slice(&frame);
            while let Some(len) = first_message(&begun)? {
                let message = Bytes::copy_from_slice(&begun[..len]);
                let cost = len + OVERHEAD;
                if waiting.fetch_add(cost, Ordering::Relaxed) + cost > UNREAD {
                    return Err(Status::resource_exhausted("answers are not taken, and questions go on"));
                }
                if messages.send(Ok(message)).is_err() {
                    return Ok(());
                }
                begun.drain(..len);
                whole_by = clock::deadline(PATIENCE);
            }
        }
        if begun.is_empty() { Ok(()) } else { Err(Status::invalid_argument("the last message is not whole")) }
    };
    let end = tokio::select! {
        () = messages.closed() => return,
        end = taking => end,
    };
    if let Err(status) = end {
        // Who gave up reading need not know.
        let _ = messages.send(Err(status));
    }
}

/// How many bytes the first message has with its prefix, once it is whole.
fn first_message(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some(&[_, a, b, c, d]) = bytes.first_chunk::<PREFIX>() else { return Ok(None) };
    let len = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    if len > SMALL_MESSAGE {
        let why = format!("a message of {len} bytes, at most {SMALL_MESSAGE} are read here");
        return Err(Status::out_of_range(why));
    }
    Ok((bytes.len() >= PREFIX + len).then_some(PREFIX + len))
}
