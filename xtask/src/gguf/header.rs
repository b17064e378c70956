//! Can a GGUF header be believed? Asked before candle reads it.
//!
//! candle 0.11 holds every count and length against the file's length, but of metadata it believes the
//! rest: it divides by `general.alignment` unasked, spends 32 bytes on every byte of an array, and lets
//! the last of two entries of one name win.

use anyhow::{Context, Result, bail, ensure};
use std::io::{self, Read};

/// Most metadata values of a file, those inside arrays included: a vocabulary of a million tokens needs
/// four million. candle spends some 130 MB on as many.
const MOST_VALUES: u64 = 1 << 22;
/// Longest metadata key; the format's own limit.
const LONGEST_KEY: u64 = 65_535;
/// Arrays of arrays of … no deeper than this.
const DEEPEST: usize = 4;

/// How many entries of each kind a file claims to have.
#[derive(Debug)]
pub struct Counts {
    pub metadata: u64,
    pub tensors: u64,
}

/// Reads the head of a file of `length` bytes up to its tensor descriptions, keeping nothing.
pub fn check(reader: impl Read, length: u64) -> Result<Counts> {
    let mut head = Head { reader, left: length, values: 0, version: 0 };
    ensure!(
        head.bytes().ok() == Some(*b"GGUF"),
        "not a GGUF file, or it is cut off; copy or download it again"
    );
    head.version = u32::from_le_bytes(head.bytes()?);
    ensure!(
        (1..=3).contains(&head.version),
        "GGUF version {} is not known, only 1 to 3 in little-endian order; convert the model again",
        head.version
    );
    let counts = Counts { tensors: head.length()?, metadata: head.length()? };
    for entry in 0..counts.metadata {
        head.entry().with_context(|| format!("in metadata entry {entry}"))?;
    }
    Ok(counts)
}

struct Head<R> {
    reader: R,
    /// Bytes of the file not yet read.
    left: u64,
    /// Metadata values seen so far.
    values: u64,
    version: u32,
}

impl<R: Read> Head<R> {
    fn entry(&mut self) -> Result<()> {
        let length = self.length()?;
        ensure!(
            length <= LONGEST_KEY,
            "its key of {length} bytes is too long; the file is damaged"
        );
        self.spend(length)?;
        let mut key = vec![0; length as usize];
        self.reader.read_exact(&mut key)?;
        let kind = u32::from_le_bytes(self.bytes()?);
        // As candle reads keys: without zeros at their end.
        let end = key.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if &key[..end] != b"general.alignment" {
            return self.value(kind, 0);
        }
        ensure!(kind == 4, "general.alignment is no u32; the file is damaged");
        let alignment = u32::from_le_bytes(self.bytes()?);
        ensure!(
            alignment.is_power_of_two(),
            "general.alignment is {alignment}, no power of two; the file is damaged"
        );
        Ok(())
    }

    /// Passes over a value of a `kind`, and counts it.
    fn value(&mut self, kind: u32, depth: usize) -> Result<()> {
        self.count(1)?;
        match (width(kind), kind) {
            (Some(width), _) => self.skip(width),
            (None, 8) => {
                let length = self.length()?;
                self.skip(length)
            }
            (None, 9) => self.array(depth),
            _ => bail!("values of kind {kind} are not known; the file is damaged or too new"),
        }
    }

    fn array(&mut self, depth: usize) -> Result<()> {
        ensure!(depth < DEEPEST, "arrays lie in arrays {depth} deep; the file is damaged");
        let kind = u32::from_le_bytes(self.bytes()?);
        let length = self.length()?;
        if let Some(width) = width(kind) {
            self.count(length)?;
            return self.skip(length * width);
        }
        for _ in 0..length {
            self.value(kind, depth + 1)?;
        }
        Ok(())
    }

    fn count(&mut self, values: u64) -> Result<()> {
        self.values = self.values.saturating_add(values);
        ensure!(
            self.values <= MOST_VALUES,
            "the metadata claims {} values or more, at most {MOST_VALUES} are read; the file is \
             damaged, or its vocabulary has to be removed",
            self.values
        );
        Ok(())
    }

    /// A count or a length as this version writes it.
    fn length(&mut self) -> Result<u64> {
        match self.version {
            1 => Ok(u32::from_le_bytes(self.bytes()?).into()),
            _ => Ok(u64::from_le_bytes(self.bytes()?)),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.spend(N as u64)?;
        let mut bytes = [0; N];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self, count: u64) -> Result<()> {
        self.spend(count)?;
        io::copy(&mut self.reader.by_ref().take(count), &mut io::sink())?;
        Ok(())
    }

    fn spend(&mut self, count: u64) -> Result<()> {
        self.left = self.left.checked_sub(count).with_context(|| {
            format!(
                "{count} bytes are to follow and only {} do; the file is cut off or damaged, copy or \
                 download it again",
                self.left
            )
        })?;
        Ok(())
    }
}

/// Bytes of a value of a `kind` that has always as many.
fn width(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head without tensors and with one metadata entry.
    fn head(version: u32, key: &str, value: &[u8]) -> Vec<u8> {
        let length = |count: usize| match version {
            1 => (count as u32).to_le_bytes().to_vec(),
            _ => (count as u64).to_le_bytes().to_vec(),
        };
        let version = version.to_le_bytes();
        let (none, one) = (length(0), length(1));
        [b"GGUF", &version[..], &none, &one, &length(key.len()), key.as_bytes(), value].concat()
    }

    fn said(bytes: &[u8]) -> String {
        match check(bytes, bytes.len() as u64) {
            Ok(counts) => format!("{} and {}", counts.tensors, counts.metadata),
            Err(error) => format!("{error:#}"),
        }
    }

    fn number(kind: u32, value: &[u8]) -> Vec<u8> {
        [&kind.to_le_bytes(), value].concat()
    }

    #[test]
    fn sound_heads_pass_in_every_version() {
        for version in 1..=3 {
            for (kind, width) in [1, 1, 2, 2, 4, 4, 4, 1].into_iter().enumerate() {
                let value = number(kind as u32, &[0; 8][..width]);
                assert_eq!(said(&head(version, "k", &value)), "0 and 1");
                assert!(said(&head(version, "k", &value[..3 + width])).contains("cut off"));
            }
            let value = number(4, &64_u32.to_le_bytes());
            assert_eq!(said(&head(version, "general.alignment", &value)), "0 and 1");
        }
    }

    #[test]
    fn what_candle_would_trust_is_refused() {
        let alignment = |value: u32| number(4, &value.to_le_bytes());
        let array = |kind: u32, count: u64| {
            [9_u32.to_le_bytes(), kind.to_le_bytes()]
                .concat()
                .into_iter()
                .chain(count.to_le_bytes())
        };
        let mut deep = number(9, &[]);
        for _ in 0..10 {
            deep.extend([&9_u32.to_le_bytes()[..], &1_u64.to_le_bytes()].concat());
        }
        let mut wide: Vec<u8> = array(0, MOST_VALUES + 1).collect();
        wide.resize(wide.len() + MOST_VALUES as usize + 1, 7);
        for (head, expected) in [
            (head(3, "general.alignment", &alignment(0)), "is 0, no power of two"),
            (head(3, "general.alignment\0\0", &alignment(0)), "is 0, no power of two"),
            (head(3, "general.alignment", &number(0, &[0])), "is no u32"),
            (head(3, "k", &array(0, u64::MAX).collect::<Vec<_>>()), "values or more"),
            (head(3, "k", &array(8, u64::MAX).collect::<Vec<_>>()), "8 bytes are to follow"),
            (head(3, "k", &array(6, 1 << 20).collect::<Vec<_>>()), "4194304 bytes are to follow"),
            (head(3, "k", &wide), "values or more"),
            (head(3, "k", &deep), "4 deep"),
            (head(3, "k", &number(8, &u64::MAX.to_le_bytes())), "cut off"),
            (head(3, "k", &number(13, &[0; 8])), "kind 13"),
            (head(3, &"k".repeat(70_000), &alignment(1)), "too long"),
            (head(4, "k", &alignment(1)), "version 4"),
            (b"GGU".to_vec(), "not a GGUF file"),
            (b"PK\x03\x04 and more".to_vec(), "not a GGUF file"),
        ] {
            let said = said(&head);
            assert!(said.contains(expected), "{said:?} does not say {expected:?}");
        }
    }
}
