//! `${VAR}`, `$env` and `$file`: what a value says that stands elsewhere, as Backstage reads it.
//!
//! `${VAR}` is the variable, `${VAR:-default}` the default where it is unset or
//! empty, `$${VAR}` the text `${VAR}`. `$env: NAME` is a variable, `$file: path` a
//! file's text without the white space at its end. Unlike Backstage, which drops the
//! key, a variable that is not set is a problem: a forgotten one must not change what
//! a configuration means.

use std::path::{Path, PathBuf};

use super::files;

/// Looks up a variable of the environment.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Text with its variables filled in.
pub(super) struct Filled {
    pub(super) text: String,
    /// Whether any of it came from a variable.
    pub(super) changed: bool,
}

/// Fills in the variables of `raw`.
///
/// # Errors
/// With what is wrong, naming the variable and never a value.
pub(super) fn fill(raw: &str, environment: Environment<'_>) -> Result<Filled, String> {
    let mut text = String::with_capacity(raw.len());
    let mut changed = false;
    let mut rest = raw;
    while let Some((before, expression, after)) = next_expression(rest) {
        rest = after;
        if let Some(before) = before.strip_suffix('$') {
            text.push_str(before);
            text.push_str("${");
            text.push_str(expression);
            text.push('}');
        } else {
            text.push_str(before);
            text.push_str(&variable(expression, environment)?);
            changed = true;
        }
    }
    text.push_str(rest);
    Ok(Filled { text, changed })
}

/// The variable `name`, without the white space around it.
///
/// # Errors
/// When it is not set.
pub(super) fn variable_named(name: &str, environment: Environment<'_>) -> Result<String, String> {
    environment(name)
        .map(|value| value.trim().to_owned())
        .ok_or_else(|| format!("the environment variable `{}` is not set", name.escape_debug()))
}

/// The text of a file, without the white space at its end, and its path.
///
/// # Errors
/// When it cannot be read, is too large or is not UTF-8.
pub(super) fn file_text(path: PathBuf, as_written: &Path) -> Result<(String, PathBuf), String> {
    let bytes = files::read(&path).map_err(|why| files::about(as_written, &why))?;
    let text = String::from_utf8(bytes).map_err(|_| files::about(as_written, "is not UTF-8 text"))?;
    Ok((text.trim_end().to_owned(), path))
}

/// The text before the first `${…}`, what stands between its braces, and the text after it.
fn next_expression(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let start = from + text.get(from..)?.find("${")?;
        let inside = text.get(start + 2..)?;
        let end = inside.find(['{', '}'])?;
        let (expression, after) = inside.split_at_checked(end)?;
        match after.strip_prefix('}') {
            Some(after) => return Some((text.get(..start)?, expression, after)),
            None => from = start + 2, // `${a{`: not an expression, as in Backstage
        }
    }
}

fn variable(expression: &str, environment: Environment<'_>) -> Result<String, String> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name.trim(), Some(default)),
        None => (expression.trim(), None),
    };
    if name.is_empty() {
        return Err("`${}` names no environment variable".to_owned());
    }
    match default {
        Some(default) => Ok(variable_named(name, environment)
            .ok()
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| default.to_owned())),
        None => variable_named(name, environment).map_err(|why| {
            format!("{why}; set it, write `${{{0}:-default}}`, or `$${{{0}}}` for the text itself", name.escape_debug())
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: variables are filled in as Backstage does it. Method: rows of raw text and result.
    #[test]
    fn variables_are_filled_in() {
        check("plain", "plain");
        check("${HOST}", "api.example");
        check("https://${HOST}:${PORT}/x", "https://api.example:6443/x");
        check("${ HOST }", "api.example");
        check("${SPACED}", "a b");
        check("$${HOST}", "${HOST}");
        check("a$${HOST}b${PORT}", "a${HOST}b6443");
        check("${NONE:-https://${PORT}", "${NONE:-https://6443");
        check("${NONE:-x:y}", "x:y");
        check("${EMPTY:-full}", "full");
        check("${HOST:-other}", "api.example");
        check("${NONE:-}", "");
        check("$HOST $ { } ${", "$HOST $ { } ${");
        check("${EMPTY}", "");
        check("ä${PORT}ö", "ä6443ö");
        check(
            "${NONE}",
            "error: the environment variable `NONE` is not set; set it, write `${NONE:-default}`, or `$${NONE}` for the text itself",
        );
        check("${}", "error: `${}` names no environment variable");
        check("${:-x}", "error: `${}` names no environment variable");
    }

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        let environment = |name: &str| match name {
            "HOST" => Some("api.example".to_owned()),
            "PORT" => Some("6443".to_owned()),
            "SPACED" => Some(" a b\n".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let got = fill(raw, &environment).map_or_else(|why| format!("error: {why}"), |filled| filled.text);
        assert_eq!(got, expected);
    }
}
