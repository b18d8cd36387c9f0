//! What keys there are, read off the types: no list of them can differ from what is read.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::Config;

/// What stands at a path of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Keys or tables of these names: a section, or a table of a section.
    Table(&'static [&'static str]),
    /// A key whose value is one of these words.
    Word(&'static [&'static str]),
    /// A key whose value is text.
    Text,
    /// A key with any other value.
    Value,
}

/// What the configuration has at this path, if anything.
pub(super) fn at(path: &[&str]) -> Option<Entry> {
    Config::deserialize(Probe { path })
        .err()
        .and_then(|Found(entry)| entry)
}

/// The tables of a section, in their order.
pub(super) fn tables(section: &str) -> impl Iterator<Item = &'static str> {
    let names = names(&[section]).iter().copied();
    names.filter(move |name| matches!(at(&[section, name]), Some(Entry::Table(_))))
}

/// The tables of a section that have a key of this name.
pub(super) fn tables_with(section: &str, key: &str) -> Vec<&'static str> {
    let tables = tables(section);
    tables
        .filter(|table| names(&[section, table]).contains(&key))
        .collect()
}

fn names(path: &[&str]) -> &'static [&'static str] {
    match at(path) {
        Some(Entry::Table(names)) => names,
        _ => &[],
    }
}

/// This path as it is spelled, given with underscores for its dashes.
pub(super) fn with_dashes(path: &[&str]) -> Vec<String> {
    let mut spelled: Vec<String> = Vec::new();
    for part in path {
        let above: Vec<&str> = spelled.iter().map(String::as_str).collect();
        let same = |name: &&&str| name.replace('-', "_") == *part;
        let known = names(&above).iter().find(same);
        spelled.push(known.map_or(*part, |name| name).to_owned());
    }
    spelled
}

/// Walks the types of a configuration along a path, as if it read a file with nothing else in it. What it finds at the
/// end comes back as the error that ends the reading.
struct Probe<'a> {
    path: &'a [&'a str],
}

#[derive(Debug)]
struct Found(Option<Entry>);

impl Probe<'_> {
    fn leaf<T>(&self, entry: Entry) -> Result<T, Found> {
        Err(Found(self.path.is_empty().then_some(entry)))
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Found;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Found> {
        match self.path {
            [] => Err(Found(Some(Entry::Table(fields)))),
            [name, below @ ..] => visitor.visit_map(One {
                name: Some(name),
                value: below,
            }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Found> {
        visitor.visit_some(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Found> {
        self.leaf(Entry::Word(variants))
    }

    fn deserialize_str<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Found> {
        self.leaf(Entry::Text)
    }

    fn deserialize_string<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Found> {
        self.leaf(Entry::Text)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Found> {
        self.leaf(Entry::Value)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

/// A table with one name in it.
struct One<'a> {
    name: Option<&'a str>,
    value: &'a [&'a str],
}

impl<'de> MapAccess<'de> for One<'_> {
    type Error = Found;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Found> {
        let name = self.name.take();
        let name = name.map(|name| -> StrDeserializer<'_, Found> { name.into_deserializer() });
        name.map(|name| seed.deserialize(name)).transpose()
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Found> {
        seed.deserialize(Probe { path: self.value })
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl std::error::Error for Found {}

/// A name that the type does not have.
impl de::Error for Found {
    fn custom<T: fmt::Display>(_message: T) -> Self {
        Self(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_sections_tables_and_keys_of_every_type() {
        let sections = ["data", "model", "training", "compress", "run"];
        assert!(matches!(at(&[]), Some(Entry::Table(names)) if *names == sections));
        assert!(matches!(
            at(&["data", "imdb"]),
            Some(Entry::Table(["length"]))
        ));
        assert!(matches!(
            at(&["model", "kind"]),
            Some(Entry::Word(["lru", ..]))
        ));
        assert_eq!(at(&["data", "dir"]), Some(Entry::Text));
        for path in [
            &["data", "selective-copy", "copies"][..],
            &["training", "lr"],
            &["compress", "start"],
            &["compress", "order_multiple"],
        ] {
            assert_eq!(at(path), Some(Entry::Value), "{path:?}");
        }
    }

    #[test]
    fn paths_that_lead_nowhere_are_known() {
        for path in [
            &["x"][..],
            &["data", "x"],
            &["data", "imdb", "x"],
            &["data", "dir", "x"],
            &["training", "lr", "x"],
            &["model", "kind", "lru"],
            &["compress", "start", "x"],
            &["data", "imdb", "length", "x"],
            &[""],
        ] {
            assert_eq!(at(path), None, "{path:?}");
        }
    }

    #[test]
    fn tables_are_found_by_a_key_and_by_a_name_without_dashes() {
        assert_eq!(tables_with("data", "length"), ["imdb", "selective-copy"]);
        assert!(tables_with("data", "dir").is_empty());
        assert!(tables_with("x", "length").is_empty());
        assert_eq!(
            with_dashes(&["data", "selective_copy", "train_examples"]),
            ["data", "selective-copy", "train_examples"]
        );
        assert_eq!(with_dashes(&["x", "y_z"]), ["x", "y_z"]);
    }
}
