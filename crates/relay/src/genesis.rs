//! The first model, embedded in the program: a fresh relay has something to offer.

use std::collections::HashMap;
use std::convert::Infallible;

use bytes::Bytes;
use cdi_model::import::{Folder, ImportError, Imported, Label, import};
use cdi_model::range_read::RangeRead;
use cdi_types::Cid;

const CONFIG: &[u8] = include_bytes!("../../model/genesis/config.json");
const TOKENIZER: &[u8] = include_bytes!("../../model/genesis/tokenizer.json");
const TOKENIZER_CONFIG: &[u8] = include_bytes!("../../model/genesis/tokenizer_config.json");
const GENERATION_CONFIG: &[u8] = include_bytes!("../../model/genesis/generation_config.json");
static WEIGHTS: &[u8] = include_bytes!("../../model/genesis/model.safetensors");

/// Imports the model: its id, and its blocks, about 7 MB. Takes a moment of computing.
///
/// # Errors
/// [`ImportError`] when the embedded files are not a model, which the tests rule out.
pub(crate) fn load() -> Result<(Cid, HashMap<Cid, Bytes>), ImportError> {
    let weights: &dyn RangeRead = &WEIGHTS;
    let folder = Folder {
        config: CONFIG,
        tokenizer: TOKENIZER,
        tokenizer_config: Some(TOKENIZER_CONFIG),
        generation_config: Some(GENERATION_CONFIG),
        weights: vec![weights],
    };
    // Name and licence are part of the id: docs/manifest.md.
    let label = Label { name: "genesis".to_owned(), license: "MIT".to_owned() };
    let mut blocks = HashMap::new();
    let Imported { id, .. } = import(&folder, label, |cid, bytes| {
        blocks.insert(cid, Bytes::copy_from_slice(bytes));
        Ok::<_, Infallible>(())
    })?;
    Ok((id, blocks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_has_the_documented_id_and_sound_blocks() {
        let (id, blocks) = load().expect("imports");
        let documented = include_str!("../../../docs/manifest.md");
        assert!(documented.contains(&id.to_string()), "{id} is not in docs/manifest.md");
        assert!(blocks.contains_key(&id));
        for (cid, bytes) in &blocks {
            cdi_types::block::verify(cid, bytes).expect("the block matches its CID");
        }
    }
}
