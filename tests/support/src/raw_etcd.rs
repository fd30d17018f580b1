//! etcd's requests as they are on the wire, for tests of what a server answers.
//!
//! etcd-client makes requests sound before it sends them, and hides parts of the answers. Here a
//! request leaves as it was written, also one that no client would send.

use etcd_client::proto::{
    PbCompactionRequest, PbCompactionResponse, PbDeleteRequest, PbDeleteResponse,
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse, PbPutRequest, PbPutResponse,
    PbRangeRequest, PbRangeResponse, PbStatusRequest, PbStatusResponse, PbTxnRequest,
    PbTxnResponse, PbWatchRequest,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt, wrappers::UnboundedReceiverStream};
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{raw_watch::RawWatch, version::Version};

/// A client of one etcd that sends what it is given and shows what came back.
///
/// Its methods are named after etcd's: each returns the answer, or the status that etcd refused it
/// with.
#[derive(Debug, Clone)]
pub struct RawEtcd {
    channel: Channel,
}

impl RawEtcd {
    /// Connects to `127.0.0.1:port`, when the first request is sent.
    ///
    /// # Panics
    ///
    /// If `endpoint` is no address.
    pub fn connect(endpoint: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{endpoint}")).expect("an address");
        Self {
            channel: endpoint.connect_lazy(),
        }
    }

    /// Sends a message to a method, such as `/etcdserverpb.KV/Range`, and returns its one answer.
    ///
    /// # Errors
    ///
    /// The server's status, as for all that follow.
    pub async fn unary<Question, Answer>(
        &self,
        path: &'static str,
        question: Question,
    ) -> Result<Answer, Status>
    where
        Question: Message + Send + Sync + 'static,
        Answer: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        let answer = grpc.unary(Request::new(question), path, ProstCodec::default());
        Ok(answer.await?.into_inner())
    }

    /// Asks for keys.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn range(&self, request: PbRangeRequest) -> Result<PbRangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    /// Writes a key.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn put(&self, request: PbPutRequest) -> Result<PbPutResponse, Status> {
        self.unary("/etcdserverpb.KV/Put", request).await
    }

    /// Deletes keys.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn delete(&self, request: PbDeleteRequest) -> Result<PbDeleteResponse, Status> {
        self.unary("/etcdserverpb.KV/DeleteRange", request).await
    }

    /// Compares, and does one of two lists of operations.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn txn(&self, request: PbTxnRequest) -> Result<PbTxnResponse, Status> {
        self.unary("/etcdserverpb.KV/Txn", request).await
    }

    /// Forgets the history before a revision.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn compact(
        &self,
        request: PbCompactionRequest,
    ) -> Result<PbCompactionResponse, Status> {
        self.unary("/etcdserverpb.KV/Compact", request).await
    }

    /// Makes a lease; the id 0 leaves its choice to etcd.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn grant(
        &self,
        request: PbLeaseGrantRequest,
    ) -> Result<PbLeaseGrantResponse, Status> {
        self.unary("/etcdserverpb.Lease/LeaseGrant", request).await
    }

    /// Ends a lease, with its keys.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn revoke(&self, id: i64) -> Result<PbLeaseRevokeResponse, Status> {
        let request = PbLeaseRevokeRequest { id };
        self.unary("/etcdserverpb.Lease/LeaseRevoke", request).await
    }

    /// Asks what is left of a lease.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn time_to_live(
        &self,
        request: PbLeaseTimeToLiveRequest,
    ) -> Result<PbLeaseTimeToLiveResponse, Status> {
        self.unary("/etcdserverpb.Lease/LeaseTimeToLive", request)
            .await
    }

    /// Asks for all leases.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn leases(&self) -> Result<PbLeaseLeasesResponse, Status> {
        let request = PbLeaseLeasesRequest {};
        self.unary("/etcdserverpb.Lease/LeaseLeases", request).await
    }

    /// Renews leases over one stream, and returns the answers in their order, one for each.
    ///
    /// # Errors
    ///
    /// etcd's refusal.
    pub async fn keep_alive(
        &self,
        ids: impl IntoIterator<Item = i64>,
    ) -> Result<Vec<PbLeaseKeepAliveResponse>, Status> {
        let requests: Vec<_> = ids.into_iter().map(renewal).collect();
        let path = "/etcdserverpb.Lease/LeaseKeepAlive";
        let answers = self.streaming(path, tokio_stream::iter(requests)).await?;
        answers.collect().await
    }

    /// Opens a stream of watches with its first request, which must be one that etcd answers.
    ///
    /// # Errors
    ///
    /// etcd's refusal of the stream; a watch is refused on it.
    pub async fn watch(&self, first: PbWatchRequest) -> Result<RawWatch, Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        requests.send(first).expect("the receiver is here");
        let path = "/etcdserverpb.Watch/Watch";
        let questions = UnboundedReceiverStream::new(receiver);
        let answers = self.streaming(path, questions).await?;
        Ok(RawWatch::new(requests, answers))
    }

    /// Asks for the server's version.
    ///
    /// # Panics
    ///
    /// If it does not tell one.
    pub async fn version(&self) -> Version {
        let path = "/etcdserverpb.Maintenance/Status";
        let status: Result<PbStatusResponse, _> = self.unary(path, PbStatusRequest {}).await;
        let told = status.expect("a status is told").version;
        Version::parse(&told).unwrap_or_else(|| panic!("version: {told:?} (expected: 3.6.16)"))
    }

    /// Deletes every key, ends every lease and forgets all history, as far as that can be; returns
    /// the revision that is left.
    ///
    /// # Panics
    ///
    /// If etcd does not let it.
    pub async fn clear(&self) -> i64 {
        let leases = self.leases().await.expect("leases are told");
        for lease in leases.leases {
            self.revoke(lease.id).await.expect("a lease can be ended");
        }
        let everything = PbDeleteRequest {
            key: vec![0],
            range_end: vec![0],
            ..Default::default()
        };
        let deleted = self.delete(everything).await.expect("keys can be deleted");
        let revision = deleted.header.expect("a header").revision;
        let compaction = PbCompactionRequest {
            revision,
            physical: true,
        };
        // Refused where it has been so already.
        let _ = self.compact(compaction).await;
        revision
    }

    /// Sends messages to a method that answers with a stream. It is open once the server has
    /// answered something: etcd does so with its first message.
    async fn streaming<Question, Answer>(
        &self,
        path: &'static str,
        questions: impl Stream<Item = Question> + Send + 'static,
    ) -> Result<Streaming<Answer>, Status>
    where
        Question: Message + Send + Sync + 'static,
        Answer: Message + Default + Send + Sync + 'static,
    {
        let mut grpc = self.grpc().await?;
        let path = PathAndQuery::from_static(path);
        let answers = grpc.streaming(Request::new(questions), path, ProstCodec::default());
        Ok(answers.await?.into_inner())
    }

    async fn grpc(&self) -> Result<Grpc<Channel>, Status> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(usize::MAX);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(grpc)
    }
}

fn renewal(id: i64) -> PbLeaseKeepAliveRequest {
    PbLeaseKeepAliveRequest { id }
}
