//! What does a criterion do without what it needs? It says so, naming the layer.

use crate::{observed, reference::data::Numbers, tensor};
use candle_core::{DType, Device, Tensor};
use secateur_criteria::{
    Alps, Criterion, CriterionError, Fisher, Gram, Grasp, InputNorms, Layer, Magnitude, Movement,
    Obs, Refit, Ria, Snip, SparseGpt, Statistics, SynFlow, Taylor, Wanda,
};
use secateur_mask::{Pattern, Sparsity};

fn needy() -> Vec<Box<dyn Criterion>> {
    vec![
        Box::new(Wanda),
        Box::new(Ria),
        Box::new(Snip),
        Box::new(Taylor),
        Box::new(Grasp),
        Box::new(SynFlow::default()),
        Box::new(Movement::default()),
        Box::new(Obs),
        Box::new(SparseGpt::default()),
        Box::new(Alps::default()),
        Box::new(Refit::new(Magnitude)),
        Box::new(Refit::new(Wanda)),
    ]
}

fn prune(
    criterion: &dyn Criterion,
    weight: &Tensor,
    statistics: &Statistics,
) -> Result<(), CriterionError> {
    let layer = Layer::new("fc1.weight", weight).with_statistics(Some(statistics));
    criterion.prune(&layer, Pattern::TWO_OF_FOUR, Sparsity::new(0.5).unwrap()).map(|_| ())
}

#[test]
fn what_was_not_observed_is_missed_by_name() {
    let weight = tensor(&Numbers::new(0, "missing").matrix(4, 8));
    for criterion in needy() {
        let layer = Layer::new("fc1.weight", &weight);
        let empty = Statistics::default();
        for layer in [layer, layer.with_statistics(Some(&empty))] {
            let half = Sparsity::new(0.5).unwrap();
            let error = criterion.prune(&layer, Pattern::TWO_OF_FOUR, half).unwrap_err();
            assert!(matches!(error, CriterionError::Missing { .. }), "{criterion:?}: {error}");
            assert!(error.to_string().starts_with("layer fc1.weight: "), "{error}");
        }
    }
}

/// An accumulator that saw nothing is as good as none.
#[test]
fn accumulators_that_saw_nothing_are_missed() {
    let weight = tensor(&Numbers::new(0, "nothing").matrix(4, 8));
    let statistics = Statistics {
        gram: Some(Gram::new(8)),
        fisher: Some(Fisher::new(32, 10)),
        ..Statistics::default()
    };
    for criterion in
        [&SparseGpt::default() as &dyn Criterion, &Alps::default(), &Refit::new(Magnitude), &Obs]
    {
        let error = prune(criterion, &weight, &statistics).unwrap_err();
        assert!(matches!(error, CriterionError::Missing { .. }), "{criterion:?}: {error}");
    }
}

#[test]
fn numbers_that_are_none_are_refused() {
    for value in [f32::NAN, f32::INFINITY] {
        let broken = Tensor::new(&[[1_f32, value, 2., 3.]], &Device::Cpu).unwrap();
        let errors = [
            Gram::new(4).update(&broken).unwrap_err(),
            InputNorms::new(4).update(&broken).unwrap_err(),
            Fisher::new(4, 1).update(&broken).unwrap_err(),
        ];
        for error in errors {
            assert!(matches!(error, CriterionError::NotFinite(_)), "{error}");
        }
        // A gradient comes as it is: it is refused where it is ranked.
        let nan = Tensor::new(&[[1_f32, f32::NAN, 2., 3.]], &Device::Cpu).unwrap();
        let weight = Tensor::ones((1, 4), DType::F32, &Device::Cpu).unwrap();
        let statistics = Statistics {
            gradient: Some(nan.clone()),
            hessian_gradient: Some(nan),
            ..Statistics::default()
        };
        for criterion in [&Snip as &dyn Criterion, &Taylor, &Grasp, &SynFlow::default()] {
            let error = prune(criterion, &weight, &statistics).unwrap_err();
            assert!(error.to_string().starts_with("layer fc1.weight: "), "{error}");
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let mut numbers = Numbers::new(0, "shapes");
    let weight = tensor(&numbers.matrix(4, 8));
    let narrow = Statistics {
        gradient: Some(tensor(&numbers.matrix(8, 4))),
        hessian_gradient: Some(tensor(&numbers.matrix(4, 7))),
        ..observed(&numbers.correlated(20, 4))
    };
    let norms = Statistics { gram: None, ..narrow.clone() };
    for criterion in needy() {
        if ["obs", "movement"].contains(&criterion.name()) {
            continue;
        }
        let error = prune(criterion.as_ref(), &weight, &narrow).unwrap_err();
        assert!(matches!(error, CriterionError::StatisticShape { .. }), "{criterion:?}: {error}");
    }
    for criterion in [&Wanda as &dyn Criterion, &Ria] {
        let error = prune(criterion, &weight, &norms).unwrap_err();
        assert!(matches!(error, CriterionError::StatisticShape { .. }), "{error}");
    }
    // The Fisher matrix of another weight, gradients of another, activations of another.
    let mut fisher = Fisher::new(16, 1);
    fisher.update(&tensor(&numbers.matrix(2, 8))).unwrap();
    let statistics = Statistics { fisher: Some(fisher), ..Statistics::default() };
    assert!(prune(&Obs, &weight, &statistics).is_err());
    assert!(Fisher::new(16, 1).update(&weight).is_err());
    assert!(Gram::new(4).update(&weight).is_err());
    assert!(InputNorms::new(4).update(&weight).is_err());
    let mut movement = Movement::default();
    movement
        .observe("fc1.weight", &tensor(&numbers.matrix(8, 4)), &tensor(&numbers.matrix(8, 4)), 0.1)
        .unwrap();
    assert!(prune(&movement, &weight, &Statistics::default()).is_err());
    // The inputs of a convolution are its patches, not its channels.
    let filters = tensor(&numbers.matrix(4, 36)).reshape((4, 4, 3, 3)).unwrap();
    for criterion in [&SparseGpt::default() as &dyn Criterion, &Alps::default(), &Wanda] {
        let error = prune(criterion, &filters, &narrow).unwrap_err();
        assert!(matches!(error, CriterionError::StatisticShape { .. }), "{criterion:?}: {error}");
    }
}
