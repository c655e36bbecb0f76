//! Where the tensors of a model lie in its files, and reading their rows.

use std::collections::{BTreeMap, BTreeSet};

use super::ImportError;
use crate::gguf::{Gguf, is_interleaved, stored_name};
use crate::range_read::{RangeError, RangeRead};
use crate::safetensors::Safetensors;
use crate::tensor_info::TensorInfo;
use crate::tensors::{HEAD, TensorSpec};

/// Buffers that old checkpoints store and nobody reads: the rotary frequencies follow from `rope_theta`.
const IGNORED_SUFFIX: &str = ".rotary_emb.inv_freq";

/// A tensor in a file.
pub(super) struct Source<'a> {
    file: &'a dyn RangeRead,
    pub(super) info: TensorInfo,
    /// Width of the heads whose rows stand interleaved: first row of the first half, first row of the second, …
    interleaved: Option<u32>,
}

/// The tensors of `specs`, in their order, from safetensors files.
pub(super) fn in_safetensors<'a>(
    files: &[&'a dyn RangeRead],
    specs: &[TensorSpec],
) -> Result<Vec<Source<'a>>, ImportError> {
    let mut found: BTreeMap<String, Source<'a>> = BTreeMap::new();
    for file in files.iter().copied() {
        for (name, info) in Safetensors::open(file)?.iter() {
            let source = Source { file, info: info.clone(), interleaved: None };
            if found.insert(name.to_owned(), source).is_some() {
                return Err(ImportError::Duplicate(name.to_owned()));
            }
        }
    }
    let names = specs.iter().map(|spec| spec.tensor.to_string()).collect();
    // Some checkpoints store a tied head beside the embedding that it repeats; nothing reads it.
    select(found, specs, names, |name| name.ends_with(IGNORED_SUFFIX) || name == HEAD)
}

/// The tensors of `specs`, in their order, from a GGUF file with heads of `head_dim` elements.
pub(super) fn in_gguf<'a>(
    file: &'a dyn RangeRead,
    gguf: &Gguf,
    head_dim: u32,
    specs: &[TensorSpec],
) -> Result<Vec<Source<'a>>, ImportError> {
    let source = |info: &TensorInfo| Source { file, info: info.clone(), interleaved: None };
    let found = gguf.iter().map(|(name, info)| (name.to_owned(), source(info))).collect();
    let names = specs.iter().map(|spec| stored_name(spec.tensor)).collect();
    let mut sources = select(found, specs, names, |_| false)?;
    for (spec, source) in specs.iter().zip(&mut sources) {
        source.interleaved = is_interleaved(spec.tensor).then_some(head_dim);
    }
    Ok(sources)
}

/// Takes exactly the tensors `names` from those found; what is missing, too much or of another shape is named.
fn select<'a>(
    mut found: BTreeMap<String, Source<'a>>,
    specs: &[TensorSpec],
    names: Vec<String>,
    ignored: impl Fn(&str) -> bool,
) -> Result<Vec<Source<'a>>, ImportError> {
    let missing: Vec<String> = names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
    if !missing.is_empty() {
        return Err(ImportError::Missing(missing));
    }
    let expected: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    let unexpected: Vec<String> =
        found.keys().filter(|name| !expected.contains(name.as_str()) && !ignored(name)).cloned().collect();
    if !unexpected.is_empty() {
        return Err(ImportError::Unexpected(unexpected));
    }
    let mut sources = Vec::with_capacity(specs.len());
    for (spec, name) in specs.iter().zip(names) {
        let source = found.remove(&name).ok_or_else(|| ImportError::Missing(vec![name]))?;
        spec.check(&source.info.shape)?;
        sources.push(source);
    }
    Ok(sources)
}

impl Source<'_> {
    /// Fills `block` with whole rows of `row_bytes`, from row `first` of the Hugging Face layout on.
    pub(super) fn read_rows(&self, first: u32, row_bytes: usize, block: &mut [u8]) -> Result<(), RangeError> {
        let Some(head_dim) = self.interleaved else {
            return self.read_stored(first, row_bytes, block);
        };
        // Rows of one half of a head are every second one of the file, so a run of them is read with those between:
        // at most twice the block.
        let half = head_dim / 2;
        let (mut row, mut rest, mut run) = (first, block, Vec::new());
        while !rest.is_empty() {
            let (head, within) = (row / head_dim * head_dim, row % head_dim);
            let (part, index) = (within / half, within % half);
            let rows = (rest.len() / row_bytes).min((half - index) as usize);
            run.resize((2 * rows - 1) * row_bytes, 0);
            self.read_stored(head + 2 * index + part, row_bytes, &mut run)?;
            let (now, later) = rest.split_at_mut(rows * row_bytes);
            for (to, from) in now.chunks_exact_mut(row_bytes).zip(run.chunks(2 * row_bytes)) {
                to.copy_from_slice(&from[..row_bytes]);
            }
            rest = later;
            // At most the rows of a block.
            row += u32::try_from(rows).unwrap_or(u32::MAX);
        }
        Ok(())
    }

    fn read_stored(&self, row: u32, row_bytes: usize, out: &mut [u8]) -> Result<(), RangeError> {
        self.info.read_at(self.file, u64::from(row) * row_bytes as u64, out)
    }
}
