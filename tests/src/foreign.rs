//! Peers that take commands: js-libp2p in a page or in Node, and our own network in a page without the rest.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::script::Script;
use crate::{Browser, Site, Tab};

/// Calls one of the page's functions; the first call may come before its module has run.
const CALL: &str = "const [name, args] = arguments; return (async () => { \
    while (globalThis.peer === undefined) await new Promise((resolve) => setTimeout(resolve, 10)); \
    return await globalThis.peer[name](...args); })();";

/// Takes commands, with arguments and results in JSON. `tests/interop/src/peer.js` and `tests/src/bin/links.rs` list them.
pub trait Peer {
    /// Its peer id.
    fn id(&self) -> &str;
    /// Runs a command.
    fn call(&self, name: &str, args: Value) -> impl Future<Output = Result<Value>>;
}

/// A peer in a page: `js` is js-libp2p, `links` our own network.
pub struct PeerTab<'a> {
    tab: Tab<'a>,
    id: String,
}

impl<'a> PeerTab<'a> {
    /// Opens the page and starts its peer.
    pub async fn start(browser: &'a Browser, site: Site, page: &str, options: Value) -> Result<Self> {
        let tab = browser.open(&site.page(page)).await?;
        let mut peer = Self { tab, id: page.to_owned() };
        peer.id = peer.call("start", json!([options])).await?.as_str().context("no peer id")?.to_owned();
        Ok(peer)
    }

    /// A page whose functions need no start.
    pub async fn open(browser: &'a Browser, site: Site, page: &str) -> Result<Self> {
        Ok(Self { tab: browser.open(&site.page(page)).await?, id: page.to_owned() })
    }

    /// Closes the tab as a user does.
    pub async fn close(self) -> Result<()> {
        self.tab.close().await
    }

    /// The process that the page runs in, where that is known.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.tab.process()
    }
}

impl Peer for PeerTab<'_> {
    fn id(&self) -> &str {
        &self.id
    }

    async fn call(&self, name: &str, args: Value) -> Result<Value> {
        self.tab.eval(CALL, vec![json!(name), args]).await.with_context(|| format!("`{name}` of {}", self.id))
    }
}

/// js-libp2p in Node. Dropping it ends the process.
pub struct NodePeer {
    script: Script,
    id: String,
}

impl NodePeer {
    /// Starts a process and its peer.
    pub fn start(options: &Value) -> Result<Self> {
        let script = Script::start("peer")?;
        let id = script.call("start", &json!([options]))?.as_str().context("no peer id")?.to_owned();
        Ok(Self { script, id })
    }
}

impl Peer for NodePeer {
    fn id(&self) -> &str {
        &self.id
    }

    async fn call(&self, name: &str, args: Value) -> Result<Value> {
        self.script.call(name, &args)
    }
}
