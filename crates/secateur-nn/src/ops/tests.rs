//! Do the operations compute what they should, forwards and backwards? They are held against candle, and
//! where candle's own gradient is wrong or an error, against expressions whose gradient is simple.

use super::{
    batch_norm::{batch_norm, by_candle},
    conv2d, is_tracked, linear, max_pool2, sum,
};
use candle_core::{CpuStorage, CustomOp1, Device, Layout, Result, Shape, Tensor, Var};
use rand::RngExt;
use secateur_criteria::seed;
use secateur_kernels::Conv2dGeometry;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

fn random(shape: &[usize], purpose: &str) -> Tensor {
    let mut stream = seed::stream(1, purpose);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| stream.random::<f32>() * 2.0 - 1.0).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn var(shape: &[usize], purpose: &str) -> Var {
    Var::from_tensor(&random(shape, purpose)).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(found: &Tensor, expected: &Tensor, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    for (found, expected) in values(found).into_iter().zip(values(expected)) {
        assert!(
            (found - expected).abs() < 1e-4 * (1.0 + expected.abs()),
            "{what}: {found} {expected}"
        );
    }
}

/// Outputs and gradients of `ours` and `candles`, with a different weight on each output.
fn agree(
    vars: &[&Var],
    ours: impl Fn() -> Result<Tensor>,
    candles: impl Fn() -> Result<Tensor>,
    what: &str,
) {
    let (ours, candles) = (ours().unwrap(), candles().unwrap());
    close(&ours, &candles, what);
    let slopes = random(ours.dims(), "slopes");
    let gradients = |ys: Tensor| (ys * &slopes).unwrap().sum_all().unwrap().backward().unwrap();
    let (ours, candles) = (gradients(ours), gradients(candles));
    for (at, var) in vars.iter().enumerate() {
        let found = ours.get(var).unwrap();
        assert!(found.is_contiguous(), "{what}: gradient {at}");
        close(found, candles.get(var).unwrap(), &format!("{what}: gradient {at}"));
    }
}

/// A convolution tap by tap, of operations that candle differentiates rightly; its own backward pass ends in
/// an error where the steps leave different margins below and to the right.
fn tap_by_tap(xs: &Tensor, weight: &Tensor, geometry: Conv2dGeometry) -> Result<Tensor> {
    let Conv2dGeometry { stride, padding, dilation, .. } = geometry;
    let xs = xs.pad_with_zeros(2, padding, padding)?.pad_with_zeros(3, padding, padding)?;
    let ((batch, inputs, high, wide), (outputs, _, taps_high, taps_wide)) =
        (xs.dims4()?, weight.dims4()?);
    let pick = |side: usize, taps: usize, tap: usize| {
        let count = (side - (taps - 1) * dilation - 1) / stride + 1;
        let at = (0..count).map(|i| (i * stride + tap * dilation) as u32).collect();
        Tensor::from_vec(at, count, &Device::Cpu)
    };
    let mut sum: Option<Tensor> = None;
    for (i, j) in (0..taps_high).flat_map(|i| (0..taps_wide).map(move |j| (i, j))) {
        let rows = xs.index_select(&pick(high, taps_high, i)?, 2)?;
        let seen = rows.index_select(&pick(wide, taps_wide, j)?, 3)?;
        let (out_high, out_wide) = (seen.dim(2)?, seen.dim(3)?);
        let taps = weight.narrow(2, i, 1)?.narrow(3, j, 1)?.reshape((outputs, inputs))?;
        let ys = taps.broadcast_matmul(&seen.reshape((batch, inputs, out_high * out_wide))?)?;
        let ys = ys.reshape((batch, outputs, out_high, out_wide))?;
        sum = Some(sum.map_or(Ok(ys.clone()), |sum| sum + ys)?);
    }
    sum.ok_or_else(|| candle_core::Error::msg("no taps"))
}

/// Ragged sizes, taps that never touch the image, images that come in several chunks.
#[test]
fn convolutions_are_right() {
    let geometries = [
        ((3, 5), 9, 11, 1, 0, 1),
        ((3, 5), 9, 11, 2, 0, 1),
        ((3, 5), 10, 12, 2, 1, 1),
        ((2, 3), 8, 7, 3, 2, 1),
        ((3, 3), 9, 9, 1, 2, 2),
        ((3, 2), 11, 8, 2, 3, 2),
        ((1, 1), 5, 4, 1, 0, 1),
        ((1, 1), 5, 5, 2, 0, 1),
        ((5, 5), 5, 5, 1, 0, 1),
        ((5, 5), 2, 2, 1, 4, 1),
    ];
    for (at, (taps, high, wide, stride, padding, dilation)) in geometries.into_iter().enumerate() {
        let geometry = Conv2dGeometry { stride, padding, dilation, groups: 1 };
        let xs = var(&[5, 3, high, wide], "images");
        let (weight, bias) = (var(&[4, 3, taps.0, taps.1], "weight"), var(&[4], "bias"));
        agree(
            &[&xs, &weight, &bias],
            || conv2d(&xs, &weight, Some(&bias), geometry),
            || {
                let ys = tap_by_tap(&xs, &weight, geometry)?;
                ys.broadcast_add(&bias.reshape((1, 4, 1, 1))?)
            },
            &format!("{taps:?} {high}x{wide} {geometry:?}"),
        );
        let candles = || xs.conv2d(&weight, padding, stride, dilation, 1);
        let ours = || conv2d(&xs, &weight, None, geometry);
        let what = format!("candle: {taps:?} {high}x{wide} {geometry:?}");
        close(&ours().unwrap(), &candles().unwrap(), &what);
        if [0, 1, 4, 6, 8].contains(&at) {
            agree(&[&xs, &weight], ours, candles, &what);
        }
    }
    let (xs, weight) = (var(&[37, 8, 24, 24], "many"), var(&[6, 8, 5, 5], "weight"));
    agree(
        &[&xs, &weight],
        || conv2d(&xs, &weight, None, Conv2dGeometry::default()),
        || xs.conv2d(&weight, 0, 1, 1, 1),
        "several chunks without a bias",
    );
    let flipped = var(&[3, 5, 9, 8], "transposed");
    let weight = var(&[4, 5, 3, 3], "weight");
    agree(
        &[&weight],
        || conv2d(&flipped.transpose(2, 3)?, &weight, None, Conv2dGeometry::default()),
        || flipped.transpose(2, 3)?.contiguous()?.conv2d(&weight, 0, 1, 1, 1),
        "strided images",
    );
}

#[test]
fn fully_connected_layers_are_candles() {
    let (weight, bias) = (var(&[4, 7], "weight"), var(&[4], "bias"));
    for shape in [vec![5, 7], vec![2, 3, 7], vec![1, 7]] {
        let xs = var(&shape, "activations");
        let plain = || xs.broadcast_matmul(&weight.t()?);
        agree(
            &[&xs, &weight, &bias],
            || linear(&xs, &weight, Some(&bias)),
            || plain()?.broadcast_add(&bias),
            &format!("{shape:?}"),
        );
        agree(
            &[&xs, &weight],
            || linear(&xs, &weight, None),
            plain,
            &format!("{shape:?}, no bias"),
        );
    }
    assert!(linear(&random(&[2, 6], "wrong"), &weight, Some(&bias)).is_err());
}

/// Outputs are candle's; its gradient is a quarter of the right one (it multiplies with the mean of a mask
/// where it should divide by its sum), and on odd sides an error.
#[test]
fn pooling_is_right_and_gives_to_the_first_of_equals() {
    for (high, wide) in [(6, 8), (7, 9), (2, 3)] {
        let xs = var(&[3, 2, high, wide], "images");
        let largest = || {
            let (high, wide) = (high / 2, wide / 2);
            let even = xs.narrow(2, 0, 2 * high)?.narrow(3, 0, 2 * wide)?;
            even.contiguous()?
                .reshape((6, high, 2, wide, 2))?
                .max(4)?
                .max(2)?
                .reshape((3, 2, high, wide))
        };
        close(&max_pool2(&xs).unwrap(), &xs.max_pool2d(2).unwrap(), "candle");
        agree(&[&xs], || max_pool2(&xs), largest, &format!("{high}x{wide}"));
    }
    let equal =
        Var::new(&[[[[1_f32, 2.0, 3.0, 3.0], [2.0, 2.0, 3.0, 3.0]]]], &Device::Cpu).unwrap();
    let loss = max_pool2(&equal).unwrap().sum_all().unwrap();
    let gradient = loss.backward().unwrap();
    assert_eq!(
        values(gradient.get(&equal).unwrap()),
        [0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        "the first of equals"
    );
}

/// Against candle's expressions, and by differences: moving one number moves the statistics.
#[test]
fn gradients_flow_through_the_statistics_of_a_batch() {
    let xs = var(&[5, 3, 7, 4], "images");
    let (weight, bias) = (var(&[3], "weight"), var(&[3], "bias"));
    agree(
        &[&xs, &weight, &bias],
        || Ok(batch_norm(&xs, &weight, &bias, 1e-5)?.0),
        || Ok(by_candle(&xs, &weight, &bias, 1e-5)?.0),
        "batch norm",
    );
    let small = var(&[2, 2, 1, 2], "small");
    let (weight, slopes) = (var(&[2], "weight"), random(&[2, 2, 1, 2], "slopes"));
    let bias = random(&[2], "bias");
    let loss = |xs: &Tensor| {
        let (ys, ..) = batch_norm(xs, &weight, &bias, 1e-5).unwrap();
        (ys.sqr().unwrap() * &slopes).unwrap().sum_all().unwrap()
    };
    let gradients = loss(&small).backward().unwrap();
    let found = values(gradients.get(&small).unwrap());
    let (start, step) = (values(&small), 1e-2);
    for at in 0..start.len() {
        let moved = |by: f32| {
            let mut xs = start.clone();
            xs[at] += by;
            loss(&Tensor::from_vec(xs, small.shape(), &Device::Cpu).unwrap())
        };
        let difference = (moved(step) - moved(-step)).unwrap().to_scalar::<f32>().unwrap();
        let expected = difference / (2.0 * step);
        assert!(
            (found[at] - expected).abs() < 2e-2 * (1.0 + expected.abs()),
            "{found:?} {expected}"
        );
    }
}

/// The identity, which counts how often a gradient came through.
struct Counter(Arc<AtomicUsize>);

impl CustomOp1 for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }
    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((storage.clone(), layout.shape().clone()))
    }
    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Some(gradient.clone()))
    }
}

#[test]
fn images_without_a_variable_get_no_gradient() {
    let (count, weight) = (Arc::new(AtomicUsize::new(0)), var(&[2, 1, 3, 3], "weight"));
    let images = random(&[2, 1, 5, 5], "images");
    let variable = Var::from_tensor(&images).unwrap();
    for (xs, calls) in [(&images, 0), (variable.as_tensor(), 1)] {
        let xs = xs.apply_op1(Counter(count.clone())).unwrap();
        assert_eq!(is_tracked(&xs), calls == 1);
        let ys = conv2d(&xs, &weight, None, Conv2dGeometry::default()).unwrap();
        let gradients = ys.sum_all().unwrap().backward().unwrap();
        assert_eq!((count.load(Ordering::Relaxed), gradients.get(&xs).is_some()), (calls, false));
        assert!(gradients.get(&weight).is_some());
    }
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let (xs, weight) = (var(&[64, 8, 12, 12], "images"), var(&[16, 8, 3, 3], "weight"));
    let run = || {
        let ys = conv2d(&xs, &weight, None, Conv2dGeometry::default()).unwrap();
        let gradients = ys.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        [values(&ys), values(gradients.get(&xs).unwrap()), values(gradients.get(&weight).unwrap())]
    };
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    assert_eq!(pool(1).install(run), pool(3).install(run));
}

#[test]
fn sums_take_every_number() {
    for count in [0_u16, 1, 15, 16, 17, 40] {
        let values: Vec<f32> = (1..=count).map(f32::from).collect();
        assert_eq!(sum(&values), f32::from(count * (count + 1) / 2));
    }
}
