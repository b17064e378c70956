//! What does a network learn from, and which part of it decides what? Data sets and their splits.

mod digits;
mod idx;

pub use digits::digits;
pub use idx::load_idx;

use crate::DataError;
use candle_core::{Device, Tensor};
use rand::seq::SliceRandom;
use secateur_criteria::seed;

/// Labelled samples: inputs `[samples, features]` in f32 and class numbers `[samples]` in u32.
#[derive(Debug, Clone)]
pub struct Samples {
    xs: Tensor,
    ys: Tensor,
}

impl Samples {
    /// Samples of inputs `[n, features]` and labels `[n]`. Errors unless both have `n` rows.
    pub fn new(xs: Tensor, ys: Tensor) -> Result<Self, DataError> {
        match (xs.dims(), ys.dims()) {
            ([n, _], [labels]) if n == labels => Ok(Self { xs, ys }),
            (xs, ys) => Err(DataError::Inconsistent(format!(
                "inputs {xs:?} and labels {ys:?} do not go together; \
                 pass [samples, features] and [samples]"
            ))),
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.ys.elem_count()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The inputs, `[samples, features]`.
    pub fn xs(&self) -> &Tensor {
        &self.xs
    }

    /// The labels, `[samples]`.
    pub fn ys(&self) -> &Tensor {
        &self.ys
    }

    /// The samples at `indices`, in that order.
    pub fn take(&self, indices: &[u32]) -> Result<Self, DataError> {
        let indices = Tensor::new(indices, self.xs.device())?;
        Ok(Self { xs: self.xs.index_select(&indices, 0)?, ys: self.ys.index_select(&indices, 0)? })
    }

    /// `count` samples from `start` on.
    pub fn slice(&self, start: usize, count: usize) -> Result<Self, DataError> {
        Ok(Self { xs: self.xs.narrow(0, start, count)?, ys: self.ys.narrow(0, start, count)? })
    }
}

/// How inputs were normalised: `(pixel / scale − mean) / std`, with mean and standard deviation
/// taken over all inputs of the training part.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub struct Normalisation {
    /// The largest value that a pixel can have.
    pub scale: f32,
    /// Mean of the scaled pixels.
    pub mean: f32,
    /// Standard deviation of the scaled pixels.
    pub std: f32,
}

/// A data set in two parts: one to learn and choose from, one to be judged by.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// What it is called in reports.
    pub name: String,
    /// Numbers per sample.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
    /// How inputs were normalised.
    pub normalisation: Normalisation,
    /// The part that training and all choices use.
    pub train: Samples,
    /// The part that only the final judgement uses.
    pub test: Samples,
}

/// A data set in three parts.
#[derive(Debug, Clone)]
pub struct Split {
    /// Weights learn from these.
    pub train: Samples,
    /// Early stopping and all other choices look at these.
    pub validation: Samples,
    /// Looked at once, at the end.
    pub test: Samples,
}

impl Dataset {
    /// A data set from raw pixels, one byte each, `features` to a sample, normalised by the training
    /// part.
    pub fn from_pixels(
        name: &str,
        features: usize,
        scale: f32,
        train: (&[u8], &[u8]),
        test: (&[u8], &[u8]),
        device: &Device,
    ) -> Result<Self, DataError> {
        let inconsistent =
            |reason: String| Err(DataError::Inconsistent(format!("{name}: {reason}")));
        for (part, (pixels, labels)) in [("training", train), ("test", test)] {
            if labels.is_empty() || features == 0 {
                return inconsistent(format!("the {part} part is empty"));
            }
            if labels.len().checked_mul(features) != Some(pixels.len()) {
                return inconsistent(format!(
                    "{} {part} pixels are not {} samples of {features}",
                    pixels.len(),
                    labels.len()
                ));
            }
        }
        let normalisation = Normalisation::of(train.0, scale);
        let samples = |(pixels, labels): (&[u8], &[u8])| -> Result<Samples, DataError> {
            let xs: Vec<f32> = pixels.iter().map(|pixel| normalisation.apply(*pixel)).collect();
            let ys: Vec<u32> = labels.iter().map(|label| u32::from(*label)).collect();
            let n = labels.len();
            Samples::new(
                Tensor::from_vec(xs, (n, features), device)?,
                Tensor::from_vec(ys, n, device)?,
            )
        };
        // The test part decides nothing, not even how many classes there are.
        let classes = train.1.iter().max().map_or(0, |label| usize::from(*label) + 1);
        if let Some(label) = test.1.iter().find(|label| usize::from(**label) >= classes) {
            return inconsistent(format!(
                "the test part has class {label}, training has {classes}"
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            features,
            classes,
            normalisation,
            train: samples(train)?,
            test: samples(test)?,
        })
    }

    /// Sets `validation` random samples of the training part aside. Errors unless some samples are
    /// left on both sides.
    pub fn split(&self, validation: usize, seed: u64) -> Result<Split, DataError> {
        if validation == 0 || validation >= self.train.len() {
            return Err(DataError::Inconsistent(format!(
                "{validation} of {} training samples cannot be set aside for validation",
                self.train.len()
            )));
        }
        let mut order: Vec<u32> = (0..self.train.len() as u32).collect();
        order.shuffle(&mut seed::stream(seed, "split/validation"));
        let (held_out, learnt) = order.split_at(validation);
        Ok(Split {
            train: self.train.take(learnt)?,
            validation: self.train.take(held_out)?,
            test: self.test.clone(),
        })
    }
}

impl Normalisation {
    fn of(pixels: &[u8], scale: f32) -> Self {
        let mut counts = [0_u64; 256];
        for pixel in pixels {
            counts[usize::from(*pixel)] += 1;
        }
        let n = pixels.len() as f64;
        let value = |pixel: usize| pixel as f64 / f64::from(scale);
        let moment = |power: i32| -> f64 {
            let terms = counts.iter().enumerate();
            terms.map(|(pixel, count)| *count as f64 * value(pixel).powi(power)).sum::<f64>() / n
        };
        let (mean, square) = (moment(1), moment(2));
        let std = (square - mean * mean).max(0.0).sqrt().max(1e-6);
        Self { scale, mean: mean as f32, std: std as f32 }
    }

    fn apply(&self, pixel: u8) -> f32 {
        (f32::from(pixel) / self.scale - self.mean) / self.std
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_normalised_by_the_training_part() {
        let data = Dataset::from_pixels(
            "toy",
            2,
            4.0,
            (&[0, 4, 4, 0], &[0, 2]),
            (&[4, 4], &[1]),
            &Device::Cpu,
        )
        .unwrap();
        assert_eq!(data.classes, 3);
        let unknown = Dataset::from_pixels("toy", 1, 1.0, (&[0], &[0]), (&[0], &[1]), &Device::Cpu);
        assert!(unknown.is_err());
        assert_eq!(data.normalisation, Normalisation { scale: 4.0, mean: 0.5, std: 0.5 });
        assert_eq!(data.test.xs().to_vec2::<f32>().unwrap(), [[1.0, 1.0]]);
    }

    #[test]
    fn splits_are_disjoint_complete_and_seeded() {
        let data = digits(&Device::Cpu).unwrap();
        let split = |seed| data.split(100, seed).unwrap();
        let rows = |samples: &Samples| -> Vec<Vec<u32>> {
            let rows = samples.xs().to_vec2::<f32>().unwrap().into_iter();
            rows.map(|row| row.into_iter().map(f32::to_bits).collect()).collect()
        };
        let (a, b) = (split(1), split(1));
        assert_eq!(rows(&a.validation), rows(&b.validation));
        assert_ne!(rows(&a.validation), rows(&split(2).validation));
        let mut all = rows(&a.validation);
        all.extend(rows(&a.train));
        all.sort();
        let mut whole = rows(&data.train);
        whole.sort();
        assert_eq!(all, whole);
        assert!(data.split(0, 1).is_err() && data.split(data.train.len(), 1).is_err());
    }
}
