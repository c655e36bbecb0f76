//! A GGUF file on the compute half of a node, for `cargo xtask bench compute`.
//!
//! - `gguf blocks FILE DIR` imports the file: one file a block, named by CID, and `model.json`, which says what it is.
//! - `gguf measure DIR PROMPT DECODE REPS` computes it natively, by the messages that a page sends its worker, and prints
//!   one line of JSON.

use std::cell::RefCell;
use std::error::Error;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Instant;

use cdi_model::import::{Label, import_gguf};
use cdi_model::range_read::{RangeError, RangeRead};
use cdi_node::compute;
use cdi_node::compute::protocol::{Answer, Ask, StageKey, VERSION};
use cdi_platform::port::{Packet, Port};
use cdi_platform::{Place, task};
use cdi_store::BlockStore;
use cdi_store::blocks::Limits;
use cdi_types::advert::Tier;
use cdi_types::sampling::Sampling;
use cdi_types::{Cid, LayerRange, Network};
use serde::{Deserialize, Serialize};

const DESCRIPTION: &str = "model.json";
/// More than any file that is measured.
const STORE_BYTES: u64 = 1 << 40;
const KV_BYTES: u64 = 4 << 30;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Serialize, Deserialize)]
struct Description {
    /// Of the messages that the browser's driver sends.
    protocol: u32,
    cid: String,
    layers: u32,
    vocab: u32,
    weight_bytes: u64,
}

/// Speeds in tokens a second, one of each a repetition.
#[derive(Default, Serialize)]
struct Measured {
    variant: String,
    threads: u32,
    load_ms: f64,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    peak_mb: Option<f64>,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["blocks", file, dir] => write_blocks(Path::new(file), Path::new(dir)),
        ["measure", dir, prompt, decode, reps] => {
            let measured = measure(Path::new(dir), prompt.parse()?, decode.parse()?, reps.parse()?).await?;
            println!("{}", serde_json::to_string(&measured)?);
            Ok(())
        }
        _ => Err("gguf blocks FILE DIR | gguf measure DIR PROMPT DECODE REPS".into()),
    }
}

struct OnDisk {
    file: RefCell<File>,
    size: u64,
}

impl RangeRead for OnDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> std::result::Result<(), RangeError> {
        let mut file = self.file.borrow_mut();
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(buf));
        read.map_err(|e| RangeError::Storage(e.to_string()))
    }
}

fn write_blocks(path: &Path, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir)?;
    let file = File::open(path)?;
    let file = OnDisk { size: file.metadata()?.len(), file: RefCell::new(file) };
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let label = Label { name, license: "LicenseRef-none".to_owned() };
    let imported = import_gguf(&file, label, |cid, bytes| fs::write(dir.join(cid.to_string()), bytes))?;
    let cdi_types::manifest::Architecture::Llama(llama) = &imported.manifest.architecture;
    let description = Description {
        protocol: VERSION,
        cid: imported.id.to_string(),
        layers: llama.num_hidden_layers,
        vocab: llama.vocab_size,
        weight_bytes: imported.manifest.weight_bytes,
    };
    fs::write(dir.join(DESCRIPTION), serde_json::to_string(&description)?)?;
    println!("{}", description.cid);
    Ok(())
}

async fn measure(dir: &Path, prompt: u32, decode: u32, reps: u32) -> Result<Measured> {
    let description: Description = serde_json::from_slice(&fs::read(dir.join(DESCRIPTION))?)?;
    let model: Cid = description.cid.parse()?;
    let layers = LayerRange::whole(description.layers).ok_or("a model without layers")?;
    let store: PathBuf = dir.join("store");
    fill(&store, dir).await?;

    let (page, worker) = Port::pair();
    task::spawn_dedicated("compute", move || compute::run(worker, Place::disk(store)));
    let mut half = Half { port: page, next_id: 1 };
    let network = Network::Testnet;
    let (gateways, prefer) = (Vec::new(), Some(Tier::Cpu));
    let start = Ask::Start {
        version: VERSION,
        network,
        gateways,
        store_bytes: STORE_BYTES,
        kv_bytes: KV_BYTES,
        store: None,
        prefer,
    };
    half.ask(start).await?;
    half.ask(Ask::OpenModel { model }).await?;
    let began = Instant::now();
    let Answer::Loaded { kernel_id, .. } = half.ask(Ask::Load { model, layers, pin: false }).await? else {
        return Err("not loaded".into());
    };
    let load_ms = began.elapsed().as_secs_f64() * 1e3;
    let mut measured = Measured { variant: kernel_id, threads: 1, load_ms, ..Measured::default() };
    for rep in 0..=reps {
        let stage = StageKey { session: rep.to_le_bytes().repeat(4).try_into().unwrap_or_default(), layer: 0 };
        half.ask(Ask::OpenStage { stage, model, layers, positions: prompt + decode }).await?;
        let ids = (0..prompt).map(|i| (300 + rep * 7_919 + i * 97) % description.vocab).collect();
        let began = Instant::now();
        let mut id = half.step(stage, 0, ids).await?;
        let prefill = began.elapsed().as_secs_f64();
        let began = Instant::now();
        for position in prompt..prompt + decode {
            id = half.step(stage, position, vec![id]).await?;
        }
        let decoded = began.elapsed().as_secs_f64();
        half.ask(Ask::CloseStage { stage }).await?;
        // The first run warms caches and clocks.
        if rep > 0 {
            measured.prefill.push(f64::from(prompt) / prefill);
            measured.decode.push(f64::from(decode) / decoded);
        }
    }
    measured.peak_mb = peak_mb();
    Ok(measured)
}

/// Puts the blocks of `dir` into the store that the compute half opens.
async fn fill(store: &Path, dir: &Path) -> Result<()> {
    let limits = Limits { disk_bytes: STORE_BYTES, ..Limits::default() };
    let blocks = BlockStore::open(&Place::disk(store), Network::Testnet, limits, None).await?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        // Everything else in the directory has another name.
        let Ok(cid) = entry.file_name().to_string_lossy().parse::<Cid>() else { continue };
        if !blocks.has(&cid) {
            blocks.put(&cid, &fs::read(entry.path())?).await?;
        }
    }
    Ok(blocks.flush().await?)
}

#[derive(Serialize)]
struct Request {
    id: u64,
    ask: Ask,
}

#[derive(Deserialize)]
struct Reply {
    answer: Answer,
}

/// Requests out, answers in, one at a time.
struct Half {
    port: Port,
    next_id: u64,
}

impl Half {
    async fn ask(&mut self, ask: Ask) -> Result<Answer> {
        let id = self.next_id;
        self.next_id += 1;
        let header = serde_ipld_dagcbor::to_vec(&Request { id, ask })?;
        self.port.send(Packet { header, ..Packet::default() })?;
        loop {
            let packet = self.port.recv().await.ok_or("the compute half ended")?;
            match serde_ipld_dagcbor::from_slice::<Reply>(&packet.header)?.answer {
                Answer::Progress { .. } => {}
                Answer::Failed { message, .. } => return Err(message.into()),
                answer => return Ok(answer),
            }
        }
    }

    /// The token after `tokens`.
    async fn step(&mut self, stage: StageKey, start: u32, tokens: Vec<u32>) -> Result<u32> {
        let last = start + u32::try_from(tokens.len())? - 1;
        let ask = Ask::Step { stage, start, tokens: Some(tokens), sample: Some((last, Sampling::GREEDY)) };
        match self.ask(ask).await? {
            Answer::Tokens(tokens) => Ok(tokens.first().ok_or("no token")?.1),
            _ => Err("not a token".into()),
        }
    }
}

/// Largest resident size of this process. Only Linux tells.
fn peak_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1e3)
}
