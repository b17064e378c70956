//! What does it cost to convert a checkpoint? Against copying the same files, in alternation.
//!
//! `cargo bench -p secateur-storage --bench convert [-- --gib 2 --rounds 5 --dtype f16]`
//!
//! Writes a sharded dense model folder (2:4 zeros already there), reads it once so that the page cache
//! is warm, then copies and converts in turns. The peak of resident memory is that of a process that
//! converts once. Both are also measured with the data synced to the disk, which converting always
//! does and copying does not.

use half::f16;
use secateur_storage::{Checkpoint, Conversion, Dense, Dtype, Layout, Source, Values, convert};
use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// Layers of a 7B model's block: attention and feed-forward.
const SHAPES: [[usize; 2]; 3] = [[4096, 4096], [11008, 4096], [4096, 11008]];

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let option = |name: &str, default: &str| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).cloned().unwrap_or_else(|| default.to_owned())
    };
    if let Some(at) = args.iter().position(|arg| arg == "--convert-only") {
        let to = option("--to", "secateur").parse().expect("a layout");
        let prune = args.iter().any(|arg| arg == "--prune");
        convert_once(Path::new(&args[at + 1]), Path::new(&args[at + 2]), to, prune);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM ?"));
        return;
    }
    let gib: f64 = option("--gib", "2").parse().expect("a number");
    let rounds: usize = option("--rounds", "5").parse().expect("a number");
    let dtype = if option("--dtype", "f16") == "f32" { Dtype::F32 } else { Dtype::F16 };
    if let Some(at) = args.iter().position(|arg| arg == "--model-only") {
        write_model(Path::new(&args[at + 1]), dtype, (gib * (1 << 30) as f64) as usize);
        return;
    }
    let folder = tempfile::tempdir_in(".").expect("a folder to work in");
    let model = folder.path().join("model");
    let bytes = write_model(&model, dtype, (gib * (1 << 30) as f64) as usize);
    println!(
        "{:.2} GiB of {dtype:?}, {} files",
        bytes as f64 / (1 << 30) as f64,
        files(&model).len()
    );

    let out = folder.path().join("out");
    let mut times: [Vec<Duration>; 5] = Default::default();
    for _ in 0..rounds {
        for (what, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            match what {
                0 => copy(&model, &out, false),
                1 => copy(&model, &out, true),
                2 => convert_once(&model, &out, Layout::Secateur, false),
                3 => convert_once(&model, &out, Layout::Secateur, true),
                _ => convert_once(&model, &out, Layout::Sparse24Bitmask, false),
            }
            times.push(start.elapsed());
            fs::remove_dir_all(&out).expect("what was just written");
        }
    }
    let names = ["copy", "copy, synced", "secateur", "secateur, pruned here", "sparse-24-bitmask"];
    let median = |times: &mut Vec<Duration>| {
        times.sort();
        (times[times.len() / 2].as_secs_f64(), times[0].as_secs_f64())
    };
    let (copied, copied_min) = median(&mut times[0].clone());
    for (name, times) in names.iter().zip(&mut times) {
        let (median, least) = median(times);
        println!(
            "{name:24} median {median:.3} s, least {least:.3} s: {:.2} of copying ({:.2} by the least)",
            copied / median,
            copied_min / least
        );
    }
    for prune in [false, true] {
        let mut child = Command::new(std::env::current_exe().expect("this program"));
        child.arg("--convert-only").arg(&model).arg(&out);
        if prune {
            child.arg("--prune");
        }
        let output = child.output().expect("this program runs");
        let peak = String::from_utf8_lossy(&output.stdout);
        println!("peak of a conversion{}: {}", if prune { ", pruned" } else { "" }, peak.trim());
        let sizes: u64 =
            files(&out).iter().map(|file| fs::metadata(file).expect("a file").len()).sum();
        println!("  {:.4} of the dense bytes", sizes as f64 / bytes as f64);
        fs::remove_dir_all(&out).expect("what was just written");
    }
    let largest = SHAPES.iter().map(|[r, c]| r * c * dtype.bitsize() / 8).max().unwrap_or(0);
    println!("twice the largest tensor and 100 MiB: {} kB", (2 * largest + (100 << 20)) / 1024);
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "safetensors"))
        .collect();
    files.sort();
    files
}

fn copy(from: &Path, to: &Path, sync: bool) {
    fs::create_dir(to).expect("a new folder");
    for file in files(from) {
        let copied = to.join(file.file_name().expect("a name"));
        fs::copy(&file, &copied).expect("a copy");
        if sync {
            fs::File::open(copied).and_then(|file| file.sync_all()).expect("a sync");
        }
    }
}

fn convert_once(from: &Path, to: &Path, layout: Layout, prune: bool) {
    let source = Source::open(from).expect("the model");
    let prune = prune.then(|| "2:4".parse().expect("a target"));
    let conversion = Conversion { to: layout, prune };
    convert(&source, to, conversion, &mut |_| {}).expect("a conversion");
}

/// Shards of about half a GiB with an index; returns the bytes of their tensors.
fn write_model(folder: &Path, dtype: Dtype, bytes: usize) -> usize {
    fs::create_dir(folder).expect("a new folder");
    let (mut shard, mut checkpoint) = (1, Checkpoint::default());
    let (mut total, mut in_shard, mut layer) = (0, 0, 0);
    let mut index = std::collections::BTreeMap::new();
    while total < bytes {
        let shape = SHAPES[layer % SHAPES.len()];
        let mut state = layer as u64 + 1;
        let mut draw = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        };
        // Two of every four stay, at places that change from group to group.
        let floats: Vec<f32> = (0..shape[0] * shape[1] / 4)
            .flat_map(|_| {
                let (draw, skip) =
                    ([draw(), draw(), draw(), draw()], (draw().abs() * 12.0) as usize);
                let (a, b) = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)][skip.min(5)];
                [0, 1, 2, 3].map(|lane| if lane == a || lane == b { 0.0 } else { draw[lane] })
            })
            .collect();
        let values: Values = match dtype {
            Dtype::F32 => floats.into(),
            _ => floats.into_iter().map(f16::from_f32).collect::<Vec<_>>().into(),
        };
        let size = values.data().len();
        let name = format!("layers.{layer}.weight");
        index.insert(name.clone(), format!("model-{shard:05}.safetensors"));
        checkpoint.tensors.insert(name, Dense::new(values, &shape).expect("a tensor").into());
        (total, in_shard, layer) = (total + size, in_shard + size, layer + 1);
        if in_shard >= 1 << 29 || total >= bytes {
            let file = folder.join(format!("model-{shard:05}.safetensors"));
            checkpoint.save_dense(&file).expect("a shard");
            (shard, in_shard) = (shard + 1, 0);
            checkpoint = Checkpoint::default();
        }
    }
    let index = serde_json::json!({ "metadata": {}, "weight_map": index });
    fs::write(folder.join("model.safetensors.index.json"), index.to_string()).expect("an index");
    total
}
