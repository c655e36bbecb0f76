//! candle's quantised Llama behind two calls, for `cargo xtask bench compute`.

use std::io::Cursor;

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, Error, Tensor};
use candle_transformers::models::quantized_llama::ModelWeights;
use wasm_bindgen::prelude::*;

/// A loaded network with its cache.
#[wasm_bindgen]
pub struct Model(ModelWeights);

#[wasm_bindgen]
impl Model {
    /// Loads a GGUF file.
    #[wasm_bindgen(constructor)]
    pub fn new(gguf: &[u8]) -> Result<Model, JsError> {
        let mut file = Cursor::new(gguf);
        let content = Content::read(&mut file)?;
        Ok(Self(ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?))
    }

    /// Computes `ids` from `position` on (0 forgets what was before) and returns the likeliest next id.
    pub fn eval(&mut self, ids: &[u32], position: usize) -> Result<u32, JsError> {
        Ok(self.next(ids, position)?)
    }
}

impl Model {
    fn next(&mut self, ids: &[u32], position: usize) -> Result<u32, Error> {
        let input = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
        self.0.forward(&input, position)?.flatten_all()?.argmax(0)?.to_scalar()
    }
}

/// Version of candle.
#[wasm_bindgen]
pub fn version() -> String {
    "0.11.1".to_owned()
}
