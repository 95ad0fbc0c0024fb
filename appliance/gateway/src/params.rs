//! The parameters of a request, one by one: each is taken, within bounds, or refused by its name.

use serde_json::{Map, Value};

use crate::errors::ApiError;

/// The object's members that were not looked at yet. `null` is the same as absent, as OpenAI has it.
pub struct Params(pub Map<String, Value>);

impl Params {
    /// One of them, which is not there any more after that.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name).filter(|value| !value.is_null())
    }

    /// True or false; false where it is absent.
    pub fn flag(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(wrong_type(name, "true or false")),
        }
    }

    /// A number from `least` to `most`.
    pub fn number(&mut self, name: &str, least: f64, most: f64) -> Result<Option<f64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        let Some(number) = value.as_f64() else {
            return Err(wrong_type(name, "a number"));
        };
        if !(least..=most).contains(&number) {
            return Err(out_of_range(name, &format!("from {least} to {most}")));
        }
        Ok(Some(number))
    }

    /// A whole number from `least` to `most`.
    pub fn count(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match value.as_u64() {
            Some(count) if (least..=most).contains(&count) => Ok(Some(count)),
            None if !value.is_number() => Err(wrong_type(name, "a whole number")),
            _ => Err(out_of_range(
                name,
                &format!("a whole number from {least} to {most}"),
            )),
        }
    }
}

/// The value of `param` is of the wrong type.
pub fn wrong_type(param: &str, expected: &str) -> ApiError {
    ApiError::param(param, "invalid_type", format!("`{param}` must be {expected}."))
}

/// The value of `param` is out of its range.
pub fn out_of_range(param: &str, range: &str) -> ApiError {
    ApiError::param(param, "invalid_value", format!("`{param}` must be {range}."))
}

/// `param`, or this value of it, is something the appliance does not do.
pub fn unsupported(param: &str, why: &str) -> ApiError {
    ApiError::param(
        param,
        "unsupported_parameter",
        format!("`{param}` is not supported{why}."),
    )
}

/// `param` has to be there.
pub fn missing(param: &str) -> ApiError {
    ApiError::param(
        param,
        "missing_required_parameter",
        format!("`{param}` is required."),
    )
}
