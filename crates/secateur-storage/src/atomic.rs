//! How is a file written whole or not at all? Beside its place, synced, then renamed over it.

use crate::StorageError;
use std::{fs::File, io::Write, path::Path};

/// Writes `bytes` to `path`: at no moment is there a half-written file under that name, whether the
/// process is killed, the disk is full or the folder cannot be written.
///
/// The temporary file lies in the same folder and is removed on error.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let failed = |action| move |source| StorageError::Io { action, path: path.to_owned(), source };
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".secateur-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(file_mode());
    let mut temporary =
        builder.tempfile_in(folder).map_err(failed("create a temporary file for"))?;
    temporary.write_all(bytes).map_err(failed("write"))?;
    temporary.as_file().sync_all().map_err(failed("sync"))?;
    temporary.persist(path).map_err(|error| failed("rename into place")(error.error))?;
    // The rename itself survives a power cut only once the folder is synced; not all systems
    // let a folder be opened, and there the rename is as durable as the system makes it.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Temporary files are private by default; a finished checkpoint is an ordinary file.
#[cfg(unix)]
fn file_mode() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    std::fs::Permissions::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(&folder.path().join("no/weights"), b"x").unwrap_err();
        assert!(error.to_string().contains("weights"), "{error}");
    }
}
