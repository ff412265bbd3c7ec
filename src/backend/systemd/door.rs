//! What comes in from the bus. Anybody on it may send anything to anybody, and the bus passes it on.
//!
//! Rules implemented here:
//! * What nobody here waits for is dropped as it is read, before it takes a place in a queue or in memory: every signal that
//!   neither systemd nor the bus itself sent, and every call.
//! * No descriptor is taken. A connection that takes them can be made to run out of them, and breaks; to one that does not,
//!   the bus passes no message with any.

use crate::clock;
use crate::grpc::limits::Sparing;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use zbus::Message;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::message::Type;

/// Who sends what the bus itself says.
pub(super) const BUS: &str = "org.freedesktop.DBus";

/// A stream to the bus.
#[derive(Debug)]
pub(super) struct Door {
    stream: UnixStream,
    systemd: Arc<OnceLock<String>>,
}

impl Door {
    /// Passes on what systemd sends once its unique name is set, and nothing of it before.
    pub(super) fn new(stream: UnixStream, systemd: Arc<OnceLock<String>>) -> Self {
        Self { stream, systemd }
    }
}

impl Socket for Door {
    type ReadHalf = Inward;
    type WriteHalf = Outward;

    fn split(self) -> Split<Inward, Outward> {
        let (read, write) = self.stream.into_split();
        let inward = Inward { bytes: Bytes(read), systemd: self.systemd, forged: Sparing::default() };
        Split::new(inward, Outward(write))
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Inward {
    bytes: Bytes,
    systemd: Arc<OnceLock<String>>,
    /// What others made systemd's signals look like.
    forged: Sparing,
}

impl Inward {
    fn lets_in(&mut self, message: &Message) -> bool {
        let header = message.header();
        let sender = header.sender().map(|name| name.as_str()).unwrap_or_default();
        match message.message_type() {
            // The bus passes on no answer that was not asked for.
            Type::MethodReturn | Type::Error => true,
            Type::MethodCall => false,
            Type::Signal if sender == BUS => true,
            Type::Signal => {
                let own = self.systemd.get();
                if own.is_some_and(|systemd| systemd != sender)
                    && let Some(unsaid) = self.forged.say(clock::now())
                {
                    let member = header.member().map(|name| name.as_str()).unwrap_or_default();
                    tracing::warn!(sender, member, unsaid, "a signal that systemd did not send");
                }
                own.is_some_and(|systemd| systemd == sender)
            }
        }
    }
}

#[async_trait]
impl ReadHalf for Inward {
    async fn receive_message(
        &mut self,
        seq: u64,
        bytes: &mut Vec<u8>,
        fds: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        loop {
            let message = self.bytes.receive_message(seq, bytes, fds).await?;
            if self.lets_in(&message) {
                return Ok(message);
            }
        }
    }

    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.bytes.recvmsg(buffer).await
    }
}

/// The bytes that come in, and nothing beside them.
#[derive(Debug)]
struct Bytes(OwnedReadHalf);

#[async_trait]
impl ReadHalf for Bytes {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(buffer) {
                Ok(read) => return Ok((read, Vec::new())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The bytes that go out.
#[derive(Debug)]
pub(super) struct Outward(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Outward {
    async fn sendmsg(&mut self, buffer: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if !fds.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "no descriptor goes over this connection"));
        }
        loop {
            self.0.writable().await?;
            match self.0.try_write(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    async fn close(&mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(&mut self.0).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inward(systemd: Option<&str>) -> Inward {
        let (stream, _) = UnixStream::pair().unwrap();
        let known = Arc::new(OnceLock::new());
        if let Some(name) = systemd {
            known.set(name.to_owned()).unwrap();
        }
        Door::new(stream, known).split().take().0
    }

    fn signal(sender: &str) -> Message {
        let signal = Message::signal("/a", "org.freedesktop.DBus.Properties", "PropertiesChanged");
        signal.sender(sender).build(&()).unwrap()
    }

    #[tokio::test]
    async fn only_systemd_the_bus_and_answers_are_let_in() {
        let mut known = inward(Some(":1.0"));
        assert!(known.lets_in(&signal(":1.0")) && known.lets_in(&signal(BUS)));
        for other in [":1.00", ":1.7"] {
            assert!(!known.lets_in(&signal(other)), "{other}");
        }
        let call = Message::method_call("/a", "Do").sender(":1.0").build(&()).unwrap();
        assert!(!known.lets_in(&call), "not even systemd calls us");
        let answer = Message::method_return(&call.header()).build(&()).unwrap();
        assert!(known.lets_in(&answer));
        let mut yet_unknown = inward(None);
        assert!(!yet_unknown.lets_in(&signal(":1.0")) && yet_unknown.lets_in(&signal(BUS)));
    }

    /// They would fill the queue of whoever is just reading all units, and the answer that is waited for would not come through.
    #[tokio::test]
    async fn however_many_forged_signals_come_first_the_answer_is_read() {
        let (near, far) = UnixStream::pair().unwrap();
        let known = Arc::new(OnceLock::from(":1.0".to_owned()));
        let mut inward = Door::new(near, known).split().take().0;
        let call = Message::method_call("/a", "Do").sender(":1.9").build(&()).unwrap();
        let answer = Message::method_return(&call.header()).sender(":1.0").build(&"done").unwrap();
        let mut sent = signal(":1.7").data().to_vec().repeat(10_000);
        sent.extend_from_slice(answer.data());
        let mut far = far;
        let writer = tokio::spawn(async move {
            tokio::io::AsyncWriteExt::write_all(&mut far, &sent).await.unwrap();
            far
        });
        let read = inward.receive_message(1, &mut Vec::new(), &mut Vec::new()).await.unwrap();
        assert_eq!(read.body().deserialize::<&str>().unwrap(), "done");
        drop(writer.await.unwrap());
        assert!(inward.receive_message(2, &mut Vec::new(), &mut Vec::new()).await.is_err(), "and then it is closed");
    }

    #[tokio::test]
    async fn no_descriptor_is_taken() {
        let (stream, _) = UnixStream::pair().unwrap();
        let (inward, outward) = Door::new(stream, Arc::default()).split().take();
        assert!(!inward.can_pass_unix_fd() && !outward.can_pass_unix_fd());
    }
}
