//! What does a plan say, for cards of every kind and for every table of measurements?

use super::*;
use crate::{
    Tier,
    cuda::{Emulator, changed::Changed},
};
use secateur_storage::Dtype;

fn problem(tokens: usize) -> Problem {
    let (format, stored, dtype) = (Format::TWO_OF_FOUR, 8 << 20, Dtype::BF16);
    Problem { rows: 4096, cols: 4096, tokens, format, stored, dtype }
}

/// A kernel and a library, timed at 4096 x 4096: microseconds.
fn timed(kernel: CudaKernel, tokens: usize, us: f64, dense: Option<f64>) -> Measurement {
    let (rows, cols, dtype) = (4096, 4096, "bf16".to_owned());
    let (nanoseconds, dense_nanoseconds) = (us * 1e3, dense.map(|us| us * 1e3));
    Measurement { kernel, dtype, rows, cols, tokens, nanoseconds, dense_nanoseconds }
}

fn dispatcher(sm: u32, products: &[Measurement]) -> DeviceDispatcher {
    let device = Changed::sm(Emulator::new().device(), sm);
    let measured = Measurements { products: products.to_vec(), ..Measurements::of(&device) };
    let cpu = Dispatcher::with_tier(Tier::Portable).unwrap();
    cpu.on(Ok(device)).with_measurements(measured)
}

#[test]
fn plans_explain_themselves() {
    use CudaKernel::{Gemm, SmallBatch};
    let plan = |sm, products: &[Measurement], problem: Problem| {
        dispatcher(sm, products).plan(&problem).explain()
    };
    let few =
        |small, tiled| [timed(SmallBatch, 8, small, Some(20.0)), timed(Gemm, 8, tiled, Some(20.0))];
    let cases = [
        ("nothing measured, few tokens", plan(80, &[], problem(8))),
        ("nothing measured, many tokens", plan(80, &[], problem(512))),
        ("both measured, small-batch faster", plan(80, &few(9.5, 12.0), problem(8))),
        ("both measured, gemm faster", plan(80, &few(12.0, 9.5), problem(8))),
        ("both measured, as fast", plan(80, &few(9.5, 9.5), problem(8))),
        ("small-batch slower than dense", plan(80, &few(25.0, 12.0), problem(8))),
        ("both slower than dense", plan(80, &few(25.0, 30.0), problem(8))),
        ("as fast as dense", plan(80, &[timed(Gemm, 512, 60.0, Some(60.0))], problem(512))),
        ("no dense there", plan(80, &[timed(Gemm, 512, 60.0, None)], problem(700))),
        ("only gemm measured", plan(80, &few(9.0, 10.0)[1..], problem(8))),
        ("sm_90, nothing measured", plan(90, &[], problem(512))),
        ("sm_90, few tokens", plan(90, &[], problem(8))),
        (
            "sm_90, measured and faster",
            plan(90, &[timed(Gemm, 512, 30.0, Some(45.0))], problem(512)),
        ),
        ("sm_75", plan(75, &[], problem(8))),
        (
            "a type that it does not take",
            plan(80, &[], Problem { dtype: Dtype::F32, ..problem(1) }),
        ),
        ("4:8", plan(80, &[], Problem { format: "4:8".parse().unwrap(), ..problem(1) })),
    ];
    let text: Vec<String> =
        cases.into_iter().map(|(what, plan)| format!("# {what}\n{plan}")).collect();
    insta::assert_snapshot!(text.join("\n\n"));
}

#[test]
fn a_kernel_slower_than_dense_does_not_run() {
    for tokens in [1, 4, 16, 17, 64, 300, 1000] {
        for &kernel in CudaKernel::ALL {
            for (dense, runs) in [(99.0, false), (100.0, true), (101.0, true)] {
                // The other one is out of the question.
                let other = CudaKernel::ALL[usize::from(kernel == CudaKernel::ALL[0])];
                let table = [
                    timed(kernel, tokens, 100.0, Some(dense)),
                    timed(other, tokens, 100.0, Some(1.0)),
                ];
                let planned = dispatcher(80, &table).plan(&problem(tokens)).kernel();
                let takes = tokens <= kernel.most_tokens();
                assert_eq!(planned, (runs && takes).then_some(kernel), "{kernel}, {tokens} tokens");
            }
        }
    }
}

#[test]
fn a_card_with_little_shared_memory_runs_no_tiles() {
    let inner = Emulator::new().device();
    for (bytes, kernel) in [(79_871, None), (79_872, Some(CudaKernel::Gemm))] {
        let mut properties = inner.properties().clone();
        properties.shared_per_block = bytes;
        let changed = Changed { inner: inner.clone(), properties, text: None };
        let device = Device::new(std::sync::Arc::new(changed));
        let cpu = Dispatcher::with_tier(Tier::Portable).unwrap();
        let plan = cpu.on(Ok(device)).with_measurements(Measurements::default()).plan(&problem(64));
        assert_eq!(plan.kernel(), kernel);
        let said = plan.explain().contains("more shared memory than the 79871 bytes here");
        assert_eq!(said, kernel.is_none(), "{}", plan.explain());
    }
}
