//! Blocks over HTTP, from any server that speaks the trustless gateway protocol: the swarm's relays and IPFS
//! gateways. Source: <https://specs.ipfs.tech/http-gateways/trustless-gateway/>.

use cdi_platform::http::{self, HttpError, Limits};
use cdi_platform::task::BoxFuture;
use cdi_types::Cid;
use cdi_types::block::MAX_BLOCK_BYTES;

use super::{BlockSource, SourceError};

/// A server of blocks at `<base>/ipfs/<cid>?format=raw`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGateway {
    base: String,
}

impl HttpGateway {
    /// The gateway at `base`, e.g. `https://gateway.example`, with or without a final slash.
    #[must_use]
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned() }
    }

    fn url(&self, cid: &Cid) -> String {
        format!("{}/ipfs/{cid}?format=raw", self.base)
    }
}

impl BlockSource for HttpGateway {
    fn name(&self) -> String {
        self.base.clone()
    }

    fn fetch<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            http::get(&self.url(cid), Limits::bytes(MAX_BLOCK_BYTES), |_| {}).await.map_err(|error| match error {
                HttpError::Status(404 | 410) => SourceError::NotFound,
                error => SourceError::Failed(error.to_string()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_that_of_the_specification() {
        let cid = cdi_types::block::raw_cid(b"hello");
        for base in ["http://127.0.0.1:8080", "http://127.0.0.1:8080/"] {
            assert_eq!(
                HttpGateway::new(base).url(&cid),
                "http://127.0.0.1:8080/ipfs/bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq?format=raw"
            );
        }
    }
}
