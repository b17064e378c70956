//! In which order do bare layers read each other? By their names, as a network would number them.

use anyhow::{Context, Result};
use candle_core::Tensor;
use secateur::criteria::{Statistics, synflow::chain_flow};
use std::collections::BTreeMap;

/// The synaptic flow of layers that read each other, in the natural order of their names.
pub fn flows(layers: &BTreeMap<String, Tensor>) -> Result<BTreeMap<String, Statistics>> {
    let mut names: Vec<&String> = layers.keys().collect();
    names.sort_by_key(|name| natural(name));
    let chain: Vec<&Tensor> = names.iter().map(|name| &layers[*name]).collect();
    let flows = chain_flow(&chain).with_context(|| {
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        format!("{} are no chain; name one with --tensor", names.join(" -> "))
    })?;
    let gradient = |gradient| Statistics { gradient: Some(gradient), ..Statistics::default() };
    Ok(names.into_iter().cloned().zip(flows.into_iter().map(gradient)).collect())
}

/// A key that sorts `fc2` before `fc10`.
fn natural(name: &str) -> Vec<(String, u64)> {
    let digits = |c: &char| c.is_ascii_digit();
    let (mut key, mut rest) = (Vec::new(), name);
    while !rest.is_empty() {
        let text: String = rest.chars().take_while(|c| !digits(c)).collect();
        let number: String = rest[text.len()..].chars().take_while(digits).collect();
        rest = &rest[text.len() + number.len()..];
        key.push((text, number.parse().unwrap_or(0)));
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_chained_in_natural_order() {
        let mut names = ["fc10.weight", "fc2.weight", "fc1.weight", "a9b1", "a9", ""];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["", "a9", "a9b1", "fc1.weight", "fc2.weight", "fc10.weight"]);
    }
}
