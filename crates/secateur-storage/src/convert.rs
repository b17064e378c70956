//! How does a checkpoint become another, be it larger than memory? File by file into a temporary
//! place, renamed when all of it is there.

use crate::{
    Layout, Source, StorageError,
    atomic::failed,
    compressed_tensors::{configure, foreign_method},
    conversion::{Conversion, Converted, Totals},
    folder::{self, Index},
    stream::write_file,
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    thread::ScopedJoinHandle,
};

/// Writes `source` to `out`, whole or not at all: to a file if `out` ends in `.safetensors`, else to a
/// new model folder with as many shards as there were, an index, `config.json`, and whatever else the
/// source's folder holds that is no weights. `done` hears of each tensor when it is written.
///
/// Needs at most twice the memory of the largest tensor, and some 100 MiB; with a pattern other than
/// `N:M` to prune to, four times.
pub fn convert(
    source: &Source,
    out: &Path,
    conversion: Conversion,
    done: &mut dyn FnMut(Converted),
) -> Result<(), StorageError> {
    let to_file = out.extension().is_some_and(|extension| extension == "safetensors");
    if to_file && conversion.to.is_compressed_tensors() {
        let reason = "names a file, and compressed-tensors' formats need config.json beside it; name \
                      a new folder";
        return Err(StorageError::Folder { path: out.to_owned(), reason: reason.into() });
    }
    let names: Vec<&str> = source.entries().keys().map(String::as_str).collect();
    if to_file {
        let totals = &mut Totals::default();
        return write_file(source, &names, out, conversion, totals, done)?.0.finish();
    }
    write_folder(source, &names, out, conversion, done)
}

fn write_folder(
    source: &Source,
    names: &[&str],
    out: &Path,
    conversion: Conversion,
    done: &mut dyn FnMut(Converted),
) -> Result<(), StorageError> {
    let refused =
        |reason: &str| StorageError::Folder { path: out.to_owned(), reason: reason.into() };
    match fs::read_dir(out).map(|mut entries| entries.next().is_some()) {
        Ok(true) => {
            return Err(refused("is a folder with something in it; name a new one, or remove it"));
        }
        Err(_) if out.exists() => return Err(refused("is no folder; name a new one")),
        _ => {}
    }
    let foreign = source.config().and_then(foreign_method);
    if let Some(method) = foreign.filter(|_| conversion.to.is_compressed_tensors()) {
        let reason = format!(
            "would need one quantization_config for {method}, which config.json has, and for {}; \
             convert to secateur or dense",
            conversion.to
        );
        return Err(refused(&reason));
    }
    // Beside its place: renamed as a whole when everything in it is there.
    let parent = match out.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let temporary = tempfile::Builder::new()
        .prefix(".secateur-")
        .suffix(".tmp")
        .tempdir_in(parent)
        .map_err(|source| failed("create a temporary folder for", out, source))?;
    fill_folder(source, names, temporary.path(), conversion, done)
        .map_err(|error| error.relocated(temporary.path(), out))?;
    let temporary = temporary.keep();
    fs::rename(&temporary, out).map_err(|source| {
        let _ = fs::remove_dir_all(&temporary);
        failed("rename into place", out, source)
    })?;
    sync_folder(parent);
    Ok(())
}

/// A folder's entries survive a power cut once it is synced; not all systems let one be opened, and
/// there it is as durable as the system makes it.
fn sync_folder(folder: &Path) {
    if let Ok(folder) = fs::File::open(folder) {
        let _ = folder.sync_all();
    }
}

/// Writes everything that a model folder holds.
fn fill_folder(
    source: &Source,
    names: &[&str],
    to: &Path,
    conversion: Conversion,
    done: &mut dyn FnMut(Converted),
) -> Result<(), StorageError> {
    let shards = shards(source, names, conversion.to);
    let mut totals = Totals::default();
    let single = shards.len() == 1;
    std::thread::scope(|scope| {
        // A shard goes to the disk while the next is packed.
        let mut synced = None;
        for (file, names) in shards {
            let file = if single { PathBuf::from(folder::SINGLE) } else { file };
            let path = to.join(&file);
            let (pending, parts) =
                write_file(source, &names, &path, conversion, &mut totals, done)?;
            let file = file.to_string_lossy().into_owned();
            totals.files.extend(parts.into_iter().map(|part| (part, file.clone())));
            finished(synced.replace(scope.spawn(|| pending.finish())))?;
        }
        finished(synced)
    })?;
    if !single {
        let metadata = [("total_size".to_owned(), totals.size.into())].into();
        let index = Index { metadata, weight_map: std::mem::take(&mut totals.files) };
        write_json(&to.join(folder::INDEX), &index)?;
    }
    if source.config().is_some() || conversion.to.is_compressed_tensors() {
        let sparsity = totals.zeros as f64 / totals.entries.max(1) as f64;
        let Totals { targets, ignore, .. } = &totals;
        let config = configure(source.config(), conversion.to, targets, ignore, sparsity);
        write_json(&to.join(folder::CONFIG), &config)?;
    }
    if let Some(from) = source.folder() {
        folder::copy_companions(from, to)?;
    }
    sync_folder(to);
    set_folder_mode(to).map_err(|source| failed("open up", to, source))
}

fn finished(
    syncing: Option<ScopedJoinHandle<'_, Result<(), StorageError>>>,
) -> Result<(), StorageError> {
    match syncing {
        None => Ok(()),
        Some(syncing) => syncing.join().expect("syncing reports errors, it does not panic"),
    }
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), StorageError> {
    let mut text = serde_json::to_string_pretty(value)?;
    text.push('\n');
    crate::write_atomically(path, text.as_bytes())
}

/// Temporary folders are private by default; a finished model is an ordinary folder.
#[cfg(unix)]
fn set_folder_mode(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn set_folder_mode(_: &Path) -> io::Result<()> {
    Ok(())
}

/// The tensors of each file of the source that will hold any, by the file's name.
fn shards<'a>(source: &Source, names: &[&'a str], to: Layout) -> Vec<(PathBuf, Vec<&'a str>)> {
    let files = source.files().map(|path| path.and_then(Path::file_name).unwrap_or_default());
    let mut shards: Vec<(PathBuf, Vec<&str>)> =
        files.map(|name| (PathBuf::from(name), vec![])).collect();
    for name in names {
        shards[source.entries()[*name].file].1.push(name);
    }
    // Masks are those of weights; what else a shard holds is left out.
    let weight = |name: &&str| source.entries()[*name].shape.len() >= 2;
    let filled = |(_, names): &(PathBuf, Vec<&str>)| match to {
        Layout::Masks => names.iter().any(weight),
        _ => !names.is_empty(),
    };
    let first = shards.first().cloned();
    shards.retain(filled);
    if shards.is_empty() {
        shards.extend(first);
    }
    shards
}
