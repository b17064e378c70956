//! Which name wins when one appears twice? None: the map is refused.
//!
//! JSON parsers keep the last; then two readers of one file may see two different checkpoints.

use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// A map of which every name is there once: for `#[serde(deserialize_with = "…")]`.
pub(crate) fn names<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Names<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> Visitor<'de> for Names<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, V>()? {
                if found.insert(name.clone(), value).is_some() {
                    return Err(de::Error::custom(format!("{name} appears twice")));
                }
            }
            Ok(found)
        }
    }
    deserializer.deserialize_map(Names(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_enough() {
        let read = |text: &str| names::<_, u8>(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read(r#"{"b":1,"a":2}"#).unwrap(), [("a".into(), 2), ("b".into(), 1)].into());
        assert!(read(r#"{"a":1,"\u0061":1}"#).unwrap_err().to_string().contains("a appears twice"));
        assert!(read("[]").is_err());
    }
}
