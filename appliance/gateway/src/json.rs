//! JSON from strangers: strict, bounded, with an error a client understands.
//!
//! serde_json already refuses what JSON lacks (NaN, Infinity, lone surrogates, comments) and nesting deeper than
//! 128. Here a name that comes twice in an object is refused too: two readers could see two different requests.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::errors::ApiError;

/// Parses a request body that must be one JSON object.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    let wrong = |message: String| ApiError::new(axum::http::StatusCode::BAD_REQUEST, "invalid_json", message);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        wrong(format!(
            "The body is not UTF-8: byte {} is not part of any character.",
            error.valid_up_to()
        ))
    })?;
    match serde_json::from_str::<Strict>(text) {
        Ok(Strict(Value::Object(map))) => Ok(map),
        Ok(_) => Err(wrong("The body must be a JSON object.".to_owned())),
        Err(error) => {
            let mut message = format!("The body is not valid JSON: {error}.");
            let reason = error.to_string();
            if reason.contains("hex escape") || reason.contains("surrogate") {
                message.push_str(" A lone surrogate is not a character.");
            } else if (reason.contains("expected value") || reason.contains("invalid number"))
                && (text.contains("NaN") || text.contains("Infinity"))
            {
                message.push_str(" JSON has no NaN and no Infinity.");
            }
            Err(wrong(message))
        }
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                let short: String = key.chars().take(64).collect();
                return Err(de::Error::custom(format_args!("the name {short:?} comes twice")));
            }
            let Strict(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(bytes: impl AsRef<[u8]>) -> String {
        let error = object(bytes.as_ref()).unwrap_err();
        assert_eq!((error.status.as_u16(), error.code), (400, "invalid_json"));
        error.message
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_reason() {
        assert!(refused(r#"{"temperature": NaN}"#).contains("no NaN"));
        assert!(refused(r#"{"temperature": -Infinity}"#).contains("no Infinity"));
        assert!(refused(r#"{"temperature": 1e999}"#).contains("out of range"));
        assert!(refused(r#"{"a": "\ud800"}"#).contains("lone surrogate"));
        assert!(refused(r#"{"a": "\udc00"}"#).contains("lone surrogate"));
        assert!(refused(r#"{"a": "\ud800\u0041"}"#).contains("lone surrogate"));
        assert!(refused(b"{\"a\": \"\xff\"}").contains("not UTF-8"));
        assert!(refused(b"{\"a\": \"\xed\xa0\x80\"}").contains("not UTF-8"));
        assert!(refused(r#"{"a": 1, "a": 2}"#).contains("comes twice"));
        assert!(refused(r#"{"a": {"b": 1, "b": 2}}"#).contains("comes twice"));
        assert!(refused("[1]").contains("object"));
        for text in [
            "",
            "{",
            "nul",
            "{}{}",
            "{'a': 1}",
            "{\"a\": 1,}",
            "\u{feff}{}",
            "// no\n{}",
        ] {
            refused(text);
        }
    }

    #[test]
    fn deep_nesting_is_refused_and_not_followed() {
        for deep in ["[".repeat(1 << 20), "{\"a\":".repeat(1 << 18)] {
            assert!(refused(format!("{{\"a\":{deep}")).contains("recursion"));
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_serde_json_where_no_name_repeats(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let plain = serde_json::from_slice::<Map<String, Value>>(&bytes).ok();
            prop_assert!(object(&bytes).ok() == plain || plain.is_some());
        }

        #[test]
        fn what_serde_json_writes_is_read_back(text in any::<String>(), number in any::<f64>()) {
            let mut map = Map::new();
            map.insert(text.clone(), serde_json::json!([text, number, null, true, {"x": [1, -2]}]));
            let bytes = serde_json::to_vec(&map).unwrap();
            let back: Map<String, Value> = serde_json::from_slice(&bytes).unwrap();
            prop_assert_eq!(object(&bytes).unwrap(), back);
        }
    }
}
