//! `WWW-Authenticate`, as far as registries use it.

/// How a registry wants to be asked.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Challenge {
    /// With user and password.
    Basic,
    /// With a token, which `realm` gives out.
    Bearer {
        /// A URL.
        realm: String,
        /// What the token is for.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads one challenge; None where it is of another scheme, or says no realm for tokens.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let value = value.trim_start();
        let (scheme, rest) = value.split_once(' ').unwrap_or((value, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                _ => {}
            }
        }
        realm.map(|realm| Self::Bearer { realm, service })
    }
}

/// `name=value` and `name="value"`, with commas between; what comes after a mistake is not read.
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while found.len() < PARAMETERS_MAX {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let Some((name, after)) = rest.split_once('=') else { break };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => match unquoted(quoted) {
                Some(read) => read,
                None => break,
            },
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                let (value, after) = after.split_at(end);
                (value.to_owned(), after)
            }
        };
        found.push((name.trim().to_owned(), value));
        rest = after;
    }
    found
}

/// The text to the closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return Some((value, text.get(index + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            _ => value.push(character),
        }
    }
    None
}

/// A challenge has three or four.
const PARAMETERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what registries write is read, and nonsense is nothing. Method: rows.
    #[test]
    fn challenges_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        check(r#"Bearer realm="https://t/x",service="r",scope="a,b""#, bearer("https://t/x", Some("r")));
        check(r#"bearer  Realm="https://t/x" , error="a\"b", service=r"#, bearer("https://t/x", Some("r")));
        check(r#"Bearer realm=https://t/x"#, bearer("https://t/x", None));
        check("Basic realm=\"r\"", Some(Challenge::Basic));
        check("basic", Some(Challenge::Basic));
        check("Bearer", None);
        check("Bearer service=\"r\"", None);
        check("Bearer realm=\"https://t", None);
        check("Negotiate x", None);
        check("", None);
        check(&format!("Bearer {}realm=x", "a=b,".repeat(20)), None);
    }

    #[track_caller]
    fn check(value: &str, expected: Option<Challenge>) {
        assert_eq!(Challenge::parse(value), expected, "{value}");
    }
}
