//! Does a criterion written by a user, outside the crates, run through the whole job?

use secateur::prelude::*;

/// Magnitude relative to both the row and the column it stands in: a weight is important if it is
/// large among those that feed the same output and among those that read the same input.
#[derive(Debug)]
struct Relative;

impl Criterion for Relative {
    fn name(&self) -> &str {
        "relative"
    }

    fn score(&self, layer: &Layer<'_>) -> Result<Tensor, CriterionError> {
        let magnitude = layer.weight().abs()?;
        let by_row = magnitude.broadcast_div(&(magnitude.sum_keepdim(1)? + 1e-12)?)?;
        let by_column = magnitude.broadcast_div(&(magnitude.sum_keepdim(0)? + 1e-12)?)?;
        Ok((by_row + by_column)?)
    }
}

#[test]
fn a_custom_criterion_runs_through_the_whole_job() {
    let split = digits(&Device::Cpu).unwrap().split(200, 1).unwrap();
    let training = Training::adam(12, 32, 2e-3);
    let run = |criterion: Box<dyn Criterion>| {
        let run = Run {
            criterion,
            schedule: Box::new(Iterative::new(Sparsity::new(0.8).unwrap(), 2).unwrap()),
            seed: 1,
            ..Run::new("0.8".parse().unwrap(), training.clone())
        };
        run.execute(Mlp::digits(1, &Device::Cpu).unwrap(), &split, &mut ()).unwrap()
    };
    let (custom, magnitude) = (run(Box::new(Relative)), run(Box::new(Magnitude)));
    assert_ne!(custom.masks.masks, magnitude.masks.masks, "the criterion was not asked");
    for (name, mask) in &custom.masks.masks {
        let cut = mask.len() - mask.count_kept();
        assert_eq!(cut, Sparsity::new(0.8).unwrap().cut_of(mask.len()), "{name}");
    }
    let accuracy = custom.pruned_test.accuracy;
    assert!(accuracy > 0.93, "{accuracy}");
    assert_eq!(custom.proof.samples, split.test.len());
}
