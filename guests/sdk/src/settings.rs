//! From the sidecar's settings to a type.

use serde::Deserialize;
use serde::de::DeserializeOwned;

/// The settings of a plug-in that has none: any key is an error.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// Parses settings, and on failure names the key.
///
/// # Errors
/// When the text is not the JSON of an `S`.
pub fn parse<S: DeserializeOwned>(settings: &str) -> Result<S, Vec<String>> {
    let mut json = serde_json::Deserializer::from_str(settings);
    let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let key = error.path().to_string();
        let reason = without_position(&error.into_inner());
        if key == "." { reason } else { format!("{key}: {reason}") }
    });
    let whole = parsed.and_then(|settings| match json.end() {
        Ok(()) => Ok(settings),
        Err(error) => Err(error.to_string()),
    });
    whole.map_err(|fault| vec![fault])
}

/// The settings were YAML when a person wrote them: a line and column of the JSON would mislead.
fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Settings {
        tenants: Vec<Tenant>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only parsed")]
    struct Tenant {
        groups: Vec<String>,
    }

    /// Goal: a fault names its key. Method: one row a fault.
    #[test]
    fn a_fault_names_its_key() {
        check::<NoSettings>("{}", "ok");
        check::<NoSettings>(r#"{"a":1}"#, "a: unknown field `a`, there are no fields");
        check::<Settings>(r#"{"tenants":[{"groups":["a"]}]}"#, "ok");
        check::<Settings>(
            r#"{"tenants":[{"groups":[1]}]}"#,
            "tenants[0].groups[0]: invalid type: integer `1`, expected a string",
        );
        check::<Settings>(
            r#"{"tenants":[{"group":[]}]}"#,
            "tenants[0].group: unknown field `group`, expected `groups`",
        );
        check::<Settings>("{}", "missing field `tenants`");
        check::<Settings>(r#"{"tenants":[]} x"#, "trailing characters at line 1 column 16");
        check::<Settings>("[", "EOF while parsing a list");
    }

    #[track_caller]
    fn check<S: DeserializeOwned>(settings: &str, expected: &str) {
        let got = match parse::<S>(settings) {
            Ok(_) => "ok".to_owned(),
            Err(faults) => faults.join("; "),
        };
        assert_eq!(got, expected);
    }
}
