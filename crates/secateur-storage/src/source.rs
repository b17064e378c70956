//! What is in a checkpoint, whatever it is made of? Tensors by name, each read when it is asked for.
//!
//! A [`Source`] is one safetensors file or a model folder, sharded or not; plain, in our own layout,
//! or in one of compressed-tensors'. Opening it reads the headers only.

use crate::{
    Dtype, Format, Packed, Places, StorageError,
    claimed::{self, bitmask, holds, parts, prove, scaled},
    claims::{self, Claims},
    compressed_tensors::{self, Compressed},
    folder,
    tensor_file::TensorFile,
};
use bytes::Bytes;
use secateur_mask::{Mask, Pattern};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A checkpoint to read from.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("weights.safetensors");
/// # let mut checkpoint = secateur_storage::Checkpoint::default();
/// # let bias = secateur_storage::Dense::new(vec![0.5, -0.5], &[2])?;
/// # checkpoint.tensors.insert("fc1.bias".into(), bias.into());
/// # checkpoint.save(&path)?;
/// use secateur_storage::Source;
///
/// let source = Source::open(&path)?;
/// for (name, entry) in source.entries() {
///     println!("{name}: {:?} {:?}, {}", entry.shape, entry.dtype, entry.format);
/// }
/// let bias = source.tensor("fc1.bias")?.unpack();
/// assert_eq!(bias.to_f32()?[..], [0.5, -0.5]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Source {
    files: Vec<TensorFile>,
    entries: BTreeMap<String, Entry>,
    stored: BTreeMap<String, Stored>,
    metadata: BTreeMap<String, String>,
    config: Option<serde_json::Value>,
    folder: Option<PathBuf>,
    version: Option<u32>,
}

/// What the headers say about a tensor; nothing of it is proved before it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The shape of the dense tensor.
    pub shape: Vec<usize>,
    /// The element type; BOOL for a mask alone.
    pub dtype: Dtype,
    /// How it is stored.
    pub format: Format,
    /// The pattern that it claims to have.
    pub pattern: Option<Pattern>,
    /// Bytes of its parts.
    pub bytes: u64,
    /// In which of [`Source::files`] it lies (its values, where parts lie apart).
    pub file: usize,
}

/// Where a tensor's parts are.
#[derive(Debug)]
pub(crate) enum Stored {
    /// With its scales, if it has them: the file that they lie in, and their name.
    Plain(Option<(usize, String)>),
    /// With whether it has scales.
    Claimed(claims::Claim, bool),
    Compressed(Compressed),
}

impl Source {
    /// Opens a `.safetensors` file or a model folder: `model.safetensors.index.json` with its shards,
    /// `model.safetensors`, or the one `.safetensors` file in it. `config.json` is read if it is there.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let (paths, index) = folder::files(path)?;
        let mut source = Self::empty();
        for path in &paths {
            let file = TensorFile::open(path).map_err(in_file(path))?;
            source.files.push(file);
        }
        let config = path.join(folder::CONFIG);
        source.folder = path.is_dir().then(|| path.to_owned());
        if path.is_dir() && config.is_file() {
            source.config = Some(folder::json(&config, "the configuration")?);
        }
        source.read_headers().map_err(in_file(path))?;
        for (name, file) in index.iter().flat_map(|index| &index.weight_map) {
            let at = source.files.iter().find(|at| at.path().is_some_and(|p| p.ends_with(file)));
            if !at.is_some_and(|at| at.header.tensors.contains_key(name)) {
                return Err(in_file(path)(StorageError::Missing(name.clone())));
            }
        }
        Ok(source)
    }

    /// Reads a file that is in memory; its tensors are views of it.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, StorageError> {
        let mut source = Self::empty();
        source.files.push(TensorFile::from_bytes(bytes.into())?);
        source.read_headers()?;
        Ok(source)
    }

    fn empty() -> Self {
        Self {
            files: vec![],
            entries: BTreeMap::new(),
            stored: BTreeMap::new(),
            metadata: BTreeMap::new(),
            config: None,
            folder: None,
            version: None,
        }
    }

    /// Finds out what the tensors of all files are.
    fn read_headers(&mut self) -> Result<(), StorageError> {
        let mut files = BTreeMap::new();
        for (at, file) in self.files.iter().enumerate() {
            let claims = match file.header.metadata.get(claims::KEY) {
                Some(text) => Claims::parse(text)?,
                None => {
                    self.metadata.extend(file.header.metadata.clone());
                    for name in file.header.tensors.keys() {
                        if files.insert(name.clone(), at).is_some() {
                            return Err(StorageError::DuplicateName(name.clone()));
                        }
                    }
                    continue;
                }
            };
            self.version = self.version.max(Some(claims.version));
            self.metadata.extend(claims.metadata);
            let mut unnamed: BTreeSet<&str> =
                file.header.tensors.keys().map(String::as_str).collect();
            // A tensor of its own may have the name that another's scales would have.
            let is_dense = |(_, claim): &(&String, &claims::Claim)| claim.format == Format::Dense;
            let dense = claims.tensors.iter().filter(is_dense).map(|(name, _)| name.clone());
            let dense: BTreeSet<String> = dense.collect();
            for (name, claim) in claims.tensors {
                let scales = format!("{name}.scales");
                let scaled = claim.format != Format::Mask
                    && file.header.tensors.contains_key(&scales)
                    && !dense.contains(&scales);
                let parts = parts(&name, claim.format, scaled);
                let bytes = parts.iter().map(|part| file.bytes(part)).sum();
                for part in parts {
                    file.info(&part)?;
                    if !unnamed.remove(part.as_str()) {
                        let reason = "two entries share it";
                        return Err(StorageError::Entry { name: part, reason });
                    }
                }
                let entry = claimed::claimed(&name, &claim, file, at, bytes)?;
                if self.entries.insert(name.clone(), entry).is_some() {
                    return Err(StorageError::DuplicateName(name));
                }
                self.stored.insert(name, Stored::Claimed(claim, scaled));
            }
            if let Some(name) = unnamed.pop_first() {
                let reason = "the header does not name it";
                return Err(StorageError::Entry { name: name.to_owned(), reason });
            }
        }
        for compressed in Compressed::find(&mut files) {
            let entry = compressed.entry(&self.files)?;
            self.add(compressed.name(), entry, Stored::Compressed(compressed))?;
        }
        // A column of F32 called `NAME_scale` scales the rows of I8 `NAME`, as compressed-tensors has it.
        let scales_of = |name: &String, at: &usize| {
            let scale = format!("{name}_scale");
            let (weight, file) = (self.files[*at].info(name).ok()?, *files.get(&scale)?);
            let found = self.files[file].info(&scale).ok()?;
            let rows = weight.shape.first().filter(|_| weight.shape.len() > 1)?;
            let fits = weight.dtype == Dtype::I8 && found.dtype == Dtype::F32;
            (fits && found.shape == [*rows, 1]).then_some((name.clone(), (file, scale)))
        };
        let mut scaled: BTreeMap<String, (usize, String)> =
            files.iter().filter_map(|(name, at)| scales_of(name, at)).collect();
        let scales: BTreeSet<String> = scaled.values().map(|(_, scale)| scale.clone()).collect();
        for (name, at) in files.into_iter().filter(|(name, _)| !scales.contains(name)) {
            let scales = scaled.remove(&name);
            let info = self.files[at].info(&name)?;
            let entry = Entry {
                shape: info.shape.clone(),
                dtype: info.dtype,
                format: Format::Dense,
                pattern: None,
                bytes: self.files[at].bytes(&name)
                    + scales.as_ref().map_or(0, |(file, scale)| self.files[*file].bytes(scale)),
                file: at,
            };
            self.add(name, entry, Stored::Plain(scales))?;
        }
        Ok(())
    }

    fn add(&mut self, name: String, entry: Entry, stored: Stored) -> Result<(), StorageError> {
        if self.entries.insert(name.clone(), entry).is_some() {
            return Err(StorageError::DuplicateName(name));
        }
        self.stored.insert(name, stored);
        Ok(())
    }

    /// Every tensor and mask, by name.
    pub fn entries(&self) -> &BTreeMap<String, Entry> {
        &self.entries
    }

    /// The weight files.
    pub fn files(&self) -> impl Iterator<Item = Option<&Path>> {
        self.files.iter().map(TensorFile::path)
    }

    /// The model folder, if it is one.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Free-form metadata of all files; where shards disagree, the last one counts.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The folder's `config.json`, if it has one.
    pub fn config(&self) -> Option<&serde_json::Value> {
        self.config.as_ref()
    }

    /// What compressed-tensors' part of the configuration claims of every compressed weight.
    pub fn claimed_structure(&self) -> Option<Pattern> {
        compressed_tensors::claimed_structure(self.config.as_ref()?)
    }

    /// The tensor `name`, with every claim about it proved. A mask alone is no tensor: see
    /// [`Self::mask`].
    pub fn tensor(&self, name: &str) -> Result<Packed, StorageError> {
        let (packed, entry) = (self.unproved(name)?, &self.entries[name]);
        if let Some(Stored::Claimed(claim, _)) = self.stored.get(name) {
            prove(name, claim, packed.mask().as_ref())?;
        } else if let (Some(pattern), Some(mask)) = (entry.pattern, packed.mask()) {
            holds(name, &mask, pattern)?;
        }
        Ok(packed)
    }

    /// The mask of `name`, proved: of a packed tensor, or a mask alone. `None` for a dense tensor.
    pub fn mask(&self, name: &str) -> Result<Option<Mask>, StorageError> {
        match self.stored.get(name) {
            Some(Stored::Claimed(claim, _)) if claim.format == Format::Mask => {
                let file = &self.files[self.entries[name].file];
                let mask = bitmask(file, name, &claim.shape)?;
                prove(name, claim, Some(&mask))?;
                Ok(Some(mask))
            }
            _ => Ok(self.tensor(name)?.mask()),
        }
    }

    /// How a tensor is stored.
    pub(crate) fn stored(&self, name: &str) -> Option<&Stored> {
        self.stored.get(name)
    }

    /// The newest version of our own layout that a file is in.
    pub(crate) fn version(&self) -> Option<u32> {
        self.version
    }

    /// The tensor `name`, its parts checked against each other, its claims not yet.
    pub(crate) fn unproved(&self, name: &str) -> Result<Packed, StorageError> {
        let missing = || StorageError::Missing(name.to_owned());
        let entry = self.entries.get(name).ok_or_else(missing)?;
        let file = &self.files[entry.file];
        match &self.stored[name] {
            Stored::Plain(scales) => {
                let mut values = file.shaped(name, &entry.shape)?;
                if let Some((file, scale)) = scales {
                    values = scaled(values, &self.files[*file], scale)?;
                }
                Packed::from_parts(&entry.shape, values, Places::Dense)
            }
            Stored::Compressed(compressed) => compressed.read(&self.files),
            Stored::Claimed(claim, scaled) => claimed::read(file, name, claim, *scaled),
        }
    }
}

pub(crate) fn in_file(path: &Path) -> impl Fn(StorageError) -> StorageError + '_ {
    move |source| match source {
        // Said once is enough.
        StorageError::InFile { .. } | StorageError::Io { .. } | StorageError::Folder { .. } => {
            source
        }
        source => StorageError::InFile { path: PathBuf::from(path), source: Box::new(source) },
    }
}
