//! How does somebody write a checkpoint tensor by tensor? Into a sink that knows their names before.

use crate::{
    Dense, Dtype, Entry, Format, Layout, Packed, StorageError,
    atomic::{Pending, failed},
    encode, layout,
    source::in_file,
    writer::{Writer, header_room},
};
use secateur_mask::Pattern;
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// A safetensors file in the making, never more than one tensor of it in memory; whole or not there.
///
/// ```
/// use secateur_storage::{Dense, Layout, Sink, Source};
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights.safetensors");
/// let tensors = [("a", vec![2]), ("b", vec![1, 3])];
/// let mut sink = Sink::create(&path, Layout::Dense, &[].into(), &tensors)?;
/// for (name, shape) in &tensors {
///     let values = vec![1.0_f32; shape.iter().product()];
///     sink.push(name, &Dense::new(values, shape)?.into(), None)?;
/// }
/// sink.finish()?;
/// assert_eq!(Source::open(&path)?.entries().len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Sink {
    pending: Pending,
    writer: Writer<io::BufWriter<File>>,
    layout: Layout,
    path: PathBuf,
    expected: BTreeMap<String, Vec<usize>>,
}

impl Sink {
    /// Begins a file at `path` that will hold tensors of these names and shapes.
    pub fn create<N: AsRef<str>>(
        path: &Path,
        layout: Layout,
        metadata: &BTreeMap<String, String>,
        tensors: &[(N, Vec<usize>)],
    ) -> Result<Self, StorageError> {
        if layout.is_compressed_tensors() {
            let reason = format!("cannot be {layout}, which is a folder with config.json");
            return Err(StorageError::Folder { path: path.to_owned(), reason });
        }
        // Of the longest dtype and format there are.
        let (dtype, format, pattern) = (Dtype::F8_E4M3FNUZ, Format::Dense, None);
        let entry = |shape: &Vec<usize>| Entry {
            shape: shape.clone(),
            dtype,
            format,
            pattern,
            bytes: 0,
            file: 0,
        };
        let worst = tensors.iter().map(|(name, shape)| {
            (name.as_ref(), encode::worst_case(layout, name.as_ref(), &entry(shape)))
        });
        let room = header_room(layout, metadata, worst)?;
        let pending = Pending::create(path)?;
        let writer = Writer::of_file(&pending, layout, metadata, room)?;
        let expected =
            tensors.iter().map(|(name, shape)| (name.as_ref().to_owned(), shape.clone())).collect();
        Ok(Self { pending, writer, layout, path: path.to_owned(), expected })
    }

    /// Writes one of the announced tensors; a weight that the layout cannot pack is written dense.
    pub fn push(
        &mut self,
        name: &str,
        packed: &Packed,
        pattern: Option<Pattern>,
    ) -> Result<(), StorageError> {
        let wrong = |reason| StorageError::Entry { name: name.to_owned(), reason };
        match self.expected.remove(name) {
            None => return Err(wrong("it was not announced, or written already")),
            Some(shape) if shape != packed.shape() => {
                return Err(wrong("it was announced with another shape"));
            }
            Some(_) => {}
        }
        let encoded = match layout::refusal(self.layout, name, packed) {
            None => encode::encode(self.layout, name, packed, pattern)?,
            Some(_) if self.layout == Layout::Masks => return Err(wrong("it has no mask")),
            Some(_) => {
                let dense: Dense = packed.unpack();
                encode::encode(self.layout, name, &dense.into(), None)?
            }
        };
        self.writer.push(name, &encoded).map_err(|error| error.at(&self.path))
    }

    /// Ends the file and gives it its name. Errors when an announced tensor is missing.
    pub fn finish(self) -> Result<(), StorageError> {
        if let Some(name) = self.expected.into_keys().next() {
            return Err(in_file(&self.path)(StorageError::Missing(name)));
        }
        let to = self.writer.finish().map_err(|error| error.at(&self.path))?;
        to.into_inner().map_err(|error| failed("write", &self.path, error.into_error()))?;
        self.pending.finish()
    }
}
