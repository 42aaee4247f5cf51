//! AWS's signature, version 4, in its two forms: in a request's headers, and in a URL that somebody else will call.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials as SigningKeys;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningInstructions, SigningSettings};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use witgate_sdk::AuthError;
use witgate_sdk::http::Request;

use crate::endpoint::Endpoint;
use crate::identity::Credentials;

/// The URL that tells STS's answer to "who is it that signed this?", for the API server of the cluster `id`.
pub(crate) fn presign(endpoint: &Endpoint, credentials: &Credentials, id: &str, now: u64) -> Result<String, AuthError> {
    let url = format!("{}?Action=GetCallerIdentity&Version=2011-06-15", endpoint.url);
    let headers = [("host", endpoint.authority()), ("x-k8s-aws-id", id)];
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    // As Backstage does it: whoever checks the token goes by its date.
    settings.expires_in = Some(Duration::ZERO);
    let request = ("GET", url.as_str(), &headers[..], &b""[..]);
    let (_, parameters) = sign(request, settings, endpoint, credentials, now)?.into_parts();
    let encoded = |text: &str| utf8_percent_encode(text, RESERVED).to_string();
    let parameters = parameters.iter().map(|(name, value)| format!("&{}={}", encoded(name), encoded(value)));
    Ok(url.clone() + &parameters.collect::<String>())
}

/// EKS's form of such a URL.
pub(crate) fn token(url: &str) -> String {
    format!("k8s-aws-v1.{}", URL_SAFE_NO_PAD.encode(url))
}

/// A call of STS with this form, signed.
pub(crate) fn signed_post(
    endpoint: &Endpoint,
    credentials: &Credentials,
    form: String,
    now: u64,
) -> Result<Request, AuthError> {
    let headers = [("host", endpoint.authority()), ("content-type", FORM)];
    let request = ("POST", endpoint.url.as_str(), &headers[..], form.as_bytes());
    let (headers, _) = sign(request, SigningSettings::default(), endpoint, credentials, now)?.into_parts();
    // `host` is the host's to send; it sends what was signed.
    let unsigned = Request::post(&endpoint.url).header("content-type", FORM);
    let signed = headers.iter().fold(unsigned, |request, header| request.header(header.name(), header.value()));
    Ok(signed.body(form))
}

fn sign(
    (method, url, headers, body): (&str, &str, &[(&str, &str)], &[u8]),
    settings: SigningSettings,
    endpoint: &Endpoint,
    credentials: &Credentials,
    now: u64,
) -> Result<SigningInstructions, AuthError> {
    // The library's errors could repeat what it was given.
    let failed = || AuthError::Misconfigured("the request to AWS STS cannot be signed".to_owned());
    let Credentials { access_key_id, secret_access_key, session_token, expires_at: _ } = credentials;
    let keys = SigningKeys::new(access_key_id, secret_access_key, session_token.clone(), None, "sidecar").into();
    let params = SigningParams::builder()
        .identity(&keys)
        .region(&endpoint.region)
        .name("sts")
        .time(SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(now)).ok_or_else(failed)?)
        .settings(settings)
        .build()
        .map_err(|_| failed())?
        .into();
    let request = SignableRequest::new(method, url, headers.iter().copied(), SignableBody::Bytes(body));
    let signed = aws_sigv4::http_request::sign(request.map_err(|_| failed())?, &params).map_err(|_| failed())?;
    Ok(signed.into_parts().0)
}

/// All but RFC 3986's unreserved characters, as the signature counts them.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// How STS wants its parameters.
pub(crate) const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(session_token: Option<&str>) -> Credentials {
        Credentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".into(),
            session_token: session_token.map(Into::into),
            expires_at: None,
        }
    }

    /// Goal: a URL is signed as AWS's own clients sign it. Method: signatures that botocore's `SigV4QueryAuth` made of the
    /// same request at 2024-01-02T03:04:05Z, with and without a session token.
    #[test]
    fn a_url_is_signed_as_botocore_signs_it() {
        let plain = "e8c49d1f341c514ea57f79f610672fcee0a0be53a51fa6cec115d5dc00bca654";
        check("eu-west-1", "eks-id", None, &format!("&X-Amz-Signature={plain}"));
        let odd = "092b5e8b9ad65baa44ca017b7169c57bb91502316e1e26d4394f7228b4b1469e";
        check("us-east-1", "my_cluster/x", None, &format!("&X-Amz-Signature={odd}"));
        let session = "855597adffc104681a7e528e23c347ef8f1d6a6da581b625fc7854371ea20f06";
        let end = format!("&X-Amz-Signature={session}&X-Amz-Security-Token=FwoG%2Ftoken%2Bwith%3Dsigns");
        check("eu-west-1", "eks-id", Some("FwoG/token+with=signs"), &end);
    }

    #[track_caller]
    fn check(region: &str, id: &str, session_token: Option<&str>, end: &str) {
        let endpoint = Endpoint::new(region, None).unwrap();
        let url = presign(&endpoint, &keys(session_token), id, NOW).unwrap();
        let expected = format!(
            "https://sts.{region}.amazonaws.com/?Action=GetCallerIdentity&Version=2011-06-15\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20240102%2F{region}%2Fsts%2Faws4_request\
             &X-Amz-Date=20240102T030405Z&X-Amz-Expires=0&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id{end}"
        );
        assert_eq!(url, expected);
    }

    /// Goal: a call is signed as AWS's own clients sign it. Method: signatures that botocore's `SigV4Auth` made.
    #[test]
    fn a_call_is_signed_as_botocore_signs_it() {
        let names = "content-type;host;x-amz-date";
        let plain = "fac2eaa6dbe74443e27c720db535cd2f42c106b6a152e478e0f79878a979ea9d";
        check_post(None, names, plain);
        let session = "989bbf3b251ba821cb3bcc7af88b57ef07ada108fd3a8eee1517521d057c938e";
        check_post(Some("FwoG/token+with=signs"), &format!("{names};x-amz-security-token"), session);
    }

    #[track_caller]
    fn check_post(session_token: Option<&str>, names: &str, signature: &str) {
        let endpoint = Endpoint::new("eu-west-1", None).unwrap();
        let form = "Action=AssumeRole&Version=2011-06-15";
        let request = signed_post(&endpoint, &keys(session_token), form.into(), NOW).unwrap();
        let header = |name: &str| {
            let found = request.headers().iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.as_str())
        };
        let expected = format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20240102/eu-west-1/sts/aws4_request, \
             SignedHeaders={names}, Signature={signature}"
        );
        assert_eq!(header("authorization"), Some(expected.as_str()));
        assert_eq!((header("x-amz-date"), header("x-amz-security-token")), (Some("20240102T030405Z"), session_token));
        assert_eq!((request.url(), request.body_bytes()), ("https://sts.eu-west-1.amazonaws.com/", form.as_bytes()));
    }

    const NOW: u64 = 1_704_164_645;
}
