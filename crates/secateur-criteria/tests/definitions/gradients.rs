//! Are the criteria that follow the loss what their papers define? SNIP, Taylor, movement, GraSP.

use crate::{
    DISTINCT, agrees, close, cut,
    reference::{
        Matrix, choose,
        data::Numbers,
        flat,
        loss::{Softmax, times},
        product, rows_of,
        scores::{grasp, movement, snip, taylor},
        transposed,
    },
    tensor, values,
};
use candle_core::{DType, Device, Tensor, Var};
use secateur_criteria::{
    Criterion, CriterionError, Global, Grasp, Layer, Movement, Snip, Statistics, Taylor,
    grasp as hessian, prune,
};
use secateur_mask::{Pattern, Sparsity};

const SHAPES: [(usize, usize); 3] = [(12, 20), (20, 8), (4, 12)];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What is cut of a network of three layers, all in one contest.
fn masks(
    criterion: &dyn Criterion,
    weights: &[Matrix],
    statistics: &[Statistics],
    cut: usize,
) -> Vec<Vec<bool>> {
    let weights: Vec<Tensor> = weights.iter().map(tensor).collect();
    let layers: Vec<Layer<'_>> = (0..3)
        .map(|i| Layer::new(NAMES[i], &weights[i]).with_statistics(Some(&statistics[i])))
        .collect();
    let target = Sparsity::of_counts(cut, SHAPES.iter().map(|(r, c)| r * c).sum()).unwrap();
    let cuts = prune(&layers, criterion, Pattern::Unstructured, &Global, target).unwrap();
    cuts.values().map(|cut| cut.mask.to_bools()).collect()
}

fn three(numbers: &mut Numbers, size: f64) -> Vec<Matrix> {
    let layer = |(rows, cols): (usize, usize)| {
        let w = numbers.matrix(rows, cols);
        let small = |w: f64| crate::reference::data::rounded(w * size);
        w.into_iter().map(|row| row.into_iter().map(small).collect()).collect()
    };
    SHAPES.map(layer).to_vec()
}

#[test]
fn snip_ranks_the_network_by_connection_sensitivity() {
    for seed in 0..4 {
        let mut numbers = Numbers::new(seed, "snip");
        let (w, g) = (three(&mut numbers, 1.0), three(&mut numbers, 1e-3));
        let statistics: Vec<Statistics> = g
            .iter()
            .map(|g| Statistics { gradient: Some(tensor(g)), ..Statistics::default() })
            .collect();
        let pairs: Vec<_> = w.iter().cloned().zip(g).collect();
        for cut in [100, 224, 400] {
            let (expected, gap) = choose::over_layers(&snip(&pairs), cut);
            assert!(gap > DISTINCT);
            assert_eq!(masks(&Snip, &w, &statistics, cut), expected, "seed {seed}, {cut}");
        }
    }
}

#[test]
fn taylor_is_the_first_order_change_of_the_loss() {
    for seed in 0..4 {
        let mut numbers = Numbers::new(seed, "taylor");
        let (w, g) = (numbers.matrix(16, 24), numbers.matrix(16, 24));
        let statistics = Statistics { gradient: Some(tensor(&g)), ..Statistics::default() };
        let scores = taylor(&w, &g);
        let mask = cut(&Taylor, &tensor(&w), &statistics, "unstructured", 0.6).mask;
        agrees("taylor", &mask, &choose::anywhere(&scores, 230));
        let mask = cut(&Taylor, &tensor(&w), &statistics, "2:4", 0.5).mask;
        agrees("taylor 2:4", &mask, &choose::n_of_m(&scores, 24, (2, 4)));
        let layer_weight = tensor(&w);
        let layer = Layer::new("w", &layer_weight).with_statistics(Some(&statistics));
        close("taylor", &values(&Taylor.score(&layer).unwrap()), &scores, 1e-6);
    }
}

/// Against steps of gradient descent with a falling rate: it keeps what moved away from zero.
#[test]
fn movement_sums_over_the_training() {
    for seed in 0..4 {
        let mut numbers = Numbers::new(seed, "movement");
        let (mut steps, mut observer) = (vec![], Movement::default());
        let mut w = numbers.matrix(10, 16);
        for step in 0..7 {
            let (g, lr) = (numbers.matrix(10, 16), 0.1 / (1.0 + step as f64));
            observer.observe("layer", &tensor(&w), &tensor(&g), lr).unwrap();
            observer.observe("another", &tensor(&g), &tensor(&g), lr).unwrap();
            steps.push((w.clone(), g.clone(), lr));
            for (w, g) in w.iter_mut().flatten().zip(g.iter().flatten()) {
                *w = crate::reference::data::rounded(*w - lr * g);
            }
        }
        let (scores, weight) = (movement(&steps), tensor(&w));
        let found = values(&observer.score(&Layer::new("layer", &weight)).unwrap());
        close("movement", &found, &scores, 1e-6);
        let nothing = Statistics::default();
        let mask = cut(&observer, &weight, &nothing, "unstructured", 0.7).mask;
        agrees("movement", &mask, &choose::anywhere(&scores, 112));
    }
}

fn softmax(seed: u64) -> (Softmax, Matrix) {
    let mut numbers = Numbers::new(seed, "softmax");
    let (x, w) = (numbers.correlated(40, 12), numbers.matrix(5, 12));
    let classes = (0..40).map(|_| (numbers.uniform() * 5.0) as usize).collect();
    (Softmax { x, classes, temperature: hessian::TEMPERATURE }, w)
}

/// The reference's own derivatives are those of its loss.
#[test]
fn derivatives_by_hand_are_derivatives() {
    let (loss, w) = softmax(0);
    let loss = Softmax { temperature: 2.0, ..loss };
    let v = Numbers::new(0, "direction").matrix(5, 12);
    let at = |t: f64| -> Matrix {
        (0..5).map(|i| (0..12).map(|j| w[i][j] + t * v[i][j]).collect()).collect()
    };
    let slope: f64 = flat(&loss.gradient(&w)).iter().zip(flat(&v)).map(|(g, v)| g * v).sum();
    let expected = (loss.loss(&at(1e-5)) - loss.loss(&at(-1e-5))) / 2e-5;
    assert!((slope - expected).abs() < 1e-8 * slope.abs().max(1.0), "{slope} {expected}");
    let (up, down) = (flat(&loss.gradient(&at(1e-5))), flat(&loss.gradient(&at(-1e-5))));
    let expected: Vec<f64> = up.iter().zip(down).map(|(up, down)| (up - down) / 2e-5).collect();
    close("Hv", &flat(&loss.hessian_times(&w, &v)), &expected, 1e-7);
}

/// The network's loss as candle differentiates it: logits over the temperature, cross-entropy.
fn autograd(loss: &Softmax, w: &Var) -> Result<Vec<Tensor>, CriterionError> {
    let x = Tensor::new(loss.x.clone(), &Device::Cpu)?.to_dtype(w.dtype())?;
    let classes: Vec<u32> = loss.classes.iter().map(|&class| class as u32).collect();
    let classes = Tensor::new(classes, &Device::Cpu)?.unsqueeze(1)?;
    let logits = (x.matmul(&w.t()?)? / loss.temperature)?;
    let logs = logits.broadcast_sub(&logits.exp()?.sum_keepdim(1)?.log()?)?;
    let loss = logs.gather(&classes, 1)?.mean_all()?.neg()?;
    Ok(vec![loss.backward()?.get(w).unwrap().clone()])
}

#[test]
fn hessian_gradient_is_the_closed_form() {
    for (dtype, tolerance) in [(DType::F64, 1e-5), (DType::F32, 2e-2)] {
        for seed in 0..3 {
            let (loss, w) = softmax(seed);
            let expected = flat(&loss.hessian_times(&w, &loss.gradient(&w)));
            let weight = Var::from_tensor(&tensor(&w).to_dtype(dtype).unwrap()).unwrap();
            let weights = [weight.clone()];
            let found = hessian::hessian_gradient(&weights, || autograd(&loss, &weight)).unwrap();
            close("Hg", &values(&found[0]), &expected, tolerance);
            assert_eq!(values(&weight), flat(&w), "the weights were not put back");
        }
    }
}

/// A loss whose Hessian couples three layers: Hg of the whole, not of each layer alone. And the sign
/// of the score: what is cut first is what takes least from gᵀg, to first order.
#[test]
fn grasp_keeps_the_gradient_flowing() {
    let total: usize = SHAPES.iter().map(|(rows, cols)| rows * cols).sum();
    for seed in 0..2 {
        let mut numbers = Numbers::new(seed, "quadratic");
        let w = three(&mut numbers, 1.0);
        let root = numbers.matrix(total / 4, total);
        let a = product(&transposed(&root), &root);
        let theta: Vec<f64> = w.iter().flat_map(flat).collect();
        let hg = times(&a, &times(&a, &theta));
        let split = |all: &[f64]| -> Vec<Matrix> {
            let mut at = 0;
            SHAPES
                .iter()
                .map(|(rows, cols)| {
                    at += rows * cols;
                    rows_of(&all[at - rows * cols..at], *cols)
                })
                .collect()
        };

        let vars: Vec<Var> = w
            .iter()
            .map(|w| Var::from_tensor(&tensor(w).to_dtype(DType::F64).unwrap()).unwrap())
            .collect();
        let found = hessian::hessian_gradient(&vars, || -> Result<_, CriterionError> {
            let theta: Vec<f64> = vars.iter().flat_map(|var| values(var)).collect();
            let g = split(&times(&a, &theta));
            Ok(g.iter().map(|g| Tensor::new(g.clone(), &Device::Cpu).unwrap()).collect())
        });
        let found = found.unwrap();
        let all: Vec<f64> = found.iter().flat_map(values).collect();
        close("Hg", &all, &hg, 1e-8);

        let statistics: Vec<Statistics> = found
            .into_iter()
            .map(|hg| Statistics { hessian_gradient: Some(hg), ..Statistics::default() })
            .collect();
        let scores = grasp(&theta, &hg);
        let layers: Vec<Vec<f64>> = split(&scores).iter().map(flat).collect();
        for cut in [60, total / 2, total - 30] {
            let (expected, gap) = choose::over_layers(&layers, cut);
            assert!(gap > DISTINCT);
            assert_eq!(masks(&Grasp, &w, &statistics, cut), expected, "seed {seed}, {cut}");
        }

        let flow = |theta: &[f64]| times(&a, theta).iter().map(|g| g * g).sum::<f64>();
        let shrunk = |q: usize| {
            let mut theta = theta.clone();
            theta[q] *= 1.0 - 1e-4;
            flow(&theta)
        };
        let best = (0..total).max_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        let worst = (0..total).min_by(|&a, &b| scores[a].total_cmp(&scores[b])).unwrap();
        assert!(shrunk(best) < flow(&theta) && flow(&theta) < shrunk(worst));
        let first = masks(&Grasp, &w, &statistics, 1).concat();
        assert!(!first[worst] && first[best]);
    }
}

#[test]
fn the_temperature_is_the_published_one() {
    assert_eq!(hessian::TEMPERATURE, 200.0);
}
