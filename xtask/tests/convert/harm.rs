//! Are mistakes explained, and is what was there still there after mistakes, full disks and kills?

use crate::checkpoints::*;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

#[test]
fn mistakes_are_explained_and_what_was_there_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("in.safetensors"), &model());
    save_folder(&folder.join("model"), &model());
    fs::create_dir_all(folder.join("full/deep")).unwrap();
    fs::write(folder.join("full/deep/precious"), "1").unwrap();
    fs::create_dir(folder.join("folder.safetensors")).unwrap();
    fs::write(folder.join("file"), "a file without an ending").unwrap();
    fs::write(folder.join("old.safetensors"), "an old file").unwrap();
    let whole = fs::read(folder.join("in.safetensors")).unwrap();
    fs::write(folder.join("cut.safetensors"), &whole[..whole.len() - 1]).unwrap();
    fs::write(folder.join("head.safetensors"), &whole[..100]).unwrap();
    fs::write(folder.join("nothing.safetensors"), "").unwrap();
    fs::write(folder.join("noise.gguf"), "no model").unwrap();
    // A packed file with another mask than it claims.
    answer(&convert(
        folder,
        &["in.safetensors", "packed.safetensors", "--to", "secateur", "--prune", "0.5", "--json"],
    ));
    let mut packed = fs::read(folder.join("packed.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&packed).unwrap();
    let bitmask = file.tensor("embed.weight.bitmask").unwrap().data().as_ptr_range();
    let start = packed.as_ptr_range().start;
    let bitmask = bitmask.start as usize - start as usize..bitmask.end as usize - start as usize;
    packed[bitmask].reverse();
    fs::write(folder.join("wrong.safetensors"), &packed).unwrap();
    fs::create_dir(folder.join("shardless")).unwrap();
    let index = json!({"weight_map": {"a": "model-00001-of-00002.safetensors"}}).to_string();
    fs::write(folder.join("shardless/model.safetensors.index.json"), index).unwrap();
    let before = contents(folder);
    for (args, said) in [
        (&["in.safetensors", "o", "--to", "bitmask"][..], "there are secateur, dense"),
        (&["in.safetensors", "o", "--to", "dense", "--prune", "2:x"], "write a share such as 0.9"),
        (&["in.safetensors", "o", "--to", "dense", "--prune", "4:2"], "--prune"),
        (&["in.safetensors", "o", "--to", "dense", "--prune", "1.5"], "--prune"),
        (&["in.safetensors", "o"], "--to"),
        (&["in.safetensors", "no/o.safetensors", "--to", "dense"], "create no first"),
        (&["in.safetensors", "no/deeper/o", "--to", "dense"], "create no/deeper first"),
        (&["in.safetensors", "full", "--to", "dense"], "name a new one, or remove it"),
        (&["in.safetensors", "model", "--to", "dense"], "name a new one, or remove it"),
        (&["model", "model", "--to", "secateur"], "name a new one, or remove it"),
        (&["in.safetensors", "file", "--to", "dense"], "name a new one"),
        (&["in.safetensors", "folder.safetensors", "--to", "dense"], "folder.safetensors"),
        (&["in.safetensors", "old.safetensors", "--to", "sparse-bitmask"], "name a new folder"),
        (&["in.safetensors", "old.safetensors", "--to", "sparse-24-bitmask"], "name a new folder"),
        (&["gone.safetensors", "old.safetensors", "--to", "dense"], "gone.safetensors"),
        (&["gone.gguf", "old.safetensors", "--to", "dense"], "gone.gguf"),
        (&["noise.gguf", "old.safetensors", "--to", "dense"], "noise.gguf"),
        (&["cut.safetensors", "old.safetensors", "--to", "dense"], "cut.safetensors"),
        (&["head.safetensors", "old.safetensors", "--to", "dense"], "head.safetensors"),
        (&["nothing.safetensors", "old.safetensors", "--to", "dense"], "nothing.safetensors"),
        (&["wrong.safetensors", "old.safetensors", "--to", "dense"], "wrong.safetensors: the mask"),
        (&["full", "old.safetensors", "--to", "dense"], "is it a model folder?"),
        (&["shardless", "old.safetensors", "--to", "dense"], "model-00001-of-00002.safetensors"),
        (&["in.safetensors", "/proc/o.safetensors", "--to", "dense"], "/proc/o.safetensors"),
        (&["in.safetensors", "/proc/o", "--to", "dense"], "/proc/o"),
    ] {
        let output = convert(folder, args);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(
            text.contains("error: ") && text.contains(said),
            "{args:?} said {text:?}, not {said:?}"
        );
        assert!(!text.contains("panicked"), "{args:?}: {text}");
        assert!(contents(folder) == before, "{args:?} changed something");
    }
    assert!(!folder.join("o").exists());
}

/// Some ten megabytes of weights.
fn large(folder: &Path, rows: usize) {
    let layers = (0..8).map(|layer| {
        let data = numbers(Dtype::F32, rows * 1024, layer);
        (format!("layers.{layer}.weight"), (vec![rows, 1024], Dtype::F32, data))
    });
    save(&folder.join("in.safetensors"), &layers.collect());
}

/// The limit on a file's size stands for a full disk: writing fails in the same place.
#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_and_the_old_file_stays() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    large(folder, 640);
    fs::write(folder.join("old.safetensors"), "an old file").unwrap();
    let before = contents(folder);
    for (out, to, prune) in [
        ("old.safetensors", "dense", "0.5"),
        ("old.safetensors", "secateur", "2:4"),
        ("old.safetensors", "secateur", "0.8"),
        ("new", "sparse-24-bitmask", "2:4"),
        ("new", "sparse-bitmask", "0.5"),
    ] {
        // Blocks of 512 bytes or, in some shells, of 1024: room for 2 or 4 of more than 6 MB.
        let script = "trap '' XFSZ; ulimit -f 4000; exec \"$@\"";
        let mut limited = Command::new("sh");
        limited.args([
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_xtask"),
            "convert",
            "in.safetensors",
            out,
        ]);
        limited.args(["--to", to, "--prune", prune]).current_dir(folder).stdin(Stdio::null());
        let output = limited.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{out} {to} {prune}: {said}");
        assert!(said.contains("error: cannot write") && said.contains("safetensors"), "{said}");
        assert!(contents(folder) == before, "{out} {to} {prune} left something behind");
        assert!(!folder.join("new").exists());
    }
}

/// Root writes into folders that forbid it, but not into immutable ones.
#[test]
#[cfg(unix)]
fn a_folder_that_cannot_be_written_is_an_error_and_the_old_file_stays() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    save(&folder.join("in.safetensors"), &model());
    let sealed = folder.join("sealed");
    fs::create_dir(&sealed).unwrap();
    fs::write(sealed.join("old.safetensors"), "an old file").unwrap();
    let mode = |mode| fs::set_permissions(&sealed, fs::Permissions::from_mode(mode)).unwrap();
    let attribute = |flag: &str| {
        let mut chattr = Command::new("chattr");
        let run = chattr.arg(flag).arg(&sealed).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let writable = || {
        let probe = sealed.join("probe");
        fs::write(&probe, "").and_then(|()| fs::remove_file(&probe)).is_ok()
    };
    mode(0o555);
    let immutable = writable() && attribute("+i");
    let results: Option<Vec<Output>> = (!writable()).then(|| {
        let outs = ["sealed/old.safetensors", "sealed/new.safetensors", "sealed/folder"];
        outs.map(|out| convert(folder, &["in.safetensors", out, "--to", "secateur"])).into()
    });
    let left = listing(&sealed);
    // Before anything can fail, or nobody could remove it.
    if immutable {
        assert!(attribute("-i"));
    }
    mode(0o755);
    assert_eq!(left, ["old.safetensors"]);
    assert_eq!(fs::read_to_string(sealed.join("old.safetensors")).unwrap(), "an old file");
    let Some(results) = results else {
        eprintln!("skipped: this user can write into every folder");
        return;
    };
    for output in results {
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.starts_with("error: cannot create a temporary") && said.contains("sealed/"),
            "{said}"
        );
    }
}

/// Kills come at moments that the seed says, over a bit more than a whole run.
#[test]
fn a_kill_leaves_the_old_file_or_the_new_one() {
    const KILLS: u32 = 30;
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    large(folder, 1280);
    let args = |out, to| ["in.safetensors", out, "--to", to, "--prune", "2:4"];
    let cases = [("old.safetensors", "secateur"), ("new", "sparse-24-bitmask")];
    let runs = cases.map(|(out, to)| {
        let begun = Instant::now();
        assert!(convert(folder, &args(out, to)).status.success());
        {
            let path = folder.join(out);
            let files = if path.is_dir() { contents(&path) } else { BTreeMap::new() };
            (begun.elapsed(), files, fs::read(path).ok())
        }
    });
    fs::remove_dir_all(folder.join("new")).unwrap();
    let (mut random, mut in_the_middle, mut whole) = (7_u64, 0, 0);
    for kill in 0..KILLS {
        let case = kill as usize % 2;
        let ((out, to), (time, new_folder, new_file)) = (cases[case], &runs[case]);
        fs::write(folder.join("old.safetensors"), "an old file").unwrap();
        let mut child = command(folder, &args(out, to)).stderr(Stdio::null()).spawn().unwrap();
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let share = (random >> 33) as f64 / (1_u64 << 31) as f64;
        std::thread::sleep(time.mul_f64(share * 1.1).max(Duration::from_millis(1)));
        child.kill().unwrap();
        child.wait().unwrap();
        let old = fs::read(folder.join("old.safetensors")).unwrap();
        let is_new = match out {
            "new" => {
                assert_eq!(old, b"an old file");
                let is_new = folder.join("new").exists();
                assert!(!is_new || contents(&folder.join("new")) == *new_folder, "half a folder");
                is_new
            }
            _ => {
                assert!(old == b"an old file" || Some(&old) == new_file.as_ref(), "half a file");
                Some(&old) == new_file.as_ref()
            }
        };
        whole += u32::from(is_new);
        let known = ["in.safetensors", "old.safetensors", "new"];
        for name in listing(folder).iter().filter(|name| !known.contains(&name.as_str())) {
            assert!(name.starts_with(".secateur-") && name.ends_with(".tmp"), "{name}");
            in_the_middle += 1;
            let path = folder.join(name);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        let _ = fs::remove_dir_all(folder.join("new"));
    }
    assert!(in_the_middle >= 5, "only {in_the_middle} of {KILLS} kills came while it was writing");
    assert!(whole < KILLS, "no kill came in time");
    // What a killed run left in the way of nobody does not stop the next.
    assert!(convert(folder, &args("old.safetensors", "secateur")).status.success());
    assert_eq!(fs::read(folder.join("old.safetensors")).ok(), runs[0].2);
}
