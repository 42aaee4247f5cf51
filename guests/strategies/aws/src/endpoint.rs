//! Where STS is, and of which region its signatures are.

/// STS of one region.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct Endpoint {
    /// For the signature.
    pub(crate) region: String,
    /// `https://HOST[:PORT]/`.
    pub(crate) url: String,
}

impl Endpoint {
    /// STS of `region`, at `given` or at its public address.
    ///
    /// # Errors
    /// With what is wrong, for operators.
    pub(crate) fn new(region: &str, given: Option<&str>) -> Result<Self, String> {
        let is_region = (1..=64).contains(&region.len())
            && region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if !is_region {
            return Err(format!("`region` is `{}`: expected one such as `eu-west-1`", region.escape_debug()));
        }
        let url = match given {
            Some(text) => {
                let origin = text.strip_suffix('/').unwrap_or(text);
                if !is_origin(origin) {
                    let text = text.escape_debug();
                    return Err(format!("`stsEndpoint` is `{text}`: expected `https://HOST[:PORT]`"));
                }
                format!("{origin}/")
            }
            // The partition of China has its own domain. The others that do are not public: `stsEndpoint` names them.
            None if region.starts_with("cn-") => format!("https://sts.{region}.amazonaws.com.cn/"),
            None => format!("https://sts.{region}.amazonaws.com/"),
        };
        Ok(Self { region: region.to_owned(), url })
    }

    /// `HOST[:PORT]`, as the header `host` has it.
    pub(crate) fn authority(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        rest.strip_suffix('/').unwrap_or(rest)
    }
}

/// Only over TLS: what comes back from it are secret keys.
fn is_origin(text: &str) -> bool {
    text.strip_prefix("https://").is_some_and(|authority| {
        !authority.is_empty()
            && authority
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a region has its STS, and a wrong one is named. Method: rows.
    #[test]
    fn a_region_has_its_sts() {
        check("eu-west-1", None, Ok("https://sts.eu-west-1.amazonaws.com/"));
        check("us-gov-west-1", None, Ok("https://sts.us-gov-west-1.amazonaws.com/"));
        check("cn-north-1", None, Ok("https://sts.cn-north-1.amazonaws.com.cn/"));
        check(
            "us-iso-east-1",
            Some("https://sts.us-iso-east-1.c2s.ic.gov"),
            Ok("https://sts.us-iso-east-1.c2s.ic.gov/"),
        );
        check("us-east-1", Some("https://127.0.0.1:8443/"), Ok("https://127.0.0.1:8443/"));
        for region in ["", "eu west", "eu-west-1/", "EU-WEST-1", "evil.example/#"] {
            check(region, None, Err(&format!("`region` is `{region}`: expected one such as `eu-west-1`")));
        }
        for wrong in ["http://sts.example", "sts.example", "https://", "https://a/b", "https://a?b", "https://u@a", ""]
        {
            check(
                "us-east-1",
                Some(wrong),
                Err(&format!("`stsEndpoint` is `{wrong}`: expected `https://HOST[:PORT]`")),
            );
        }
    }

    #[track_caller]
    fn check(region: &str, given: Option<&str>, expected: Result<&str, &str>) {
        let endpoint = Endpoint::new(region, given);
        assert_eq!(endpoint.as_ref().map(|endpoint| endpoint.url.as_str()).map_err(String::as_str), expected);
        if let Ok(endpoint) = endpoint {
            assert_eq!(format!("https://{}/", endpoint.authority()), endpoint.url);
        }
    }
}
