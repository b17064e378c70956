//! How does candle encode text as its users have it? `BertModel` of candle-transformers, as its own example
//! runs it.
//!
//! ```text
//! encode {"model": FOLDER, "tokens": FILE, "states": FILE}
//! ```
//!
//! `tokens` holds `ids` and `types`, `[batch, length]`; what the model makes of them is written to `states`
//! once, so that whoever asked can hold it against its own.

use crate::serve::Call;
use candle_core::{DType, Device, Error, Result, Tensor, bail, safetensors};
use candle_nn::VarBuilder;
use candle_transformers::models::bert::{BertModel, Config};
use serde_json::Value;
use std::{collections::HashMap, fs, path::Path, rc::Rc};

/// The last model, which the cases share.
#[derive(Default)]
pub struct Encoders(Option<(String, Rc<BertModel>)>);

impl Encoders {
    /// A case of what was asked.
    pub fn call(&mut self, asked: &str) -> Result<Call> {
        let asked: Value = serde_json::from_str(asked).map_err(Error::wrap)?;
        let text = |key: &str| match asked[key].as_str() {
            Some(text) => Ok(text.to_owned()),
            None => bail!("which {key}?"),
        };
        let model = self.model(text("model")?)?;
        let tokens = safetensors::load(text("tokens")?, &Device::Cpu)?;
        let tensor = |name: &str| -> Result<Tensor> {
            match tokens.get(name) {
                Some(tensor) => Ok(tensor.clone()),
                None => bail!("there are no {name} among the tokens"),
            }
        };
        let (ids, types) = (tensor("ids")?, tensor("types")?);
        let states = model.forward(&ids, &types, None)?;
        safetensors::save(&HashMap::from([("states", states)]), text("states")?)?;
        Ok(Box::new(move || model.forward(&ids, &types, None).map(drop)))
    }

    fn model(&mut self, folder: String) -> Result<Rc<BertModel>> {
        if let Some((_, model)) = self.0.as_ref().filter(|(known, _)| *known == folder) {
            return Ok(model.clone());
        }
        let at = Path::new(&folder);
        let config = fs::read(at.join("config.json"))?;
        let config: Config = serde_json::from_slice(&config).map_err(Error::wrap)?;
        let tensors = safetensors::load(at.join("model.safetensors"), &Device::Cpu)?;
        let vb = VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu);
        let model = Rc::new(BertModel::load(vb, &config)?);
        self.0 = Some((folder, model.clone()));
        Ok(model)
    }
}
