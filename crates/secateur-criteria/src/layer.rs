//! What does a criterion see of a layer? Its name, its weight, what was cut, and what was observed.

use crate::{CriterionError, Fisher, Gram, InputNorms, Statistics};
use candle_core::{DType, Tensor};
use secateur_mask::Mask;

/// One prunable weight, as a criterion sees it.
///
/// What was observed of the layer (activations, gradients) comes in [`Statistics`]; the methods that
/// hand it out refuse, with a reason, what was not observed.
#[derive(Debug, Clone, Copy)]
pub struct Layer<'a> {
    name: &'a str,
    weight: &'a Tensor,
    mask: Option<&'a Mask>,
    statistics: Option<&'a Statistics>,
}

impl<'a> Layer<'a> {
    /// A layer that was not pruned before. `weight` is `[out, in]` or `[out, in, kh, kw]`.
    pub fn new(name: &'a str, weight: &'a Tensor) -> Self {
        Self { name, weight, mask: None, statistics: None }
    }

    /// The same layer with the mask of an earlier pruning: what that cut stays cut.
    pub fn with_mask(self, mask: Option<&'a Mask>) -> Self {
        Self { mask, ..self }
    }

    /// The same layer with what was observed of it.
    pub fn with_statistics(self, statistics: Option<&'a Statistics>) -> Self {
        Self { statistics, ..self }
    }

    /// The parameter's name in the checkpoint, such as `fc1.weight`.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The weight, `[out, in]` or `[out, in, kh, kw]`.
    pub fn weight(&self) -> &'a Tensor {
        self.weight
    }

    /// The mask of an earlier pruning, if there was one.
    pub fn mask(&self) -> Option<&'a Mask> {
        self.mask
    }

    /// Rows and columns of the matrix that products and patterns see: outputs × all that is reduced
    /// over (`in`, or `in · kh · kw`). A vector is one row.
    pub fn matrix(&self) -> (usize, usize) {
        match self.weight.dims() {
            [] => (1, 1),
            [len] => (1, *len),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }

    /// The weight's values, row-major, in f64. Errors on NaN and infinities.
    pub fn values(&self) -> Result<Vec<f64>, CriterionError> {
        let values = self.weight.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?;
        self.finite(&values, |value: f64| value.is_finite())?;
        Ok(values)
    }

    /// A tensor of the weight's shape, dtype and device from `values`, row-major. Errors on what is
    /// not finite in that dtype.
    pub fn tensor(&self, values: Vec<f64>) -> Result<Tensor, CriterionError> {
        let tensor = Tensor::from_vec(values, self.weight.shape(), self.weight.device())?;
        let tensor = tensor.to_dtype(self.weight.dtype())?;
        self.check_finite(&tensor)?;
        Ok(tensor)
    }

    /// Errors unless all of `weight`, which has this layer's name, is finite.
    pub(crate) fn check_finite(&self, weight: &Tensor) -> Result<(), CriterionError> {
        let values = weight.flatten_all()?.to_dtype(DType::F32)?.to_vec1()?;
        self.finite(&values, |value: f32| value.is_finite())
    }

    fn finite<T: Copy>(&self, values: &[T], is: impl Fn(T) -> bool) -> Result<(), CriterionError> {
        match values.iter().position(|value| !is(*value)) {
            None => Ok(()),
            Some(index) => {
                Err(CriterionError::WeightNotFinite { layer: self.name.to_owned(), index })
            }
        }
    }

    /// The gradient of the loss, of the weight's shape. Refused when it was not observed.
    pub fn gradient(&self) -> Result<&'a Tensor, CriterionError> {
        let gradient = self.observed("the gradient of the loss", |s| s.gradient.as_ref())?;
        self.fits(gradient, "gradient")
    }

    /// The Hessian of the loss times its gradient, of the weight's shape; see
    /// [`hessian_gradient`](crate::grasp::hessian_gradient).
    pub fn hessian_gradient(&self) -> Result<&'a Tensor, CriterionError> {
        let product =
            self.observed("the Hessian-gradient product", |s| s.hessian_gradient.as_ref())?;
        self.fits(product, "Hessian-gradient product")
    }

    /// ‖X_j‖₂ over all tokens seen, for each column of [`Self::matrix`], from norms or from a Gram
    /// matrix, whichever was observed.
    pub fn input_norms(&self) -> Result<Vec<f64>, CriterionError> {
        let (squares, tokens) = match self.statistics.and_then(|s| s.gram.as_ref()) {
            Some(gram) => (gram.squares(), gram.tokens()),
            None => {
                let norms: &InputNorms =
                    self.observed("the norms of its inputs", |s| s.input_norms.as_ref())?;
                (norms.squares().to_vec(), norms.tokens())
            }
        };
        self.check_features(squares.len())?;
        if tokens == 0 {
            return Err(self.missing("the norms of its inputs (they saw no token)"));
        }
        Ok(squares.into_iter().map(f64::sqrt).collect())
    }

    /// The Gram matrix of the layer's inputs, over the columns of [`Self::matrix`].
    pub fn gram(&self) -> Result<&'a Gram, CriterionError> {
        let gram: &Gram = self.observed("the Gram matrix of its inputs", |s| s.gram.as_ref())?;
        self.check_features(gram.features())?;
        if gram.tokens() == 0 {
            return Err(self.missing("the Gram matrix of its inputs (it saw no token)"));
        }
        Ok(gram)
    }

    /// The inverse of the empirical Fisher matrix, over the entries of the weight.
    pub fn fisher(&self) -> Result<&'a Fisher, CriterionError> {
        let fisher: &Fisher =
            self.observed("gradients of single samples", |s| s.fisher.as_ref())?;
        if fisher.len() != self.weight.elem_count() || fisher.samples() == 0 {
            return Err(self.missing("gradients of single samples, of the weight's shape"));
        }
        Ok(fisher)
    }

    fn observed<T>(
        &self,
        what: &'static str,
        get: impl Fn(&'a Statistics) -> Option<&'a T>,
    ) -> Result<&'a T, CriterionError> {
        self.statistics.and_then(get).ok_or_else(|| self.missing(what))
    }

    fn missing(&self, what: &'static str) -> CriterionError {
        CriterionError::Missing { layer: self.name.to_owned(), what }
    }

    fn fits(&self, tensor: &'a Tensor, what: &'static str) -> Result<&'a Tensor, CriterionError> {
        if tensor.dims() == self.weight.dims() {
            return Ok(tensor);
        }
        Err(CriterionError::StatisticShape {
            layer: self.name.to_owned(),
            what,
            found: tensor.dims().to_vec(),
            expected: self.weight.dims().to_vec(),
        })
    }

    fn check_features(&self, features: usize) -> Result<(), CriterionError> {
        let (_, cols) = self.matrix();
        if features == cols {
            return Ok(());
        }
        Err(CriterionError::StatisticShape {
            layer: self.name.to_owned(),
            what: "input",
            found: vec![features],
            expected: vec![cols],
        })
    }
}
