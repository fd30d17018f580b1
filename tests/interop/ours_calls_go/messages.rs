//! What goes along with messages: metadata, errors, compression.

use prost::Message;
use tonic::{
    Code, Request,
    codec::CompressionEncoding,
    metadata::{MetadataMap, MetadataValue},
};

use super::{Client, client, greet, hello, hellos};
use crate::{
    go::Go,
    status::{Any, Status},
};

const BYTES: [u8; 4] = [0, 1, 254, 255];

pub(crate) async fn metadata_goes_both_ways(go: Go) {
    let server = go.serve(&[]).await;
    let mut client = client(&[&server]).await;

    // That of a unary response has its trailers, too.
    let reply = client.say_hello(with_metadata(hello("you"))).await.unwrap();
    assert_headers(reply.metadata());
    assert_trailers(reply.metadata());

    let request = with_metadata(hellos("you", 1, 0));
    let replies = client.say_hellos(request).await.unwrap();
    assert_headers(replies.metadata());
    let mut replies = replies.into_inner();
    let trailers = replies.trailers().await.unwrap().unwrap();
    assert_trailers(&trailers);
}

fn with_metadata<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("echo-text", "some text".parse().unwrap());
    metadata.append("echo-more", "one".parse().unwrap());
    metadata.append("echo-more", "two".parse().unwrap());
    metadata.insert("trail-text", "at last".parse().unwrap());
    let bytes = MetadataValue::from_bytes(&BYTES);
    metadata.insert_bin("echo-bytes-bin", bytes.clone());
    metadata.insert_bin("trail-bytes-bin", bytes);
    request
}

fn assert_headers(headers: &MetadataMap) {
    assert_eq!(headers.get("echo-text").unwrap(), "some text");
    let more: Vec<_> = headers.get_all("echo-more").iter().collect();
    assert_eq!(more, ["one", "two"]);
    let bytes = headers.get_bin("echo-bytes-bin").unwrap().to_bytes();
    assert_eq!(&*bytes.unwrap(), BYTES);
}

fn assert_trailers(trailers: &MetadataMap) {
    assert_eq!(trailers.get("trail-text").unwrap(), "at last");
    let bytes = trailers.get_bin("trail-bytes-bin").unwrap().to_bytes();
    assert_eq!(&*bytes.unwrap(), BYTES);
}

pub(crate) async fn an_error_alone_has_its_code_message_and_details(go: Go) {
    let server = go.serve(&[]).await;
    let client = client(&[&server]).await;
    for error in errors(&client).await {
        assert_eq!(error.code(), Code::ResourceExhausted);
        assert_eq!(error.message(), "no luck today: 100 % ü\n");
        let status = Status::decode(error.details()).unwrap();
        let detail = Any {
            type_url: "type.googleapis.com/google.protobuf.StringValue".to_owned(),
            value: String::from("tomorrow").encode_to_vec(),
        };
        let expected = Status {
            code: Code::ResourceExhausted.into(),
            message: error.message().to_owned(),
            details: vec![detail],
        };
        assert_eq!(status, expected);
        // It came from the server, not from the way there.
        assert!(std::error::Error::source(&error).is_none(), "{error:?}");
    }
}

/// What calls of all kinds fail with; that with a stream of replies has not had one.
async fn errors(client: &Client) -> [tonic::Status; 4] {
    let names = || tokio_stream::once(hello("fail"));
    [
        greet(client, "fail").await.unwrap_err(),
        failed(client.clone().say_hellos(hellos("fail", 1, 0)).await).await,
        client.clone().greet_all(names()).await.unwrap_err(),
        failed(client.clone().chat(names()).await).await,
    ]
}

/// What a call fails with whose first answer is the error.
async fn failed<T>(
    replies: Result<tonic::Response<tonic::Streaming<T>>, tonic::Status>,
) -> tonic::Status {
    match replies {
        Ok(replies) => replies
            .into_inner()
            .message()
            .await
            .map(|_| ())
            .unwrap_err(),
        Err(error) => error,
    }
}

pub(crate) async fn gzip_goes_both_ways(go: Go) {
    let server = go.serve(&[]).await;
    let mut client = client(&[&server])
        .await
        .send_compressed(CompressionEncoding::Gzip)
        .accept_compressed(CompressionEncoding::Gzip);
    assert_eq!(greet(&client, "compression").await.unwrap().message, "gzip");

    let long = "long ".repeat(100_000);
    let reply = client.say_hello(hello(&*long)).await.unwrap();
    assert_eq!(reply.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert!(reply.into_inner().message == format!("Hello, {long}!"));

    let names = tokio_stream::iter(vec![hello(&*long); 10]);
    let mut replies = client.chat(names).await.unwrap().into_inner();
    for _ in 0..10 {
        let reply = replies.message().await.unwrap().unwrap();
        assert!(reply.message == format!("Hello, {long}!"));
    }
    assert!(replies.message().await.unwrap().is_none());
}
