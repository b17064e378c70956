//! Does any kernel touch a byte that is not its own? Every allocation of these tests lies flush against
//! memory that ends the process when it is read or written: activations, bias, results, packed weights
//! and scratch, which assembly reaches as well.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

#[path = "../common/mod.rs"]
mod common;
mod fence;

use common::{DTYPES, Question, SORTS, WAYS, numbers, products, tiers, weight, yardstick::Sums};
use fence::Side;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use secateur_kernels::{
    Activation, Conv2dGeometry, Conv2dProduct, KernelKind, Product, Tier, View, ViewMut,
};
use secateur_storage::{Dense, Dtype};
use std::{io::Write, os::unix::process::ExitStatusExt, process::Command};

#[global_allocator]
static FENCED: fence::Fenced = fence::Fenced;

/// Runs `work` on a thread of its own, whose allocations are fenced and whose scratch is new: as small
/// as the work needs.
fn fenced<T: Send>(side: Side, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let run = || {
            fence::put_up(side);
            work()
        };
        scope.spawn(run).join().unwrap()
    })
}

fn sweep(side: Side, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let tiers = tiers();
    for case in 0..6 * SORTS.len() {
        let shape = [(); 2].map(|()| rng.random_range(1..=140));
        let tokens = [1, 2, 3, 4, rng.random_range(5..=20), rng.random_range(5..=150)][case % 6];
        let (sort, dtype) = (SORTS[case % SORTS.len()], DTYPES[case / SORTS.len() % 4]);
        let weight = fenced(side, || weight(&mut rng, shape, sort, dtype));
        let question = fenced(side, || Question::new(&mut rng, shape, tokens));
        let sums = Sums::of(&weight, &question.x, tokens);
        for dispatcher in &tiers {
            for (_, product) in fenced(side, || products(&weight, dispatcher)) {
                for way in WAYS {
                    let y = fenced(side, || question.ask(&product, dispatcher, way));
                    sums.check(&question, &y).unwrap();
                }
                fenced(side, || strided(&question, &product, &sums));
            }
        }
    }
}

/// Tokens some way apart, but nothing after the last.
fn strided(question: &Question, product: &Product, sums: &Sums) {
    let (rows, cols, tokens) = (product.rows(), product.cols(), question.tokens);
    let mut x = vec![f32::NAN; (tokens - 1) * (cols + 3) + cols];
    let mut y = vec![f32::NAN; (tokens - 1) * (rows + 5) + rows];
    for (token, from) in question.x.chunks(cols).enumerate() {
        x[token * (cols + 3)..][..cols].copy_from_slice(from);
    }
    let to = ViewMut { data: &mut y, tokens, stride: rows + 5 };
    let from = View { data: &x, tokens, stride: cols + 3 };
    product.apply(from, &question.epilogue(), to).unwrap();
    let y: Vec<f32> = y.chunks(rows + 5).flat_map(|token| token[..rows].to_vec()).collect();
    sums.check(question, &y).unwrap();
}

#[test]
fn nothing_is_touched_behind_the_end() {
    sweep(Side::End, 1);
}

#[test]
fn nothing_is_touched_before_the_start() {
    sweep(Side::Start, 2);
}

/// The kernels that round activations, on their own panels.
fn rounded(side: Side, seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let Some(dispatcher) = tiers().into_iter().find(|here| here.tier() == Tier::Avx512) else {
        return;
    };
    for case in 0..60 {
        let dtype = [Dtype::BF16, Dtype::I8][case % 2];
        let shape = [(); 2].map(|()| rng.random_range(1..=140));
        let tokens = [rng.random_range(5..=20), rng.random_range(5..=150)][case / 2 % 2];
        let packed = fenced(side, || weight(&mut rng, shape, SORTS[0], dtype));
        let (bias, activation) = (None, Activation::None);
        let x = fenced(side, || numbers(&mut rng, tokens * shape[1]));
        let question = Question { x, tokens, bias, activation };
        let product = Product::with_kernel(&packed, &dispatcher, KernelKind::NOfM).unwrap();
        let product = match product.with_activation_dtype(dtype) {
            Ok(product) => product,
            Err(missing) => {
                let _ = writeln!(std::io::stderr(), "skipped: {missing}");
                continue;
            }
        };
        let sums = Sums::of(&packed, &question.x, tokens);
        for way in WAYS {
            let y = fenced(side, || question.ask(&product, &dispatcher, way));
            for (y, sum) in y.iter().zip(sums.sums()) {
                assert!(
                    (f64::from(*y) - sum).abs() < 0.02 * shape[1] as f64,
                    "{y}, not about {sum}"
                );
            }
        }
    }
}

#[test]
fn nor_where_activations_are_rounded() {
    rounded(Side::End, 4);
    rounded(Side::Start, 5);
}

/// Several threads, each with scratch behind a fence, on weights of several blocks.
#[test]
fn nor_by_threads() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for (case, sort) in SORTS.into_iter().enumerate() {
        let side = [Side::End, Side::Start][case % 2];
        let threads = rayon::ThreadPoolBuilder::new().num_threads(3);
        let pool = threads.start_handler(move |_| fence::put_up(side)).build().unwrap();
        let (shape, tokens) = ([rng.random_range(260..400), 150], rng.random_range(100..200));
        pool.install(|| {
            let weight = weight(&mut rng, shape, sort, DTYPES[case % 4]);
            let question = Question::new(&mut rng, shape, tokens);
            let sums = Sums::of(&weight, &question.x, tokens);
            for dispatcher in tiers() {
                for (_, product) in products(&weight, &dispatcher) {
                    for way in WAYS {
                        sums.check(&question, &question.ask(&product, &dispatcher, way)).unwrap();
                    }
                }
            }
        });
    }
}

/// One image and more than there are lanes, padded and strided, on planes as small as they may be.
#[test]
fn nor_by_convolutions() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    for case in 0..120 {
        let side = [Side::End, Side::Start][case % 2];
        let mut pick = |from: std::ops::RangeInclusive<usize>| rng.random_range(from);
        let (stride, padding, dilation, groups) =
            (pick(1..=3), pick(0..=2), pick(1..=2), pick(1..=2));
        let geometry = Conv2dGeometry { stride, padding, dilation, groups };
        let shape = [groups * pick(1..=4), pick(1..=3), pick(1..=3), pick(1..=3)];
        let size = (pick(5..=14), pick(5..=14));
        let image = groups * shape[1] * size.0 * size.1;
        let weight = numbers(&mut rng, shape.iter().product());
        let (x, bias) = (numbers(&mut rng, 19 * image), numbers(&mut rng, shape[0]));
        for dispatcher in tiers() {
            let run = |batch: usize| {
                fenced(side, || {
                    let weight = Dense::new(weight.clone(), &shape).unwrap();
                    let product =
                        Conv2dProduct::new(&weight.into(), geometry, &dispatcher).unwrap();
                    let (high, wide) = product.output(size).unwrap();
                    let (x, bias) = (x[..batch * image].to_vec(), bias.clone());
                    let mut y = vec![f32::NAN; batch * shape[0] * high * wide];
                    product.run(&x, batch, size, Some(&bias), true, &mut y).unwrap();
                    y
                })
            };
            let (one, many) = (run(1), run(19));
            assert!(many.iter().all(|y| !y.is_nan()) && many[..one.len()] == one, "{geometry:?}");
        }
    }
}

/// A fence that nobody can hit proves nothing: a process that steps over it is ended.
#[test]
fn fences_bite() {
    for crime in ["end", "start", "freed"] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let child = child.args(["--ignored", "--exact", "steps_over", "--nocapture"]);
        let status = child.env("FENCE", crime).output().unwrap().status;
        assert!(matches!(status.signal(), Some(libc::SIGSEGV | libc::SIGBUS)), "{crime}: {status}");
    }
}

#[test]
#[ignore = "a child of `fences_bite`, which ends with a signal"]
fn steps_over() {
    let crime = std::env::var("FENCE").unwrap_or_default();
    let side = if crime == "start" { Side::Start } else { Side::End };
    fenced(side, || {
        let numbers = vec![1_u8; 40];
        let at = match crime.as_str() {
            "end" => numbers.as_ptr().wrapping_add(40),
            "start" => numbers.as_ptr().wrapping_sub(1),
            "freed" => {
                let at = numbers.as_ptr();
                drop(numbers);
                at
            }
            _ => return,
        };
        // SAFETY: none, which is the point: this process ends here.
        std::hint::black_box(unsafe { at.read_volatile() });
    });
}
