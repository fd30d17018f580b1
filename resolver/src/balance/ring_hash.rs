//! Calls with the same key to the same endpoint.

mod ring;

use http::HeaderName;

use self::ring::{Ring, Sizes};
use super::{CallInfo, Candidate, PickError, Picker, Policy, weight::WeightKey};
use crate::{HashKey, ServiceConfigError, chance::Chance};

/// Calls with the same key go to the same endpoint, for as long as it can be called (gRPC's ring hash, A42 and
/// A76).
///
/// It is the right one where a server keeps something for those who call it, such as a cache: all clients
/// with the same list of endpoints send a key to the same one. It is no lock: two clients that see a change
/// at different times call different ones.
///
/// The key is the request's extension [`HashKey`], or else a header if one is named
/// ([`by_header`](Self::by_header)). A call without a key fails with INTERNAL, which says so, unless it may
/// go anywhere ([`or_random`](Self::or_random)).
///
/// **What moves.** Each endpoint stands on a ring in many places, by a hash of its addresses; a key belongs to
/// the endpoint whose place comes next after its own hash. When one leaves, fails, or cannot take a call, its
/// keys go to those that come next on the ring, and no others move; when it is back, so are they. For that
/// an endpoint has as many places whoever else is there: 512 for one of weight 1, or 128 from eight such on, 32
/// from 32 on, and so forth: the number changes only where the ring would have fewer places than its least
/// size. Where it does, or at the greatest size, more keys move than need to.
///
/// **Weights** ([`WeightedRoundRobin`](crate::WeightedRoundRobin) has the rules) give an endpoint more places.
/// How much it has to do does not matter, nor whether it starts slowly: either would move keys.
///
/// ```
/// use switchboard_resolver::{Channel, RingHash};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let channel = Channel::balance(["10.0.0.1:50051", "10.0.0.2:50051"])?
///     .policy(RingHash::by_header("x-user"))
///     .connect_lazy()?;
/// # channel.close().await;
///
/// let builder = Channel::balance(["10.0.0.1:50051"])?.policy(RingHash::by_header("x user"));
/// let error = builder.connect_lazy().unwrap_err();
/// assert_eq!(error.to_string(), "requestHashHeader: x user (expected: the name of a header)");
/// # Ok(()) }
/// ```
///
/// By name it is `ring_hash`, or gRPC's `ring_hash_experimental`, with `{ "minRingSize": 1024, "maxRingSize":
/// 4096, "requestHashHeader": "x-user", "orRandom": false, "weightKey": "weight" }`, none of which has to be
/// there; sizes of more than 4,096 count as that, as in gRPC.
#[derive(Debug, Clone, Default)]
pub struct RingHash {
    sizes: Sizes,
    /// What is no name is kept, to be refused.
    header: Option<Result<HeaderName, String>>,
    or_random: bool,
    weight: WeightKey,
}

impl RingHash {
    /// A42's least size.
    pub(super) const MIN_SIZE: usize = 1_024;
    /// A42's greatest size.
    pub(super) const MAX_SIZE: usize = 4_096;
    /// The size that A42 allows at most. A ring is made anew at each change, and in each channel.
    pub(super) const GREATEST_SIZE: usize = 8 * 1024 * 1024;

    /// Makes the policy, with keys from the extension [`HashKey`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the policy, with keys from a header of requests, where there is no [`HashKey`]. Of several
    /// values the first one counts, whatever bytes it has.
    pub fn by_header(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        Self {
            header: Some(name.parse().map_err(|_| name.to_owned())),
            ..Self::default()
        }
    }

    /// Sends calls without a key to a random endpoint, instead of failing them.
    pub fn or_random(mut self) -> Self {
        self.or_random = true;
        self
    }

    /// Sets how many places the ring has, at least and at most: 1,024 and 4,096. With fewer, the shares of
    /// endpoints differ by more; with more, a change costs more. Even of the smallest ring each endpoint has
    /// one place.
    pub fn sizes(mut self, min: usize, max: usize) -> Self {
        self.sizes = Sizes { min, max };
        self
    }

    /// Sets the key of the metadata that has the weight; `weight`.
    pub fn weight_key(mut self, key: impl Into<String>) -> Self {
        self.weight = WeightKey::new(key);
        self
    }
}

impl Policy for RingHash {
    fn name(&self) -> &str {
        "ring_hash"
    }

    fn check(&self) -> Result<(), ServiceConfigError> {
        let Sizes { min, max } = self.sizes;
        let greatest = Self::GREATEST_SIZE;
        if !(1..=greatest).contains(&min) {
            let expected = format!("from 1 to {greatest}");
            return Err(ServiceConfigError::value("minRingSize", min, expected));
        }
        if !(min..=greatest).contains(&max) {
            let expected = format!("from minRingSize, {min}, to {greatest}");
            return Err(ServiceConfigError::value("maxRingSize", max, expected));
        }
        if let Some(Err(given)) = &self.header {
            let expected = "the name of a header";
            return Err(ServiceConfigError::value(
                "requestHashHeader",
                given,
                expected,
            ));
        }
        self.weight.check()
    }

    fn picker(&self, candidates: &[Candidate], seed: u64) -> Box<dyn Picker> {
        let weights = self.weight.weights(candidates);
        let names = candidates.iter().map(|it| it.endpoint().key().to_string());
        let header = self.header.as_ref().and_then(|it| it.as_ref().ok());
        Box::new(ByKey {
            ring: Ring::new(names.zip(weights), self.sizes),
            header: header.cloned(),
            random: self.or_random.then(|| Chance::new(seed)),
        })
    }

    fn offers_all(&self) -> bool {
        true
    }
}

/// Looks for a call's key on the ring.
#[derive(Debug)]
struct ByKey {
    ring: Ring,
    header: Option<HeaderName>,
    /// For calls without a key, if they may go anywhere.
    random: Option<Chance>,
}

impl ByKey {
    fn hash(&self, call: &CallInfo<'_>) -> Result<u64, PickError> {
        if let Some(key) = call.extensions().get::<HashKey>() {
            return Ok(key.hash());
        }
        let header = self.header.as_ref().and_then(|it| call.header(it));
        match (header, &self.random) {
            (Some(value), _) => Ok(HashKey::new(value.as_bytes()).hash()),
            (None, Some(chance)) => Ok(chance.draw().number()),
            (None, None) => Err(self.missing()),
        }
    }

    fn missing(&self) -> PickError {
        let expected = match &self.header {
            Some(header) => format!("a header {header} or the request extension HashKey"),
            None => "the request extension HashKey".to_owned(),
        };
        PickError::new("ring_hash key", "none", expected)
    }
}

impl Picker for ByKey {
    fn pick(
        &self,
        call: &CallInfo<'_>,
        take: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), PickError> {
        let hash = self.hash(call)?;
        self.ring.pick(hash, take);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
