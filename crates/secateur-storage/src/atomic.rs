//! How is a file written whole or not at all? Beside its place, synced, then renamed over it.

use crate::StorageError;
use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

/// A file in the making: nobody sees it under its name before it is whole, whether the process is
/// killed, the disk is full or the folder cannot be written. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Pending {
    file: NamedTempFile,
    path: PathBuf,
}

impl Pending {
    /// A temporary file in the same folder.
    pub fn create(path: &Path) -> Result<Self, StorageError> {
        // A new file could be renamed over it all the same, which is not what its owner wants.
        if path.metadata().is_ok_and(|old| old.permissions().readonly()) {
            let source = io::Error::new(io::ErrorKind::PermissionDenied, "it is read-only");
            return Err(failed("replace", path, source));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".secateur-").suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(file_mode());
        let file = builder
            .tempfile_in(folder(path))
            .map_err(|source| failed("create a temporary file for", path, source))?;
        Ok(Self { file, path: path.to_owned() })
    }

    pub fn file(&self) -> &File {
        self.file.as_file()
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs it and gives it its name.
    pub fn finish(self) -> Result<(), StorageError> {
        let path = self.path;
        self.file.as_file().sync_all().map_err(|source| failed("sync", &path, source))?;
        self.file
            .persist(&path)
            .map_err(|error| failed("rename into place", &path, error.error))?;
        // The rename itself survives a power cut only once the folder is synced; not all systems
        // let a folder be opened, and there the rename is as durable as the system makes it.
        if let Ok(folder) = File::open(folder(&path)) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

/// Writes `bytes` to `path`: at no moment is there a half-written file under that name, whether the
/// process is killed, the disk is full or the folder cannot be written.
///
/// The temporary file lies in the same folder and is removed on error.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    let pending = Pending::create(path)?;
    pending.file().write_all(bytes).map_err(|source| failed("write", path, source))?;
    pending.finish()
}

pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> StorageError {
    StorageError::Io { action, path: path.to_owned(), source }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
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
    fn a_read_only_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        write_atomically(&path, b"old").unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions).unwrap();
        let error = write_atomically(&path, b"new").unwrap_err();
        assert!(error.to_string().contains("read-only"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = write_atomically(&folder.path().join("no/weights"), b"x").unwrap_err();
        assert!(error.to_string().contains("weights"), "{error}");
    }
}
