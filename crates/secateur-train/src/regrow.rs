//! Which connections give way, and which come back? The smallest weights; the largest gradients, or any.

use crate::{Regrow, TrainError};
use candle_core::Tensor;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use secateur_mask::Mask;

/// Exchanges the share `exchanged` of what `mask` keeps of `weight`: those of the smallest magnitude go, as
/// many of what was cut come back, those whose `gradient` is largest (Evci et al. 2020, algorithm 1) or, without
/// one, random ones. What has just gone does not come back at once, other than in the paper. Equal ones: the lower index stays, and comes back first.
pub(crate) fn exchange(
    mask: &Mask,
    weight: &Tensor,
    exchanged: f64,
    (regrow, gradient): (Regrow, Option<&Tensor>),
    stream: &mut ChaCha8Rng,
) -> Result<Mask, TrainError> {
    let weights = weight.flatten_all()?.to_vec1::<f32>()?;
    let promise: Vec<f32> = match (regrow, gradient) {
        (Regrow::Gradient, Some(gradient)) => gradient.flatten_all()?.abs()?.to_vec1()?,
        (Regrow::Gradient, None) => vec![0.0; weights.len()],
        (Regrow::Random, _) => (0..weights.len()).map(|_| stream.random()).collect(),
    };
    let mut kept = mask.to_bools();
    let (mut live, mut cut): (Vec<usize>, Vec<usize>) = (0..kept.len()).partition(|&i| kept[i]);
    let count = ((exchanged * live.len() as f64).round() as usize).min(cut.len()).min(live.len());
    live.sort_by(|&a, &b| weights[a].abs().total_cmp(&weights[b].abs()).then(b.cmp(&a)));
    cut.sort_by(|&a, &b| promise[b].total_cmp(&promise[a]).then(a.cmp(&b)));
    for (gone, come) in live.into_iter().zip(cut).take(count) {
        (kept[gone], kept[come]) = (false, true);
    }
    Ok(Mask::from_bools(&kept, mask.shape())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use secateur_criteria::seed;

    #[test]
    fn the_weakest_go_and_the_most_promising_come() {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let mask = Mask::from_bools(&[true, true, true, true, false, false, false], &[7]).unwrap();
        let weight = tensor(&[3.0, -0.5, 0.5, -2.0, 0.0, 0.0, 0.0]);
        let gradient = tensor(&[9.0, 9.0, 9.0, 9.0, 0.1, -0.7, 0.7]);
        let exchange = |share, regrow| {
            let by = (regrow, Some(&gradient));
            exchange(&mask, &weight, share, by, &mut seed::stream(1, "test")).unwrap()
        };
        assert_eq!(exchange(0.25, Regrow::Gradient).to_string(), "1101010");
        assert_eq!(exchange(0.5, Regrow::Gradient).to_string(), "1001011");
        assert_eq!(exchange(1.0, Regrow::Gradient).count_kept(), 4);
        let random = exchange(0.5, Regrow::Random);
        assert!(random.count_kept() == 4 && random.get(0) == Some(true));
        assert_eq!(random, exchange(0.5, Regrow::Random));
    }
}
