//! An answer in two forms: text for a person, JSON for a program.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a command gives.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// For a person; empty when there is nothing to say.
    pub text: String,
    /// For a program.
    pub json: Value,
}

impl Answer {
    /// Done, with nothing to tell.
    pub fn done() -> Answer {
        Answer { text: String::new(), json: Value::Object(serde_json::Map::new()) }
    }

    /// The same facts in both forms.
    pub fn new(text: impl Into<String>, json: impl Serialize) -> Result<Answer, String> {
        let json = serde_json::to_value(json).map_err(|error| error.to_string())?;
        Ok(Answer { text: text.into(), json })
    }
}
