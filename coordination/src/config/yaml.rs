//! Reads YAML, in which little text can say much: an alias stands for all that its anchor has.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde_norway::Deserializer as Yaml;
use switchboard_resolver::Cause;

use super::error::Unquoted;

/// How much aliases may stand for, in values and bytes of text. Without a limit, a hundred kilobytes are
/// more than any memory has room for; `serde_norway` counts aliases, and not what they stand for.
const MOST_BY_ALIASES: usize = 1 << 20;

pub(super) fn read<T: DeserializeOwned>(value: &[u8]) -> Result<T, Cause> {
    // Written out, a value and its text are no more than twice as much as what they are written in.
    let most = value.len().saturating_mul(2) + MOST_BY_ALIASES;
    let mut left = most;
    let measured = Measure(&mut left).deserialize(Yaml::from_slice(value));
    match measured {
        Err(error) if left == 0 => Err(Unquoted::cause(error)),
        // What else is wrong with it depends on what it is read as.
        _ => serde_norway::from_slice(value).map_err(Unquoted::cause),
    }
}

/// Reads everything and keeps nothing, until there was too much of it.
struct Measure<'a>(&'a mut usize);

impl Measure<'_> {
    fn take<E: Error>(&mut self, amount: usize) -> Result<(), E> {
        *self.0 = self.0.saturating_sub(amount);
        match self.0 {
            0 => Err(E::custom("aliases stand for too much")),
            _ => Ok(()),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Measure<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(mut self, deserializer: D) -> Result<(), D::Error> {
        self.take(1)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Measure<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.take(text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        while values.next_element_seed(Measure(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        while fields.next_key_seed(Measure(self.0))?.is_some() {
            fields.next_value_seed(Measure(self.0))?;
        }
        Ok(())
    }

    /// What has a tag.
    fn visit_enum<A: EnumAccess<'de>>(self, value: A) -> Result<(), A::Error> {
        let ((), value) = value.variant_seed(Measure(self.0))?;
        value.newtype_variant_seed(Measure(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn aliases_stand_for_what_their_anchors_have() {
        let read: Value = read(b"a: &a [1, two]\nb: [*a, *a, 'a\\n']\nc: {}\n").unwrap();
        let a = json!([1, "two"]);
        assert_eq!(read, json!({"a": a, "b": [a, a, "a\\n"], "c": {}}));
    }

    #[test]
    fn aliases_that_stand_for_too_much_are_refused() {
        let number = 3_000;
        for one in ["1,".repeat(number), format!("{:01$}", 0, number)] {
            let all = "*a,".repeat(number);
            for (anchor, alias) in [("", ""), ("!tag ", "!other ")] {
                let text = format!("a: &a {anchor}[{one}]\nb: {alias}[{all}]\n");
                let read = read::<Value>(text.as_bytes()).map(drop);
                let error = read.unwrap_err().to_string();
                assert!(error.contains("aliases stand for too much"), "{error}");
            }
        }
    }

    #[test]
    fn what_has_no_aliases_is_as_large_as_it_is() {
        for (one, number) in [("- ''\n", 300_000), ("- {a}\n", 200_000)] {
            assert!(
                read::<Value>(one.repeat(number).as_bytes()).is_ok(),
                "{one}"
            );
        }
    }
}
