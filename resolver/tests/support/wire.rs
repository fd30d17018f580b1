//! A server that speaks HTTP/2 frame by frame, so that it can say what no good server says.

use std::io;

use prost::Message;
use switchboard_embedded::{Io, Listener, Network};
use switchboard_proto::HelloReply;
use switchboard_resolver::{Channel, ChannelBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::StreamExt;

use super::until_ready;

/// The kinds of frames (RFC 9113, section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;

pub const NO_ERROR: u32 = 0;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// `SETTINGS_MAX_CONCURRENT_STREAMS`.
pub const MAX_STREAMS: u16 = 3;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub const WINDOW: u16 = 4;

/// The last stream there can be: what a GOAWAY says that takes nothing back.
pub const LAST: u32 = (1 << 31) - 1;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// The server's side of one connection.
pub struct Wire {
    io: Io,
}

impl Wire {
    /// Accepts a connection, and settles it.
    pub async fn accept(listener: &mut Listener, settings: &[(u16, u32)]) -> Self {
        let mut wire = Self::accept_only(listener).await;
        wire.preface().await;
        wire.settings(settings).await;
        wire
    }

    /// Reads what a client begins with.
    pub async fn preface(&mut self) {
        let mut preface = [0; PREFACE.len()];
        self.io.read_exact(&mut preface).await.expect("a preface");
        assert_eq!(preface, PREFACE);
    }

    /// Accepts a connection, and neither reads nor says anything on it.
    pub async fn accept_only(listener: &mut Listener) -> Self {
        let io = listener.next().await.expect("open").expect("a connection");
        Self { io }
    }

    /// Reads what comes, whatever it is, until the client has ended the connection.
    pub async fn drain(&mut self) {
        let mut bytes = [0; 4096];
        while let Ok(1..) = self.io.read(&mut bytes).await {}
    }

    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        self.send(SETTINGS, 0, 0, &payload).await;
    }

    /// Sends a frame. Whoever reads no more is not told.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send_raw(&frame(kind, flags, stream, payload)).await;
    }

    /// Sends bytes that need not be frames.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        let _ = self.io.write_all(bytes).await;
    }

    /// Reads the next frame; nothing when the client has ended the connection. Pings and settings
    /// are answered on the way.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let frame = self.read().await.ok()?;
            match (frame.kind, frame.flags & ACK) {
                (PING, 0) => self.send(PING, ACK, 0, &frame.payload).await,
                (SETTINGS, 0) => self.send(SETTINGS, ACK, 0, &[]).await,
                (PING | SETTINGS, _) | (WINDOW_UPDATE, _) => {}
                _ => return Some(frame),
            }
        }
    }

    /// Reads the next frame, whatever it is.
    pub async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, stream @ ..] = head;
        let length = u32::from_be_bytes([0, high, middle, low]) as usize;
        let mut payload = vec![0; length];
        self.io.read_exact(&mut payload).await?;
        Ok(Frame {
            kind,
            flags,
            stream: u32::from_be_bytes(stream),
            payload,
        })
    }

    /// Waits for the whole of a request, and returns its stream.
    pub async fn request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if matches!(frame.kind, HEADERS | DATA) && frame.flags & END_STREAM != 0 {
                return Some(frame.stream);
            }
        }
    }

    /// Answers a unary call.
    pub async fn answer(&mut self, stream: u32, served_by: &str) {
        self.headers(stream).await;
        self.message(stream, served_by).await;
        self.trailers(stream).await;
    }

    pub async fn headers(&mut self, stream: u32) {
        self.send_raw(&headers(stream, &[])).await;
    }

    pub async fn message(&mut self, stream: u32, served_by: &str) {
        let reply = HelloReply {
            message: "Hello, Ada!".to_owned(),
            served_by: served_by.to_owned(),
        };
        let encoded = reply.encode_to_vec();
        self.send_raw(&data(stream, &message(&encoded))).await;
    }

    pub async fn trailers(&mut self, stream: u32) {
        self.send_raw(&trailers(stream, &[("grpc-status", "0")]))
            .await;
    }

    /// Answers with a status and nothing else.
    pub async fn status(&mut self, stream: u32, code: &str) {
        let fields = [
            (":status", "200"),
            ("content-type", "application/grpc"),
            ("grpc-status", code),
        ];
        self.send_raw(&trailers(stream, &fields)).await;
    }

    pub async fn reset(&mut self, stream: u32, reason: u32) {
        self.send(RST_STREAM, 0, stream, &reason.to_be_bytes())
            .await;
    }

    pub async fn go_away(&mut self, last_stream: u32, reason: u32) {
        let payload = [last_stream.to_be_bytes(), reason.to_be_bytes()].concat();
        self.send(GOAWAY, 0, 0, &payload).await;
    }
}

/// A channel to one server, which is READY, and the server's side of it.
pub async fn wired(
    settings: &[(u16, u32)],
    configure: impl FnOnce(ChannelBuilder) -> ChannelBuilder,
) -> (Channel, Listener, Wire) {
    let network = Network::new();
    let mut listener = network.listen("a:1").expect("nobody there");
    let builder = Channel::balance(["a:1"])
        .expect("an address")
        .name("greeter")
        .connector(network.connector("channel"));
    let channel = configure(builder).connect_lazy().expect("a channel");
    let wire = Wire::accept(&mut listener, settings).await;
    until_ready(&channel, &["a:1"]).await;
    (channel, listener, wire)
}

/// A frame, whatever it says.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The headers of a response of gRPC, and these.
pub fn headers(stream: u32, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [(":status", "200"), ("content-type", "application/grpc")];
    frame(
        HEADERS,
        END_HEADERS,
        stream,
        &block(&[&usual, more].concat()),
    )
}

/// What ends a stream.
pub fn trailers(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields))
}

pub fn data(stream: u32, payload: &[u8]) -> Vec<u8> {
    frame(DATA, 0, stream, payload)
}

/// A message as gRPC has it.
pub fn message(encoded: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((encoded.len() as u32).to_be_bytes());
    bytes.extend(encoded);
    bytes
}

/// Fields as HPACK has them (RFC 7541, 6.2.2): as they are, and not to be remembered.
pub fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

/// A text (RFC 7541, 5.1 and 5.2).
fn text(block: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ ..127 => block.push(length as u8),
        length => {
            block.push(127);
            let mut rest = length - 127;
            while rest >= 128 {
                block.push(rest as u8 | 128);
                rest >>= 7;
            }
            block.push(rest as u8);
        }
    }
    block.extend(text.as_bytes());
}
