//! What does a safetensors file say about its bytes? A JSON header that names every one of them.
//!
//! `u64` length, header, data. Read here rather than by the safetensors crate, because that one wants
//! the whole file in memory and lets a name that appears twice pass; nothing in a header is believed
//! before it was checked against the length of the file.

use crate::{Dtype, StorageError, unique};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// The name under which safetensors keeps its metadata.
pub(crate) const METADATA: &str = "__metadata__";

/// Where a tensor lies: bytes `start..end` after the header.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Info {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub start: u64,
    pub end: u64,
}

/// A header, checked: tensors lie one after the other and fill the file.
#[derive(Debug, Default)]
pub(crate) struct Header {
    pub metadata: BTreeMap<String, String>,
    pub tensors: BTreeMap<String, Info>,
}

impl Header {
    /// The length of the header that a file's first eight bytes claim. Errors when the file, of
    /// `file` bytes, cannot hold it.
    pub fn length(first: &[u8], file: u64) -> Result<usize, StorageError> {
        let claimed = match first.first_chunk() {
            Some(bytes) => u64::from_le_bytes(*bytes),
            None => return Err(StorageError::HeaderLength { claimed: 8, file }),
        };
        match claimed.checked_add(8).filter(|end| *end <= file) {
            Some(_) => Ok(claimed as usize),
            None => Err(StorageError::HeaderLength { claimed, file }),
        }
    }

    /// Reads a header that `data` bytes follow.
    pub fn parse(text: &[u8], data: u64) -> Result<Self, StorageError> {
        let header: Self = serde_json::from_slice(text).map_err(StorageError::HeaderText)?;
        let mut in_order: Vec<(&String, &Info)> = header.tensors.iter().collect();
        in_order.sort_by_key(|(_, info)| (info.start, info.end));
        let mut end = 0;
        for (name, info) in in_order {
            let wrong = |reason| StorageError::Offsets { name: name.clone(), reason };
            if info.start != end {
                return Err(wrong("it does not begin where the one before it ends"));
            }
            let bits =
                crate::shape::checked_len(&info.shape)? as u128 * info.dtype.bitsize() as u128;
            if info.end < info.start || u128::from(info.end - info.start) * 8 != bits {
                return Err(wrong("its bytes are not those of its shape and dtype"));
            }
            end = info.end;
        }
        if end != data {
            let name = header.last_name();
            let reason = match end < data {
                true => "bytes follow that no tensor has",
                false => "it ends beyond the file",
            };
            return Err(StorageError::Offsets { name, reason });
        }
        Ok(header)
    }

    fn last_name(&self) -> String {
        let last = self.tensors.iter().max_by_key(|(_, info)| (info.end, info.start));
        last.map_or_else(|| METADATA.to_owned(), |(name, _)| name.clone())
    }

    /// The header's JSON, names sorted, without the spaces that fill it up.
    pub fn text(&self) -> Result<String, StorageError> {
        let mut map = serde_json::Map::new();
        let json = |value: Result<_, _>| value.map_err(StorageError::Header);
        if !self.metadata.is_empty() {
            map.insert(METADATA.to_owned(), json(serde_json::to_value(&self.metadata))?);
        }
        for (name, info) in &self.tensors {
            let entry = Entry {
                dtype: info.dtype,
                shape: info.shape.clone(),
                data_offsets: (info.start, info.end),
            };
            map.insert(name.clone(), json(serde_json::to_value(entry))?);
        }
        serde_json::to_string(&map).map_err(StorageError::Header)
    }
}

#[derive(Deserialize)]
struct Unique(#[serde(deserialize_with = "unique::names")] BTreeMap<String, String>);

#[derive(Serialize, Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    data_offsets: (u64, u64),
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let (mut header, mut seen_metadata) = (Header::default(), false);
                while let Some(name) = map.next_key::<String>()? {
                    let twice = if name == METADATA {
                        header.metadata = map.next_value::<Unique>()?.0;
                        std::mem::replace(&mut seen_metadata, true)
                    } else {
                        let Entry { dtype, shape, data_offsets: (start, end) } =
                            map.next_value()?;
                        let info = Info { dtype, shape, start, end };
                        header.tensors.insert(name.clone(), info).is_some()
                    };
                    if twice {
                        return Err(de::Error::custom(format!("{name} appears twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let info = |shape: &[usize], start, end| Info {
            dtype: Dtype::F16,
            shape: shape.to_vec(),
            start,
            end,
        };
        let tensors =
            [("b\u{1F33F}\"".into(), info(&[2], 0, 4)), ("a".into(), info(&[0, 3], 4, 4))].into();
        let header = Header { metadata: [("k".into(), "v".into())].into(), tensors };
        let back = Header::parse(header.text().unwrap().as_bytes(), 4).unwrap();
        assert_eq!((back.tensors, back.metadata), (header.tensors, header.metadata));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let said = |text: &str, data| Header::parse(text.as_bytes(), data).unwrap_err().to_string();
        let a = r#""a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
        assert!(Header::parse(format!("{{{a}}}  ").as_bytes(), 4).is_ok());
        assert!(said(&format!("{{{a},{a}}}"), 4).contains("a appears twice"));
        assert!(said(&format!("{{{a}}}"), 5).contains("bytes follow"));
        assert!(said(&format!("{{{a}}}"), 3).contains("beyond the file"));
        let b = a.replace("\"a\"", "\"b\"");
        assert!(said(&format!("{{{a},{b}}}"), 8).contains("does not begin"));
        assert!(said(&a.replace("[4]", "[5]").replace(r#""a""#, r#"{"a""#), 4).contains("damaged"));
        assert!(said(&format!("{{{}}}", a.replace("[4]", "[5]")), 4).contains("shape and dtype"));
        let huge = a.replace("[4]", "[9223372036854775807,9]");
        assert!(said(&format!("{{{huge}}}"), 4).contains("too large"));
        assert!(said("[]", 0).contains("damaged"));
        let deep = format!(r#"{{"a":{{"deep":{}"#, "[".repeat(100_000));
        assert!(said(&deep, 0).contains("damaged"));
    }
}
