//! Does a run that goes on from saved progress end with the bytes of the run that was never stopped?

use secateur::{
    prelude::*,
    train::{
        Checkpointing, ConstantWithRegrowth, Distillation, Epoch, Interval, MinAccuracy, Split,
        TrainError,
    },
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Runs that between them have everything that progress has to hold.
fn runs() -> Vec<(&'static str, Run)> {
    let training = Training { dropout: 0.2, input_dropout: 0.1, ..Training::adam(3, 64, 3e-3) };
    let plain = |target: &str| Run {
        seed: 4,
        retraining: training.clone(),
        ..Run::new(target.parse().unwrap(), training.clone())
    };
    let target = Sparsity::new(0.9).unwrap();
    vec![
        ("rounds", {
            let schedule = Box::new(Iterative::new(target, 2).unwrap());
            Run { schedule, allocation: Box::new(Global), fold_dead: true, ..plain("0.9") }
        }),
        ("ticket", Run { rewind: Rewind::Initial, ..plain("0.5") }),
        ("late", Run { rewind: Rewind::Step(7), ..plain("0.5") }),
        ("control", Run { rewind: Rewind::Random, ..plain("0.5") }),
        ("gradual", {
            let schedule = Box::new(Gradual::new(target, Every::Steps(9)).unwrap());
            let distillation = Some(Distillation { weight: 0.5, temperature: 2.0 });
            Run { schedule, distillation, ..plain("0.9") }
        }),
        ("regrowth", {
            let schedule = ConstantWithRegrowth::new(target, Every::Steps(10)).unwrap();
            Run { schedule: Box::new(schedule), rewind: Rewind::Initial, ..plain("0.9") }
        }),
        ("sr-ste", {
            let (sparse, rewind) = (SparseTraining::SR_STE, Rewind::Initial);
            Run { sparse, rewind, ..plain("2:4") }
        }),
        ("search", {
            let schedule = MinAccuracy { misses: 2, ..MinAccuracy::new(0.93).unwrap() };
            Run { schedule: Box::new(schedule), rewind: Rewind::None, ..plain("0.5") }
        }),
    ]
}

/// Collects evaluations; now and then it puts the saved progress aside, as a kill would leave it.
#[derive(Default)]
struct Watch {
    epochs: Vec<Epoch>,
    resumed: bool,
    steps: usize,
    put_aside: Option<(PathBuf, PathBuf)>,
    kept: Vec<PathBuf>,
}

impl Observer for Watch {
    fn epoch(&mut self, epoch: &Epoch) {
        self.epochs.push(epoch.clone());
    }
    fn resumed(&mut self, epochs: &[Epoch]) {
        (self.epochs, self.resumed) = (epochs.to_vec(), true);
    }
    fn step(&mut self) {
        self.steps += 1;
        if let Some((file, folder)) = &self.put_aside
            && self.steps.is_multiple_of(17)
            && file.exists()
        {
            let copy = folder.join(format!("{}.safetensors", self.steps));
            fs::copy(file, &copy).unwrap();
            self.kept.push(copy);
        }
    }
}

type Bytes = [Vec<u8>; 3];

fn execute(run: &Run, split: &Split, file: &Path, watch: &mut Watch) -> Bytes {
    let checkpointing = Checkpointing { file: file.to_owned(), every: Interval::Steps(5) };
    let network = Mlp::digits(run.seed, &Device::Cpu).unwrap();
    let outcome = run.execute_resumable(network, split, watch, &checkpointing).unwrap();
    [outcome.dense, outcome.pruned, outcome.masks].map(|file| file.to_bytes().unwrap())
}

#[test]
fn a_resumed_run_ends_with_the_same_bytes() {
    let split = digits(&Device::Cpu).unwrap().split(200, 4).unwrap();
    for (name, run) in runs() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("progress.safetensors");
        let put_aside = Some((file.clone(), folder.path().to_owned()));
        let mut whole = Watch { put_aside, ..Watch::default() };
        let bytes = execute(&run, &split, &file, &mut whole);
        assert!(whole.kept.len() > 5 && !whole.resumed, "{name}: {}", whole.kept.len());
        // Every third, so that all rounds are met and the test takes seconds.
        for copy in whole.kept.iter().step_by(3) {
            let mut rest = Watch::default();
            assert!(execute(&run, &split, copy, &mut rest) == bytes, "{name} from {copy:?}");
            assert!(rest.resumed && rest.epochs == whole.epochs, "{name} from {copy:?}");
            assert!(rest.steps < whole.steps, "{name} began again");
        }
        // Without checkpoints it is the same run.
        let network = Mlp::digits(run.seed, &Device::Cpu).unwrap();
        let plain = run.execute(network, &split, &mut ()).unwrap();
        assert!(plain.pruned.to_bytes().unwrap() == bytes[1], "{name}");
    }
}

#[test]
fn progress_of_another_run_and_damaged_progress_are_refused() {
    let split = digits(&Device::Cpu).unwrap().split(200, 4).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("progress.safetensors");
    let (_, run) = runs().swap_remove(0);
    let try_with = |run: &Run| {
        let checkpointing = Checkpointing { file: file.clone(), every: Interval::Steps(5) };
        let network = Mlp::digits(run.seed, &Device::Cpu).unwrap();
        run.execute_resumable(network, &split, &mut (), &checkpointing).map(|_| ())
    };
    try_with(&run).unwrap();
    let other = Run { seed: 5, ..runs().swap_remove(0).1 };
    assert!(matches!(try_with(&other), Err(TrainError::Resume { .. })));

    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert!(try_with(&run).is_err());
    // Whole as a file, but something is missing in it.
    let checkpoint = Checkpoint::from_bytes(whole).unwrap();
    for prefix in ["now/", "best/", "dense/", "chosen/", "optimizer/", "mask-now/", "mask-best/"] {
        let mut less = checkpoint.clone();
        let name = less.tensors.keys().chain(less.masks.keys()).find(|n| n.starts_with(prefix));
        let name = name.unwrap_or_else(|| panic!("nothing under {prefix}")).clone();
        less.tensors.remove(&name);
        less.masks.remove(&name);
        less.save(&file).unwrap();
        assert!(try_with(&run).is_err(), "{name} was not missed");
    }
}
