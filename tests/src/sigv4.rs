//! AWS's signature, version 4, checked by the book: written from AWS's documentation, with nothing of a library of AWS's in it.
//!
//! It is stricter than AWS: a query that is not in its one canonical form is refused, and so is a header that should be
//! signed and is not.

use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};

use crate::api_server::Request;

/// Who may sign: an access key.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// Its name.
    pub id: String,
    /// What it signs with.
    pub secret: String,
    /// What must come with it, where it is a temporary one.
    pub session_token: Option<String>,
}

/// Checks a call of STS that is signed in its headers.
///
/// # Errors
/// With what is wrong.
pub fn verify_call(request: &Request, key: &AccessKey, region: &str) -> Result<(), String> {
    let header = |name: &str| request.header(name).ok_or_else(|| format!("no header `{name}`"));
    let rest = header("authorization")?.strip_prefix("AWS4-HMAC-SHA256 ").ok_or("another algorithm")?;
    let fields: Vec<_> = rest.split(", ").map(|field| field.split_once('=').unwrap_or((field, ""))).collect();
    let [("Credential", credential), ("SignedHeaders", signed), ("Signature", signature)] = fields[..] else {
        return Err(format!("the header `authorization` has other fields: {rest}"));
    };
    let mut expected = vec!["content-type", "host", "x-amz-date"];
    expected.extend(key.session_token.is_some().then_some("x-amz-security-token"));
    same("signed headers", signed, &expected.join(";"))?;
    if let Some(token) = &key.session_token {
        same("session token", header("x-amz-security-token")?, token)?;
    }
    let mut headers = Vec::new();
    for name in expected {
        headers.push((name, header(name)?));
    }
    same("target", &request.target, "/")?;
    let date = header("x-amz-date")?;
    let canonical = canonical_request(&request.method, "", &headers, &hex(&Sha256::digest(&request.body.start)));
    check(&canonical, date, credential, signature, key, region)
}

/// Checks a presigned URL of STS's `GetCallerIdentity` for the cluster `cluster_id`, as EKS calls it.
///
/// # Errors
/// With what is wrong.
pub fn verify_presigned(url: &str, key: &AccessKey, region: &str, host: &str, cluster_id: &str) -> Result<(), String> {
    let query = url.strip_prefix(&format!("https://{host}/?")).ok_or("another host, or not https")?;
    let mut pairs = Vec::new();
    for pair in query.split('&') {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` has no value"))?;
        same("encoding", pair, &format!("{}={}", encode(&decode(name)?), encode(&decode(value)?)))?;
        pairs.push((name, value));
    }
    let mut expected = vec!["Action", "Version", "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires"];
    expected.extend(key.session_token.is_some().then_some("X-Amz-Security-Token"));
    expected.extend(["X-Amz-Signature", "X-Amz-SignedHeaders"]);
    pairs.sort_unstable();
    let names: Vec<_> = pairs.iter().map(|(name, _)| *name).collect();
    same("parameters", &names.join(" "), &expected.join(" "))?;
    let value = |name: &str| {
        let found = pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| decode(value));
        found.unwrap_or_else(|| Err(format!("no parameter `{name}`")))
    };
    for (name, expected) in [
        ("Action", "GetCallerIdentity"),
        ("Version", "2011-06-15"),
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
        ("X-Amz-Expires", "0"),
        ("X-Amz-SignedHeaders", "host;x-k8s-aws-id"),
    ] {
        same(name, &value(name)?, expected)?;
    }
    if let Some(token) = &key.session_token {
        same("session token", &value("X-Amz-Security-Token")?, token)?;
    }
    let signed: Vec<_> = pairs.iter().filter(|(name, _)| *name != "X-Amz-Signature").collect();
    let query = signed.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
    let headers = [("host", host), ("x-k8s-aws-id", cluster_id)];
    let canonical = canonical_request("GET", &query, &headers, &hex(&Sha256::digest(b"")));
    let (date, credential) = (value("X-Amz-Date")?, value("X-Amz-Credential")?);
    check(&canonical, &date, &credential, &value("X-Amz-Signature")?, key, region)
}

fn canonical_request(method: &str, query: &str, headers: &[(&str, &str)], payload: &str) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    format!("{method}\n/\n{query}\n{lines}\n{names}\n{payload}")
}

fn check(
    canonical: &str,
    date: &str,
    credential: &str,
    signature: &str,
    key: &AccessKey,
    region: &str,
) -> Result<(), String> {
    let day = date.split_once('T').ok_or("a date in another form")?.0;
    let scope = format!("{day}/{region}/sts/aws4_request");
    same("credential", credential, &format!("{}/{scope}", key.id))?;
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut signing = format!("AWS4{}", key.secret).into_bytes();
    for part in [day, region, "sts", "aws4_request"] {
        signing = mac(&signing, part);
    }
    same("signature", signature, &hex(&mac(&signing, &text)))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn same(what: &str, given: &str, expected: &str) -> Result<(), String> {
    if given == expected { Ok(()) } else { Err(format!("{what}: `{given}`, expected `{expected}`")) }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All but RFC 3986's unreserved characters.
fn encode(text: &str) -> String {
    let encoded = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encoded).collect()
}

fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(format!("`{text}` is badly encoded")) };
        bytes.extend(u8::try_from(high * 16 + low));
    }
    String::from_utf8(bytes).map_err(|_| format!("`{text}` is not UTF-8"))
}

/// The pairs of a form's body, or of a query, in their order.
///
/// # Errors
/// When one is badly encoded.
pub fn form(text: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` has no value"))?;
        Ok((decode(&name.replace('+', " "))?, decode(&value.replace('+', " "))?))
    };
    text.split('&').map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the check passes what AWS itself would, and nothing else. Method: a URL that botocore signed, and each part of
    /// it changed.
    #[test]
    fn a_url_of_botocores_passes_and_no_other() {
        let url = "https://sts.eu-west-1.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20240102%2Feu-west-1%2Fsts%2Faws4_request\
            &X-Amz-Date=20240102T030405Z&X-Amz-Expires=0&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id\
            &X-Amz-Signature=e8c49d1f341c514ea57f79f610672fcee0a0be53a51fa6cec115d5dc00bca654";
        let key = AccessKey {
            id: "AKIDEXAMPLE".into(),
            secret: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: None,
        };
        let verify = |url: &str| verify_presigned(url, &key, "eu-west-1", "sts.eu-west-1.amazonaws.com", "eks-id");
        assert_eq!(verify(url), Ok(()));
        for (from, to) in [
            ("https", "http"),
            ("sts.eu", "evil.eu"),
            ("GetCallerIdentity", "AssumeRole"),
            ("05Z", "06Z"),
            ("Expires=0", "Expires=60"),
            ("%2F", "/"),
            ("AKIDEXAMPLE", "AKIDOTHER"),
            ("eu-west-1%2F", "us-east-1%2F"),
            ("ca654", "ca655"),
            ("&Version", "&Extra=1&Version"),
            ("host%3Bx-k8s-aws-id", "host"),
        ] {
            assert!(url.contains(from) && verify(&url.replace(from, to)).is_err(), "{from}");
        }
        let other = AccessKey { secret: "other".into(), ..key.clone() };
        assert!(verify_presigned(url, &other, "eu-west-1", "sts.eu-west-1.amazonaws.com", "eks-id").is_err());
        assert!(verify_presigned(url, &key, "eu-west-1", "sts.eu-west-1.amazonaws.com", "other").is_err());
    }
}
