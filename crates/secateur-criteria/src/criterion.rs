//! Which weights matter? The extension point: one trait, one required score.

use crate::{CriterionError, Layer, Needs};
use candle_core::{DType, Tensor};
use secateur_mask::{Mask, MaskError, Pattern, Scores, Sparsity};
use std::fmt::Debug;

/// Gives every weight of a layer a score; the higher is kept.
///
/// Object safe, so that a recipe can hold a `Box<dyn Criterion>`. Scores must be deterministic: the
/// same layer gives the same scores.
pub trait Criterion: Debug + Send + Sync {
    /// The name used in recipes and reports, in lower case with hyphens.
    fn name(&self) -> &str;

    /// What has to be observed of a layer before it can be scored. The weight alone by default.
    fn needs(&self) -> Needs {
        Needs::WEIGHT
    }

    /// In how many steps the cut is made, each on statistics observed anew with what the step before
    /// left; see [`prune_in_steps`](crate::prune_in_steps). One by default.
    fn steps(&self) -> usize {
        1
    }

    /// One score per weight, in the weight's shape, on any device, in any float dtype.
    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError>;

    /// Cuts `amount` of the layer in the shape of `pattern`.
    ///
    /// The default keeps the highest scores. Methods that also repair the survivors override it and
    /// return the repaired weight in [`Cut::weight`].
    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        let scores = self.checked_scores(layer)?;
        let mask = pattern.select(scores, amount).map_err(CriterionError::at(layer.name()))?;
        Ok(Cut { mask, weight: None })
    }

    /// What the survivors should be once the last of several [`Self::steps`] has fixed the mask;
    /// `None`, the default, leaves them as they are. `layer` holds the weight before pruning.
    fn finish(&self, layer: &Layer<'_>, mask: &Mask) -> Result<Option<Tensor>, CriterionError> {
        let _ = (layer, mask);
        Ok(None)
    }

    /// The scores as numbers that a selection can rank: shape checked, NaN refused, and what an
    /// earlier pruning cut ranked below everything else, so that it stays cut.
    fn checked_scores(&self, layer: &Layer<'_>) -> Result<Scores<'static>, CriterionError> {
        let scores = self.score(layer)?;
        let shape = layer.weight().dims();
        if scores.dims() != shape {
            return Err(CriterionError::ScoreShape {
                layer: layer.name().to_owned(),
                criterion: self.name().to_owned(),
                scores: scores.dims().to_vec(),
                weight: shape.to_vec(),
            });
        }
        let mut values = scores.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        if let Some(mask) = layer.mask() {
            check_shape(layer, mask)?;
            for (value, kept) in values.iter_mut().zip(mask.iter()) {
                if !kept {
                    *value = f32::NEG_INFINITY;
                }
            }
        }
        Scores::new(values, shape).map_err(CriterionError::at(layer.name()))
    }
}

/// So that a criterion chosen at run time can be wrapped, as [`Refit`](crate::Refit) wraps it.
impl<C: Criterion + ?Sized> Criterion for Box<C> {
    fn name(&self) -> &str {
        (**self).name()
    }
    fn needs(&self) -> Needs {
        (**self).needs()
    }
    fn steps(&self) -> usize {
        (**self).steps()
    }
    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        (**self).score(layer)
    }
    fn prune(
        &self,
        layer: &Layer<'_>,
        pattern: Pattern,
        amount: Sparsity,
    ) -> Result<Cut, CriterionError> {
        (**self).prune(layer, pattern, amount)
    }
    fn finish(&self, layer: &Layer<'_>, mask: &Mask) -> Result<Option<Tensor>, CriterionError> {
        (**self).finish(layer, mask)
    }
}

/// Errors unless `mask` has the shape of the layer's weight.
pub(crate) fn check_shape(layer: &Layer<'_>, mask: &Mask) -> Result<(), CriterionError> {
    if mask.shape() == layer.weight().dims() {
        return Ok(());
    }
    let (left, right) = (mask.shape().to_vec(), layer.weight().dims().to_vec());
    Err(CriterionError::at(layer.name())(MaskError::ShapeMismatch { left, right }))
}

/// What pruning a layer gave.
#[derive(Debug, Clone)]
pub struct Cut {
    /// Which weights stay.
    pub mask: Mask,
    /// The survivors' new values, where the method repairs them; cut entries are ignored.
    pub weight: Option<Tensor>,
}

impl Cut {
    /// The pruned weight: the survivors, repaired where the method repairs them and as in `before`
    /// where it does not, and `+0.0` for what is cut. Errors when `before` has another shape.
    pub fn apply(&self, before: &Tensor) -> Result<Tensor, CriterionError> {
        let weight = self.weight.as_ref().unwrap_or(before);
        if self.mask.shape() != weight.dims() {
            let (left, right) = (self.mask.shape().to_vec(), weight.dims().to_vec());
            return Err(CriterionError::at("of the cut")(MaskError::ShapeMismatch { left, right }));
        }
        let kept: Vec<u8> = self.mask.iter().map(u8::from).collect();
        let kept = Tensor::from_vec(kept, weight.shape(), weight.device())?;
        Ok(kept.where_cond(weight, &weight.zeros_like()?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[derive(Debug)]
    struct Broken(&'static [f32]);

    impl Criterion for Broken {
        fn name(&self) -> &str {
            "broken"
        }
        fn score(&self, _: &Layer<'_>) -> Result<Tensor, CriterionError> {
            Ok(Tensor::new(self.0, &Device::Cpu)?)
        }
    }

    #[test]
    fn wrong_shapes_and_nan_are_refused_by_name() {
        let weight = Tensor::new(&[1_f32, 2.], &Device::Cpu).unwrap();
        let layer = Layer::new("fc1.weight", &weight);
        let prune = |criterion: Broken| {
            let half = Sparsity::new(0.5).unwrap();
            criterion.prune(&layer, Pattern::Unstructured, half).unwrap_err().to_string()
        };
        assert_eq!(
            prune(Broken(&[1.])),
            "layer fc1.weight: broken gave scores of shape [1] for a weight of [2]"
        );
        assert!(prune(Broken(&[1., f32::NAN])).starts_with("layer fc1.weight: the score at"));
    }

    #[test]
    fn what_was_cut_stays_cut() {
        let weight = Tensor::new(&[9_f32, 1., 2.], &Device::Cpu).unwrap();
        let before = Mask::from_bools(&[false, true, true], &[3]).unwrap();
        let layer = Layer::new("w", &weight).with_mask(Some(&before));
        let cut = crate::Magnitude
            .prune(&layer, Pattern::Unstructured, Sparsity::new(2. / 3.).unwrap())
            .unwrap();
        assert_eq!(cut.mask.to_string(), "001");
    }
}
