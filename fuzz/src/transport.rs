//! The channel's transport, against a server that says whatever it likes.

use std::time::Duration;

use switchboard_embedded::{Io, Listener, Network};
use switchboard_proto::{HelloRequest, HellosRequest, greeter_client::GreeterClient};
use switchboard_resolver::Channel;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime::Builder,
    task::JoinSet,
    time::timeout,
};
use tokio_stream::StreamExt;
use tonic::{IntoRequest, Request};

/// How long a call may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// By when all is over that has a deadline.
const SOON: Duration = Duration::from_secs(30);

/// The kinds of frames that are made (RFC 9113, section 6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What a server does next.
enum Step {
    Say(Vec<u8>),
    Wait(Duration),
    /// Reads what the client has said.
    Read,
    HangUp,
}

/// Makes steps of bytes: most are frames that could be meant.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let (some, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        some.to_vec()
    }

    fn number(&mut self) -> Option<u32> {
        // Those about which there are rules.
        const NUMBERS: [u32; 8] = [0, 1, 100, 16_384, 65_535, 1 << 24, (1 << 31) - 1, u32::MAX];
        let byte = self.byte()?;
        Some(NUMBERS[usize::from(byte % 8)].wrapping_add(u32::from(byte / 64)))
    }

    /// One of the calls' most of the time.
    fn stream(&mut self) -> Option<u32> {
        const STREAMS: [u32; 12] = [1, 1, 1, 3, 3, 5, 5, 7, 0, 2, 101, u32::MAX];
        Some(STREAMS[usize::from(self.byte()? % 12)])
    }

    fn frame_of_a_number(&mut self, kind: u8) -> Option<Vec<u8>> {
        let (stream, number) = (self.stream()?, self.number()?);
        Some(frame(kind, 0, stream, &number.to_be_bytes()))
    }

    fn next(&mut self) -> Option<Step> {
        const RESPONSE: &[u8] = b"\x88\x0f\x10\x10application/grpc";
        const TRAILERS: &[u8] = b"\x00\x0bgrpc-status\x010";
        const LAST: u8 = END_HEADERS | END_STREAM;
        Some(match self.byte()? % 16 {
            0..=2 => Step::Say(frame(HEADERS, END_HEADERS, self.stream()?, RESPONSE)),
            3..=4 => Step::Say(frame(DATA, 0, self.stream()?, &[0; 5])),
            5..=6 => Step::Say(frame(HEADERS, LAST, self.stream()?, TRAILERS)),
            7..=8 => {
                let (kind, flags, stream) = (self.byte()? % 12, self.byte()?, self.stream()?);
                let length = usize::from(self.byte()?);
                Step::Say(frame(kind, flags, stream, &self.bytes(length)))
            }
            9 => {
                let id = [0, self.byte()? % 8];
                let value = self.number()?.to_be_bytes();
                Step::Say(frame(SETTINGS, 0, 0, &[&id[..], &value].concat()))
            }
            10 => Step::Say(self.frame_of_a_number(WINDOW_UPDATE)?),
            11 => Step::Say(self.frame_of_a_number(RST_STREAM)?),
            12 => {
                let (last, reason) = (self.stream()?.to_be_bytes(), self.number()?.to_be_bytes());
                Step::Say(frame(GOAWAY, 0, 0, &[last, reason].concat()))
            }
            13 => {
                let length = usize::from(self.byte()? % 32);
                Step::Say(self.bytes(length))
            }
            14 => Step::Wait(Duration::from_millis(u64::from(self.byte()?).pow(2))),
            _ if self.byte()? < 16 => Step::HangUp,
            _ => Step::Read,
        })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head[..], &stream.to_be_bytes(), payload].concat()
}

/// Calls a server that does what the input says: each call ends, and nothing is left of any when
/// the channel is closed.
pub fn transport(input: &[u8]) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(run(input));
    assert_eq!(
        runtime.metrics().num_alive_tasks(),
        0,
        "tasks that are left"
    );
}

async fn run(input: &[u8]) {
    let network = Network::new();
    let listener = network.listen("a:1").expect("nobody there");
    let channel = Channel::balance(["a:1"])
        .expect("an address")
        .connector(network.connector("channel"))
        .connect_lazy()
        .expect("a channel");
    let calls = calls(&channel);
    let play = async {
        serve(listener, Script(input)).await;
        std::future::pending().await
    };
    let play_out = async {
        let ended = timeout(SOON, calls.join_all()).await;
        ended.expect("all calls end, with their deadlines at the latest");
        for endpoint in &channel.state().endpoints {
            assert_eq!(endpoint.calls_in_flight(), 0);
        }
        let closed = timeout(SOON, channel.close()).await;
        closed.expect("a channel without calls closes");
    };
    tokio::select! {
        () = play => {}
        () = play_out => {}
    }
}

/// Calls of all four kinds.
fn calls(channel: &Channel) -> JoinSet<()> {
    let client = || GreeterClient::new(channel.clone());
    let names = || {
        let names = tokio_stream::iter(0..3).then(async |number| {
            tokio::time::sleep(Duration::from_millis(number)).await;
            name(20_000)
        });
        deadline(names)
    };
    let mut calls = JoinSet::new();
    let (mut unary, mut server, mut both, mut many) = (client(), client(), client(), client());
    calls.spawn(async move { drop(unary.say_hello(deadline(name(3))).await) });
    calls.spawn(async move {
        let replies = server.say_hellos(deadline(HellosRequest::default())).await;
        read(replies).await;
    });
    calls.spawn(async move { read(both.chat(names()).await).await });
    calls.spawn(async move { drop(many.greet_all(names()).await) });
    calls
}

async fn read<T>(replies: Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>) {
    if let Ok(replies) = replies {
        let mut replies = replies.into_inner();
        while let Some(Ok(_)) = replies.next().await {}
    }
}

fn name(length: usize) -> HelloRequest {
    HelloRequest {
        name: "x".repeat(length),
    }
}

fn deadline<T>(message: impl IntoRequest<T>) -> Request<T> {
    let mut request = message.into_request();
    request.set_timeout(DEADLINE);
    request
}

/// Plays the script over as many connections as it takes.
async fn serve(mut listener: Listener, mut script: Script<'_>) {
    while let Some(Ok(mut io)) = listener.next().await {
        // Most often settled, or there would be no call.
        if script.0.first().is_none_or(|byte| *byte != 0xff) {
            let _ = io.write_all(&frame(SETTINGS, 0, 0, &[])).await;
        }
        while let Some(step) = script.next() {
            match step {
                Step::Say(bytes) => drop(timeout(SOON, io.write_all(&bytes)).await),
                Step::Wait(time) => tokio::time::sleep(time).await,
                Step::Read => read_all(&mut io).await,
                Step::HangUp => break,
            }
        }
        if script.0.is_empty() {
            // Neither reads nor speaks.
            std::future::pending::<()>().await;
        }
    }
}

async fn read_all(io: &mut Io) {
    let mut bytes = [0; 4096];
    let pause = Duration::from_millis(1);
    while let Ok(Ok(1..)) = timeout(pause, io.read(&mut bytes)).await {}
}
