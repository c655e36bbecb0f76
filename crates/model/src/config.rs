//! The small JSON files of a Hugging Face folder: `config.json`, `tokenizer_config.json`, `generation_config.json`.

use cdi_types::manifest::{Llama, ManifestError};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Largest of these files in bytes (the largest published ones, with their templates, are about 60 KB
/// without and 2 MB with a list of added tokens).
pub const MAX_CONFIG_BYTES: usize = 4 << 20;

/// Why a file was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ConfigError {
    /// Larger than [`MAX_CONFIG_BYTES`].
    #[error("{file} of {bytes} bytes is over the limit of {MAX_CONFIG_BYTES}")]
    TooLarge {
        /// Name of the file.
        file: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// Not JSON of the expected shape; the text says where.
    #[error("invalid {file}: {reason}")]
    Json {
        /// Name of the file.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// The network has a part that this build does not compute.
    #[error("not supported: {0}")]
    Unsupported(String),
    /// A hyperparameter is out of bounds.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
    /// Neither file names the token that ends an answer.
    #[error("no eos_token_id in generation_config.json or config.json")]
    NoEndOfText,
}

/// What `config.json` says.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The network.
    pub llama: Llama,
    /// Token ids that end an answer, unless `generation_config.json` names others.
    pub end_of_text: Vec<u32>,
}

/// What `tokenizer_config.json` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerConfig {
    /// Jinja source; of several named templates the one called `default`.
    pub chat_template: Option<String>,
    /// Text of the token that begins a sequence.
    pub bos_token: Option<String>,
    /// Text of the token that ends one.
    pub eos_token: Option<String>,
}

impl ModelConfig {
    /// Parses `config.json` of a Llama network.
    ///
    /// # Errors
    /// Any [`ConfigError`]; what cannot be computed is named, never ignored.
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawConfig = parse("config.json", bytes)?;
        raw.check_supported()?;
        let end_of_text = raw.eos_token_id.clone().map(Ids::into_vec).unwrap_or_default();
        let llama = raw.into_llama()?;
        llama.validate()?;
        Ok(Self { llama, end_of_text })
    }

    /// The ids that end an answer: those of `generation_config.json` where it has any.
    ///
    /// # Errors
    /// [`ConfigError::NoEndOfText`], or whatever parsing `generation_config.json` says.
    pub fn end_of_text(&self, generation_config: Option<&[u8]>) -> Result<Vec<u32>, ConfigError> {
        let given = match generation_config {
            Some(bytes) => parse::<RawGeneration>("generation_config.json", bytes)?.eos_token_id,
            None => None,
        };
        let ids = given.map_or_else(|| self.end_of_text.clone(), Ids::into_vec);
        if ids.is_empty() { Err(ConfigError::NoEndOfText) } else { Ok(ids) }
    }
}

impl TokenizerConfig {
    /// Parses `tokenizer_config.json`.
    ///
    /// # Errors
    /// [`ConfigError::TooLarge`] or [`ConfigError::Json`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, ConfigError> {
        let raw: RawTokenizer = parse("tokenizer_config.json", bytes)?;
        let chat_template = match raw.chat_template {
            Some(RawTemplates::One(template)) => Some(template),
            Some(RawTemplates::Named(list)) => list.into_iter().find(|t| t.name == "default").map(|t| t.template),
            None => None,
        };
        let text = |token: Option<RawToken>| {
            token.map(|token| match token {
                RawToken::Text(content) | RawToken::Added { content } => content,
            })
        };
        Ok(Self { chat_template, bos_token: text(raw.bos_token), eos_token: text(raw.eos_token) })
    }
}

fn parse<T: DeserializeOwned>(file: &'static str, bytes: &[u8]) -> Result<T, ConfigError> {
    if bytes.len() > MAX_CONFIG_BYTES {
        return Err(ConfigError::TooLarge { file, bytes: bytes.len() });
    }
    serde_json::from_slice(bytes).map_err(|e| ConfigError::Json { file, reason: e.to_string() })
}

/// One id or several.
#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

impl Ids {
    fn into_vec(self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![id],
            Self::Many(ids) => ids,
        }
    }
}

/// Defaults are those of the library's `LlamaConfig`.
/// Source: <https://huggingface.co/docs/transformers/model_doc/llama#transformers.LlamaConfig>.
#[derive(Deserialize)]
struct RawConfig {
    model_type: String,
    vocab_size: u32,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    hidden_act: Option<String>,
    #[serde(default = "default_positions")]
    max_position_embeddings: u32,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<serde_json::Value>,
    /// Where newer versions of the library keep `rope_theta` and the scaling.
    rope_parameters: Option<RopeParameters>,
    quantization_config: Option<serde_json::Value>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    tie_word_embeddings: bool,
    eos_token_id: Option<Ids>,
}

#[derive(Deserialize)]
struct RopeParameters {
    rope_type: Option<String>,
    rope_theta: Option<f64>,
}

const fn default_positions() -> u32 {
    2048
}

const fn default_eps() -> f64 {
    1e-6
}

impl RawConfig {
    fn check_supported(&self) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError::Unsupported(what));
        if self.model_type != "llama" {
            return refuse(format!("model_type {:?}", self.model_type));
        }
        if let Some(act) = self.hidden_act.as_deref().filter(|act| *act != "silu") {
            return refuse(format!("hidden_act {act:?}"));
        }
        if let Some(scaling) = &self.rope_scaling {
            return refuse(format!("rope_scaling {scaling}"));
        }
        let rope_type = self.rope_parameters.as_ref().and_then(|rope| rope.rope_type.as_deref());
        if let Some(kind) = rope_type.filter(|kind| *kind != "default") {
            return refuse(format!("rope_parameters of type {kind:?}"));
        }
        if self.quantization_config.is_some() {
            return refuse("quantization_config".to_owned());
        }
        if self.attention_bias || self.mlp_bias {
            return refuse("attention_bias or mlp_bias".to_owned());
        }
        Ok(())
    }

    fn into_llama(self) -> Result<Llama, ConfigError> {
        let head_dim = match self.head_dim {
            Some(dim) => dim,
            None if self.num_attention_heads > 0 && self.hidden_size.is_multiple_of(self.num_attention_heads) => {
                self.hidden_size / self.num_attention_heads
            }
            None => return Err(ManifestError::Invalid("num_attention_heads does not divide hidden_size".into()).into()),
        };
        let theta = self.rope_theta.or_else(|| self.rope_parameters?.rope_theta);
        Ok(Llama {
            vocab_size: self.vocab_size,
            hidden_size: self.hidden_size,
            intermediate_size: self.intermediate_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            head_dim,
            max_position_embeddings: self.max_position_embeddings,
            rms_norm_eps: self.rms_norm_eps,
            rope_theta: theta.unwrap_or(10_000.0),
            tie_word_embeddings: self.tie_word_embeddings,
        })
    }
}

#[derive(Deserialize)]
struct RawTokenizer {
    chat_template: Option<RawTemplates>,
    bos_token: Option<RawToken>,
    eos_token: Option<RawToken>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTemplates {
    One(String),
    Named(Vec<NamedTemplate>),
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawToken {
    Text(String),
    Added { content: String },
}

#[derive(Deserialize)]
struct RawGeneration {
    eos_token_id: Option<Ids>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(change: Value) -> Result<ModelConfig, ConfigError> {
        let mut value = json!({
            "model_type": "llama", "vocab_size": 100, "hidden_size": 32, "intermediate_size": 64,
            "num_hidden_layers": 2, "num_attention_heads": 4, "rope_scaling": null
        });
        let (Value::Object(all), Value::Object(change)) = (&mut value, change) else { panic!("objects") };
        all.extend(change);
        ModelConfig::from_json(value.to_string().as_bytes())
    }

    fn unsupported(change: Value) -> String {
        match config(change) {
            Err(ConfigError::Unsupported(what)) => what,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_library() {
        let llama = config(json!({})).expect("valid").llama;
        assert_eq!((llama.num_key_value_heads, llama.head_dim, llama.max_position_embeddings), (4, 8, 2048));
        assert!((llama.rms_norm_eps, llama.rope_theta, llama.tie_word_embeddings) == (1e-6, 10_000.0, false));
        let newer = config(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}})).expect("valid");
        assert!(newer.llama.rope_theta == 5e5);
    }

    #[test]
    fn what_cannot_be_computed_is_named() {
        assert!(unsupported(json!({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}})).contains("llama3"));
        assert!(unsupported(json!({"rope_parameters": {"rope_type": "yarn"}})).contains("yarn"));
        assert!(unsupported(json!({"attention_bias": true})).contains("bias"));
        assert!(unsupported(json!({"mlp_bias": true})).contains("bias"));
        assert!(unsupported(json!({"hidden_act": "gelu"})).contains("gelu"));
        assert!(unsupported(json!({"model_type": "mamba"})).contains("mamba"));
        assert!(unsupported(json!({"quantization_config": {"bits": 4}})).contains("quantization"));
    }

    #[test]
    fn absurd_values_are_refused() {
        for change in [
            json!({"num_attention_heads": 0}),
            json!({"num_attention_heads": 5}),
            json!({"num_key_value_heads": 3}),
            json!({"head_dim": 7}),
            json!({"hidden_size": 4_000_000_000_u32}),
            json!({"rope_theta": -1.0}),
        ] {
            assert!(matches!(config(change.clone()), Err(ConfigError::Invalid(_))), "{change}");
        }
        assert!(matches!(config(json!({"vocab_size": "many"})), Err(ConfigError::Json { .. })));
        let large = vec![b' '; MAX_CONFIG_BYTES + 1];
        assert!(matches!(ModelConfig::from_json(&large), Err(ConfigError::TooLarge { .. })));
    }

    #[test]
    fn end_of_text_comes_from_either_file() {
        let one = config(json!({"eos_token_id": 2})).expect("valid");
        assert_eq!(one.end_of_text(None), Ok(vec![2]));
        assert_eq!(one.end_of_text(Some(br#"{"eos_token_id":[5,6]}"#)), Ok(vec![5, 6]));
        assert_eq!(one.end_of_text(Some(b"{}")), Ok(vec![2]));
        assert_eq!(config(json!({})).expect("valid").end_of_text(None), Err(ConfigError::NoEndOfText));
    }

    #[test]
    fn templates_may_be_named_and_tokens_may_be_objects() {
        let one = TokenizerConfig::from_json(br#"{"chat_template":"x","bos_token":"<s>","eos_token":null}"#);
        let expected =
            TokenizerConfig { chat_template: Some("x".to_owned()), bos_token: Some("<s>".to_owned()), eos_token: None };
        assert_eq!(one, Ok(expected));
        let named = br#"{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}],
            "eos_token":{"content":"</s>","lstrip":false}}"#;
        let named = TokenizerConfig::from_json(named).expect("valid");
        assert_eq!((named.chat_template.as_deref(), named.eos_token.as_deref()), (Some("d"), Some("</s>")));
    }
}
