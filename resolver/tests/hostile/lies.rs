//! What no good server says, as bytes.

use crate::support::wire::*;

/// Something that a server says.
pub(crate) struct Lie {
    /// What is wrong with it.
    pub(crate) name: &'static str,
    pub(crate) says: Vec<u8>,
}

fn lie(name: &'static str, says: impl IntoIterator<Item = Vec<u8>>) -> Lie {
    let says = says.into_iter().flatten().collect();
    Lie { name, says }
}

fn setting(id: u16, value: u32) -> Vec<u8> {
    let payload = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
    frame(SETTINGS, 0, 0, &payload)
}

fn settings() -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[])
}

fn go_away(last: u32, reason: u32) -> Vec<u8> {
    let payload = [last.to_be_bytes(), reason.to_be_bytes()].concat();
    frame(GOAWAY, 0, 0, &payload)
}

/// The largest number of 31 bits.
const LAST: u32 = (1 << 31) - 1;

/// What a server begins with that speaks no HTTP/2.
pub(crate) fn greetings() -> Vec<Lie> {
    vec![
        lie("HTTP/1", [b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]),
        lie("garbage", [vec![0xff; 4096]]),
        lie("zeros", [vec![0; 4096]]),
        lie("SSH", [b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()]),
        lie("settings of 5 bytes", [frame(SETTINGS, 0, 0, &[0; 5])]),
        lie("settings on a stream", [frame(SETTINGS, 0, 1, &[])]),
        lie(
            "settings as an answer to settings",
            [frame(SETTINGS, ACK, 0, &[0; 6])],
        ),
        lie("a window of 2^31", [setting(4, 1 << 31)]),
        lie("frames of 0 bytes", [setting(5, 0)]),
        lie("frames of 16 MiB", [setting(5, 1 << 24)]),
        lie("push: 2", [setting(2, 2)]),
        lie("no settings, but a ping", [frame(PING, 0, 0, &[0; 8])]),
        lie("no settings, but a response", [headers(1, &[])]),
        lie(
            "a GOAWAY beside the settings",
            [settings(), frame(GOAWAY, 0, 0, &[0; 8])],
        ),
    ]
}

/// What breaks the connection, or the stream, of a call on `stream`.
pub(crate) fn breaches(stream: u32) -> Vec<Lie> {
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let raw = |block: &[u8]| frame(HEADERS, END_HEADERS, stream, block);
    let only = |fields: &[(&str, &str)]| raw(&block(fields));
    let ok = || trailers(stream, &[("grpc-status", "0")]);
    let part = || data(stream, &message(b""));
    let response = || [headers(stream, &[]), part(), ok()].concat();
    vec![
        // Frames.
        lie(
            "a frame larger than agreed on",
            [data(stream, &[0; 16_385])],
        ),
        lie(
            "more padding than payload",
            [
                headers(stream, &[]),
                frame(DATA, PADDED, stream, &[200, 0, 0]),
            ],
        ),
        lie("a ping of 3 bytes", [frame(PING, 0, 0, &[0; 3])]),
        lie("a ping on a stream", [frame(PING, 0, stream, &[0; 8])]),
        lie(
            "a reset of 3 bytes",
            [frame(RST_STREAM, 0, stream, &[0; 3])],
        ),
        lie("a GOAWAY of 4 bytes", [frame(GOAWAY, 0, 0, &[0; 4])]),
        lie("a GOAWAY on a stream", [frame(GOAWAY, 0, stream, &[0; 8])]),
        lie(
            "a window update of 1 byte",
            [frame(WINDOW_UPDATE, 0, 0, &[1])],
        ),
        lie(
            "a push promise",
            [frame(
                PUSH_PROMISE,
                END_HEADERS,
                stream,
                &[0, 0, 0, 2, 0x82, 0x84],
            )],
        ),
        lie(
            "headers that never end",
            [
                frame(HEADERS, 0, stream, &block(&[(":status", "200")])),
                data(stream, b""),
            ],
        ),
        lie(
            "a continuation of nothing",
            [frame(CONTINUATION, END_HEADERS, stream, &[])],
        ),
        lie(
            "a continuation of another stream's headers",
            [
                frame(HEADERS, 0, stream, &[]),
                frame(CONTINUATION, END_HEADERS, stream + 2, &[]),
            ],
        ),
        // Settings.
        lie("a window of 2^31 in flight", [setting(4, 1 << 31)]),
        lie("frames of 1 byte in flight", [setting(5, 1)]),
        lie(
            "an answer to settings that nobody sent",
            [frame(SETTINGS, ACK, 0, &[]), frame(SETTINGS, ACK, 0, &[])],
        ),
        // Windows.
        lie("a connection's window of 0 more", [update(0, 0)]),
        lie("a connection's window beyond all", [update(0, LAST)]),
        lie("a stream's window of 0 more", [update(stream, 0)]),
        lie("the window of an idle stream", [update(stream + 100, 1)]),
        // Streams.
        lie("headers on the connection", [headers(0, &[])]),
        lie("data on the connection", [data(0, b"x")]),
        lie("headers on an idle stream", [headers(stream + 100, &[])]),
        lie("data on an idle stream", [data(stream + 100, b"x")]),
        lie(
            "a reset of an idle stream",
            [frame(RST_STREAM, 0, stream + 100, &[0; 4])],
        ),
        lie("headers on a stream of the server's", [headers(2, &[])]),
        lie("data on a stream of the server's", [data(2, b"x")]),
        lie(
            "a reset of the connection",
            [frame(RST_STREAM, 0, 0, &[0; 4])],
        ),
        lie("data before headers", [part(), response()]),
        lie(
            "a reset for no reason",
            [frame(RST_STREAM, 0, stream, &[0; 4])],
        ),
        lie(
            "a reset for a reason that nobody knows",
            [frame(RST_STREAM, 0, stream, &[0xff; 4])],
        ),
        // Headers.
        lie("index 0", [raw(&[0x80])]),
        lie("an index that does not exist", [raw(&[0xff, 0xff, 0x7f])]),
        lie(
            "an index beyond all numbers",
            [raw(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])],
        ),
        lie(
            "a table larger than agreed on",
            [raw(&[0x3f, 0xff, 0xff, 0x7f])],
        ),
        lie("a name longer than its block", [raw(&[0, 100, b'a'])]),
        lie(
            "a text that Huffman did not write",
            [raw(&[0, 0x84, 0xff, 0xff, 0xff, 0xff])],
        ),
        lie(
            "no status",
            [only(&[("content-type", "application/grpc")]), part(), ok()],
        ),
        lie(
            "a status that is no number",
            [only(&[(":status", "abc")]), ok()],
        ),
        lie("a status of 0", [only(&[(":status", "0")]), ok()]),
        lie(
            "two statuses",
            [only(&[(":status", "200"), (":status", "404")]), ok()],
        ),
        lie(
            "a request as the response",
            [
                only(&[(":method", "GET"), (":path", "/"), (":scheme", "http")]),
                ok(),
            ],
        ),
        lie(
            "a status after the headers",
            [only(&[("a", "b"), (":status", "200")]), ok()],
        ),
        lie(
            "a name in capitals",
            [only(&[(":status", "200"), ("Grpc-Status", "0")]), ok()],
        ),
        lie(
            "a header of HTTP/1",
            [only(&[(":status", "200"), ("connection", "close")]), ok()],
        ),
        lie(
            "less content than it said",
            [headers(stream, &[("content-length", "10")]), part(), ok()],
        ),
        lie(
            "more content than it said",
            [headers(stream, &[("content-length", "2")]), part(), ok()],
        ),
        lie(
            "a length that is no number",
            [headers(stream, &[("content-length", "many")]), part(), ok()],
        ),
        lie(
            "two lengths",
            [
                headers(stream, &[("content-length", "5"), ("content-length", "6")]),
                part(),
                ok(),
            ],
        ),
        lie(
            "trailers that do not end the stream",
            [headers(stream, &[]), part(), only(&[("grpc-status", "0")])],
        ),
        lie(
            "100 that ends the stream",
            [trailers(stream, &[(":status", "100")])],
        ),
    ]
}

/// What is HTTP/2, and not gRPC: a call ends with whatever its client makes of it.
pub(crate) fn nonsense(stream: u32) -> Vec<Lie> {
    let ends = |fields: &[(&str, &str)]| {
        let part = data(stream, &message(b""));
        [headers(stream, &[]), part, trailers(stream, fields)].concat()
    };
    let only = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, stream, &block(fields));
    let end = |payload: &[u8]| frame(DATA, END_STREAM, stream, payload);
    let ok = || trailers(stream, &[("grpc-status", "0")]);
    vec![
        lie("a code that is no number", [ends(&[("grpc-status", "x")])]),
        lie("a code below 0", [ends(&[("grpc-status", "-1")])]),
        lie(
            "a code beyond all",
            [ends(&[("grpc-status", "99999999999999999999")])],
        ),
        lie("a code of nothing", [ends(&[("grpc-status", "")])]),
        lie(
            "two codes",
            [ends(&[("grpc-status", "13"), ("grpc-status", "0")])],
        ),
        lie(
            "a message that is not percent-encoded",
            [ends(&[("grpc-status", "13"), ("grpc-message", "%zz%ff%")])],
        ),
        lie(
            "details that are no base64",
            [ends(&[
                ("grpc-status", "13"),
                ("grpc-status-details-bin", "!!!"),
            ])],
        ),
        lie(
            "a code in the headers, and no end",
            [headers(stream, &[("grpc-status", "13")]), end(b"")],
        ),
        lie("no code at all", [headers(stream, &[]), end(b"")]),
        lie(
            "a response without anything",
            [trailers(stream, &[(":status", "200")])],
        ),
        lie(
            "a page",
            [
                only(&[(":status", "503"), ("content-type", "text/html")]),
                end(b"<html>"),
            ],
        ),
        lie(
            "a page that is fine",
            [
                only(&[(":status", "200"), ("content-type", "text/html")]),
                end(b"<html>"),
            ],
        ),
        lie(
            "a message of 4 GiB",
            [
                headers(stream, &[]),
                data(stream, &[0, 0xff, 0xff, 0xff, 0xff, 0]),
                ok(),
            ],
        ),
        lie(
            "a message that is cut off",
            [
                headers(stream, &[]),
                data(stream, &[0, 0, 0, 0, 9, 1]),
                ok(),
            ],
        ),
        lie(
            "a compression that nobody named",
            [headers(stream, &[]), data(stream, &[1, 0, 0, 0, 0]), ok()],
        ),
        lie(
            "a flag that nobody knows",
            [headers(stream, &[]), data(stream, &[7, 0, 0, 0, 0]), ok()],
        ),
        lie(
            "a message that is none",
            [
                headers(stream, &[]),
                data(stream, &message(&[0xff; 9])),
                ok(),
            ],
        ),
        lie("no message", [headers(stream, &[]), ok()]),
        lie("a status in the trailers", [ends(&[(":status", "200")])]),
        lie(
            "an encoding that nobody knows",
            [headers(stream, &[("grpc-encoding", "rot13")]), ok()],
        ),
    ]
}

/// What could go on for ever: after it, as before, there is no response.
pub(crate) fn silences(stream: u32) -> Vec<Lie> {
    let update = |stream, by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let times = |count: usize, bytes: Vec<u8>| bytes.repeat(count);
    let only = |fields: &[(&str, &str)]| frame(HEADERS, END_HEADERS, stream, &block(fields));
    vec![
        lie("pings", [times(100, frame(PING, 0, 0, &[7; 8]))]),
        lie(
            "answers to no ping",
            [times(100, frame(PING, ACK, 0, &[7; 8]))],
        ),
        lie("settings", [times(100, settings())]),
        lie(
            "a limit that goes up and down",
            [[setting(MAX_STREAMS, 0), setting(MAX_STREAMS, u32::MAX)]
                .concat()
                .repeat(50)],
        ),
        lie(
            "windows that go up and down",
            [[setting(4, 0), setting(4, LAST)].concat().repeat(50)],
        ),
        lie(
            "window updates",
            [times(100, update(0, 1)), times(100, update(stream, 1))],
        ),
        lie(
            "priorities",
            [times(100, frame(PRIORITY, 0, stream, &[0; 5]))],
        ),
        lie(
            "frames that nobody knows",
            [times(100, frame(0x42, 0xff, stream, b"what?"))],
        ),
        lie("100s", [times(100, only(&[(":status", "100")]))]),
        lie(
            "103s with links",
            [times(
                10,
                only(&[(":status", "103"), ("link", &"x".repeat(1000))]),
            )],
        ),
    ]
}

/// What is not gone on with.
pub(crate) fn stops(stream: u32) -> Vec<Lie> {
    let update = |by: u32| frame(WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    vec![
        // h2 resets the stream, and tells nobody.
        lie("a stream's window beyond all", [update(LAST)]),
        lie("a GOAWAY for a reason", [go_away(LAST, 2)]),
        lie("headers, and nothing more", [headers(stream, &[])]),
        lie(
            "half a message",
            [headers(stream, &[]), data(stream, &[0, 0, 0, 1, 0, 7])],
        ),
        lie("half a frame", [headers(stream, &[])[..12].to_vec()]),
    ]
}

/// What says that a call was not processed.
pub(crate) fn refusals(stream: u32) -> Vec<Lie> {
    vec![
        lie("GOAWAY of nothing, for a reason", [go_away(0, 2)]),
        lie("GOAWAY for a reason that nobody knows", [go_away(0, 4711)]),
        lie(
            "a GOAWAY that takes back less than the last",
            [go_away(0, NO_ERROR), go_away(LAST, NO_ERROR)],
        ),
        lie("GOAWAYs", [go_away(0, NO_ERROR).repeat(1000)]),
        lie(
            "a GOAWAY with much to say",
            [frame(GOAWAY, 0, 0, &[0; 16_000])],
        ),
        lie(
            "REFUSED_STREAM",
            [frame(RST_STREAM, 0, stream, &REFUSED_STREAM.to_be_bytes()).repeat(100)],
        ),
    ]
}
