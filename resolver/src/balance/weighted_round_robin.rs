//! Each in its turn, and in as many turns as its metadata says it can do.

use super::{Candidate, Picker, Policy, Weighted, weight::WeightKey};
use crate::ServiceConfigError;

/// Each endpoint in its turn, by weight: what the metadata of endpoints says they can do compared with each
/// other (gRPC's A58, with weights that are set instead of reported).
///
/// It is the right one where servers are not alike, and it is known how they differ. A weight is a number
/// from 0 to 4,294,967,295, as a string, under the key `weight`: kratos' spelling. With weights 1 and 3 an
/// endpoint gets every fourth call and the other one all others. Who weighs 0 gets none; who says nothing, or
/// what is no such number, has the mean of the others' weights, which is told once in the log; and if all
/// weigh 0, all are called alike, since to call nobody would be an outage.
///
/// ```
/// use switchboard_resolver::{Channel, Endpoint, Update, WeightedRoundRobin};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let weak = Endpoint::new("10.0.0.1:50051".parse()?).with_metadata("weight", "1");
/// let strong = Endpoint::new("10.0.0.2:50051".parse()?).with_metadata("weight", "3");
/// let channel = Channel::builder(tokio_stream::iter([Update::Snapshot(vec![weak, strong])]))
///     .policy(WeightedRoundRobin::new())
///     .connect_lazy()?;
/// # channel.close().await;
/// # Ok(()) }
/// ```
///
/// By name it is `weighted_round_robin`, with `{ "weightKey": "weight" }`.
#[derive(Debug, Clone, Default)]
pub struct WeightedRoundRobin {
    weight: WeightKey,
}

impl WeightedRoundRobin {
    /// Makes the policy, with weights under the key `weight`.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets the key of the metadata that has the weight.
    pub fn weight_key(mut self, key: impl Into<String>) -> Self {
        self.weight = WeightKey::new(key);
        self
    }
}

impl Policy for WeightedRoundRobin {
    fn name(&self) -> &str {
        "weighted_round_robin"
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        self.weight.check()
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        let weights = self.weight.weights(candidates).into_iter().zip(candidates);
        let shares = weights.map(|(weight, candidate)| weight * candidate.share());
        Box::new(Weighted::new(shares, seed))
    }

    fn offers_all(&self) -> bool {
        true
    }
}
