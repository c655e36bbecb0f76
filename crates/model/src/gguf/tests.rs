//! Files written by hand, good and bad.

use cdi_types::manifest::DType;
use proptest::prelude::*;

use super::*;

const F32: u32 = 0;
const Q8_0: u32 = 8;

/// Writes a header piece by piece.
#[derive(Clone)]
struct Writer {
    entries: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: usize,
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn entry(key: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [&text(key), &kind.to_le_bytes()[..], value].concat()
}

fn array(kind: u32, len: u64, elements: &[u8]) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &len.to_le_bytes(), elements].concat()
}

fn tensor(name: &str, dims: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut out = [&text(name), &u32::try_from(dims.len()).expect("few").to_le_bytes()[..]].concat();
    dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
    out.extend(kind.to_le_bytes());
    out.extend(offset.to_le_bytes());
    out
}

impl Writer {
    fn new(data: usize) -> Self {
        Self { entries: Vec::new(), tensors: Vec::new(), data }
    }

    fn entry(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.entries.push(entry(key, kind, value));
        self
    }

    fn u32(self, key: &str, value: u32) -> Self {
        self.entry(key, 4, &value.to_le_bytes())
    }

    fn text(self, key: &str, value: &str) -> Self {
        self.entry(key, 8, &text(value))
    }

    fn tensor(mut self, name: &str, dims: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.push(tensor(name, dims, kind, offset));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.entries.len() as u64].map(u64::to_le_bytes).concat();
        let mut out = [b"GGUF", &3u32.to_le_bytes()[..], &counts].concat();
        self.entries.iter().chain(&self.tensors).for_each(|part| out.extend(part));
        out.resize(out.len().next_multiple_of(32) + self.data, 7);
        out
    }

    fn open(&self) -> Result<Gguf, GgufError> {
        Gguf::open(self.bytes().as_slice())
    }
}

fn good() -> Writer {
    Writer::new(100)
        .text("general.name", "tiny")
        .entry("a.u8", 0, &[200])
        .entry("a.i8", 1, &[0xff])
        .entry("a.eps", 6, &1e-5_f32.to_le_bytes())
        .entry("a.f64", 12, &0.1_f64.to_le_bytes())
        .entry("a.yes", 7, &[1])
        .entry("a.texts", 9, &array(8, 2, &[text("x"), text("yz")].concat()))
        .entry("a.floats", 9, &array(6, 1, &1.5_f32.to_le_bytes()))
        .entry("a.ints", 9, &array(5, 2, &[(-1_i32).to_le_bytes(), 7_i32.to_le_bytes()].concat()))
        .tensor("w", &[32, 2], Q8_0, 32)
        .tensor("v", &[3], F32, 0)
}

#[test]
fn a_good_file_opens_and_reads() {
    let bytes = good().bytes();
    let gguf = Gguf::open(bytes.as_slice()).expect("opens");
    let metadata = gguf.metadata();
    assert_eq!(metadata.text("general.name"), Ok(Some("tiny")));
    assert_eq!(metadata.u32("a.u8"), Ok(Some(200)));
    assert_eq!(metadata.get("a.i8"), Some(&Value::Signed(-1)));
    assert_eq!((metadata.float("a.eps"), metadata.float("a.f64")), (Ok(Some(1e-5)), Ok(Some(0.1))));
    assert_eq!(metadata.bool("a.yes"), Ok(Some(true)));
    assert_eq!(metadata.u32("a.none"), Ok(None));
    assert_eq!(metadata.array_len("a.texts"), Some(2));
    let file = bytes.as_slice();
    assert_eq!(metadata.texts(file, "a.texts"), Ok(Some(vec!["x".to_owned(), "yz".to_owned()])));
    assert_eq!(metadata.floats(file, "a.floats"), Ok(Some(vec![1.5])));
    assert_eq!(metadata.integers(file, "a.ints"), Ok(Some(vec![-1, 7])));
    for wrong in [metadata.u32("a.i8").err(), metadata.texts(file, "a.floats").err(), metadata.bool("a.u8").err()] {
        assert!(matches!(wrong, Some(GgufError::Metadata { .. })), "{wrong:?}");
    }
    let w = gguf.get("w").expect("listed");
    assert_eq!((w.dtype, w.shape.as_slice(), w.bytes), (DType::Q8_0, [2, 32].as_slice(), 68));
    assert_eq!(w.offset, bytes.len() as u64 - 100 + 32);
    assert_eq!(gguf.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["v", "w"]);
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = good().bytes();
    for len in 0..bytes.len() {
        let error = Gguf::open(&bytes[..len]).expect_err("cut");
        assert!(
            matches!(error, GgufError::Magic | GgufError::Truncated(_) | GgufError::Layout { .. }),
            "{len}: {error}"
        );
    }
}

#[test]
fn foreign_versions_are_refused() {
    let version = |version: u32| {
        let mut bytes = good().bytes();
        bytes[4..8].copy_from_slice(&version.to_le_bytes());
        Gguf::open(bytes.as_slice()).map(drop)
    };
    assert_eq!((version(2), version(3)), (Ok(()), Ok(())));
    for other in [0, 1, 4, 3 << 24] {
        assert_eq!(version(other), Err(GgufError::Version(other)));
    }
    assert_eq!(Gguf::open(&b"GGML1234"[..]).map(drop), Err(GgufError::Magic));
}

#[test]
fn absurd_lengths_are_refused_before_allocation() {
    let too_many = |what, found, limit| Err(GgufError::TooMany { what, found, limit });
    let open = |at: usize, count: u64| {
        let mut bytes = good().bytes();
        bytes[at..at + 8].copy_from_slice(&count.to_le_bytes());
        Gguf::open(bytes.as_slice()).map(drop)
    };
    assert_eq!(open(8, u64::MAX), too_many("tensors", u64::MAX, MAX_TENSORS));
    assert_eq!(open(16, u64::MAX), too_many("metadata entries", u64::MAX, MAX_ENTRIES));
    assert_eq!(open(24, 1 << 40), too_many("bytes of a key", 1 << 40, MAX_NAME_BYTES));
    let entry = |value: &[u8], kind| Writer::new(0).entry("k", kind, value).open().map(drop);
    assert_eq!(entry(&u64::MAX.to_le_bytes(), 8), too_many("bytes of a text", u64::MAX, MAX_TEXT_BYTES));
    assert!(matches!(entry(&MAX_TEXT_BYTES.to_le_bytes(), 8), Err(GgufError::Truncated(_))));
    assert_eq!(entry(&array(0, u64::MAX, &[]), 9), too_many("elements of an array", u64::MAX, MAX_ARRAY));
    assert!(matches!(entry(&array(12, MAX_ARRAY, &[]), 9), Err(GgufError::Truncated(_))));
    let empty = [0; 8].repeat(100);
    assert!(matches!(entry(&array(8, MAX_ARRAY, &empty), 9), Err(GgufError::Truncated(_) | GgufError::TooMany { .. })));
}

#[test]
fn bad_metadata_are_named() {
    let refused = |kind: u32, value: &[u8]| match Writer::new(0).entry("the.key", kind, value).open() {
        Err(GgufError::Metadata { key, reason }) if key == "the.key" => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(7, &[2]), "a truth value is 0 or 1");
    assert_eq!(refused(13, &[0; 8]), "unknown kind 13");
    assert_eq!(refused(9, &array(9, 1, &[0; 12])), "an array of arrays is not supported");
    let twice = Writer::new(0).u32("the.key", 1).u32("the.key", 2).open();
    assert!(matches!(twice, Err(GgufError::Metadata { .. })));
    let not_text = Writer::new(0).entry("k", 8, &[&1_u64.to_le_bytes()[..], &[0xff]].concat()).open();
    assert!(matches!(not_text, Err(GgufError::NotUtf8(_))));
}

#[test]
fn tensors_must_fit_the_file_and_each_other() {
    let layout = |writer: Writer| match writer.open() {
        Err(GgufError::Layout { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    let one = |dims: &[u64], offset: u64| Writer::new(64).tensor("w", dims, F32, offset);
    assert!(one(&[8, 2], 0).open().is_ok());
    assert_eq!(layout(one(&[8, 2], 32)), "ends past the file");
    assert_eq!(layout(one(&[8, 2], 4)), "is not aligned");
    assert_eq!(layout(one(&[8, 2], u64::MAX - 31)), "begins past any file");
    assert_eq!(layout(one(&[], 0)), "has no or more than four dimensions");
    assert_eq!(layout(one(&[1; 5], 0)), "has no or more than four dimensions");
    assert_eq!(layout(one(&[8, 0], 0)), "is empty or larger than any file");
    assert_eq!(layout(one(&[1 << 32], 0)), "a dimension is 2^32 or more");
    assert_eq!(layout(one(&[u64::from(u32::MAX); 4], 0)), "is empty or larger than any file");
    assert_eq!(layout(one(&[4], 0).tensor("x", &[4], F32, 0)), "overlaps another tensor");
    assert_eq!(layout(one(&[9], 0).tensor("x", &[4], F32, 32)), "overlaps another tensor");
    assert_eq!(layout(one(&[4], 0).tensor("w", &[4], F32, 32)), "is listed twice");
    let cut = Writer::new(64).tensor("w", &[33], Q8_0, 0);
    assert_eq!(layout(cut), "its rows are not whole quantisation blocks");
    let alignment = one(&[4], 0).u32("general.alignment", 0).open();
    assert!(matches!(alignment, Err(GgufError::Metadata { .. })));
}

#[test]
fn unsupported_types_are_named_with_their_tensor() {
    for (id, name) in [(3, "Q4_1"), (13, "Q5_K"), (16, "IQ2_XXS"), (39, "MXFP4"), (4, "number 4"), (99, "number 99")] {
        let expected = GgufError::DType { tensor: "blk.0.x".to_owned(), dtype: name.to_owned() };
        assert_eq!(Writer::new(64).tensor("blk.0.x", &[32], id, 0).open(), Err(expected));
    }
}

fn llama() -> Writer {
    Writer::new(4096)
        .text("general.architecture", "llama")
        .u32("llama.embedding_length", 32)
        .u32("llama.feed_forward_length", 64)
        .u32("llama.block_count", 1)
        .u32("llama.context_length", 64)
        .u32("llama.attention.head_count", 4)
        .entry("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes())
        .u32("tokenizer.ggml.eos_token_id", 2)
        .tensor("token_embd.weight", &[32, 10], F32, 0)
}

#[test]
fn hyperparameters_are_read() {
    let config = |writer: &Writer| model_config(&writer.open().expect("opens"));
    let plain = config(&llama()).expect("valid");
    let llama_of = &plain.llama;
    assert_eq!((llama_of.vocab_size, llama_of.head_dim, llama_of.num_key_value_heads), (10, 8, 4));
    assert!(llama_of.tie_word_embeddings && llama_of.rms_norm_eps == 1e-5 && llama_of.rope_theta == 10_000.0);
    assert_eq!(plain.end_of_text, [2]);
    let fuller = llama()
        .u32("llama.vocab_size", 12)
        .u32("llama.attention.head_count_kv", 2)
        .u32("llama.attention.key_length", 16)
        .u32("llama.rope.dimension_count", 16)
        .entry("llama.rope.freq_base", 6, &5e5_f32.to_le_bytes())
        .u32("tokenizer.ggml.eot_token_id", 3)
        .tensor("output.weight", &[32, 10], F32, 1280);
    let fuller = config(&fuller).expect("valid");
    assert_eq!((fuller.llama.vocab_size, fuller.llama.head_dim, fuller.llama.num_key_value_heads), (12, 16, 2));
    assert!(!fuller.llama.tie_word_embeddings && fuller.llama.rope_theta == 500_000.0);
    assert_eq!(fuller.end_of_text, [2, 3]);
}

#[test]
fn what_cannot_be_computed_is_named() {
    let unsupported = |writer: Writer| match model_config(&writer.open().expect("opens")) {
        Err(GgufError::Unsupported(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(unsupported(Writer::new(0).text("general.architecture", "mamba")).contains("mamba"));
    assert!(unsupported(llama().text("llama.rope.scaling.type", "yarn")).contains("yarn"));
    assert!(unsupported(llama().u32("llama.expert_count", 8)).contains("experts"));
    assert!(unsupported(llama().u32("llama.rope.dimension_count", 4)).contains("part of each head"));
    assert!(unsupported(llama().u32("llama.attention.sliding_window", 16)).contains("window"));
    assert!(unsupported(llama().u32("split.count", 3)).contains("parts"));
    assert!(unsupported(llama().tensor("rope_freqs.weight", &[4], F32, 2048)).contains("rope_freqs"));
    assert!(unsupported(llama().u32("llama.attention.head_count_kv", 3)).contains("num_key_value_heads"));
    let missing = model_config(&Writer::new(0).text("general.architecture", "llama").open().expect("opens"));
    assert!(matches!(missing, Err(GgufError::NoMetadata(_))));
    let end = model_config(&llama().u32("tokenizer.ggml.eot_token_id", 10).open().expect("opens"));
    assert!(matches!(end, Err(GgufError::Metadata { .. })));
}

#[test]
fn unknown_tokenizers_are_named() {
    let vocabulary_of = |writer: Writer| {
        let bytes = writer.bytes();
        vocabulary(&Gguf::open(bytes.as_slice()).expect("opens"), bytes.as_slice(), 2)
    };
    let tokens = array(8, 2, &[text("a"), text("b")].concat());
    let with = |kind: &str| llama().text("tokenizer.ggml.model", kind).entry("tokenizer.ggml.tokens", 9, &tokens);
    for writer in [
        with("bert"),
        with("gpt2").entry("tokenizer.ggml.merges", 9, &array(8, 0, &[])).text("tokenizer.ggml.pre", "dbrx"),
    ] {
        assert!(matches!(vocabulary_of(writer), Err(GgufError::Unsupported(_))));
    }
    let scores = array(6, 1, &1_f32.to_le_bytes());
    let short = with("llama").entry("tokenizer.ggml.scores", 9, &scores);
    assert!(matches!(vocabulary_of(short), Err(GgufError::Metadata { .. })));
    let more = llama().text("tokenizer.ggml.model", "llama").entry("tokenizer.ggml.tokens", 9, &array(8, 3, &[0; 24]));
    assert!(matches!(vocabulary_of(more), Err(GgufError::Metadata { .. })));
    assert!(matches!(vocabulary_of(llama()), Err(GgufError::NoMetadata(_))));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(at in 0usize..700, bytes in prop::collection::vec(any::<u8>(), 1..12)) {
        let mut file = llama().entry("tokenizer.ggml.tokens", 9, &array(8, 1, &text("a"))).bytes();
        let at = at.min(file.len());
        let end = file.len().min(at + bytes.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        if let Ok(gguf) = Gguf::open(file.as_slice()) {
            let _ = model_config(&gguf);
            let _ = vocabulary(&gguf, file.as_slice(), 10);
        }
    }

    #[test]
    fn any_bytes_after_the_version_are_read_without_a_panic(rest in prop::collection::vec(any::<u8>(), 0..400)) {
        let file = [&b"GGUF\x03\0\0\0"[..], &rest].concat();
        let _ = Gguf::open(file.as_slice());
    }
}
