//! Which Concierge a cluster has, by the plug-in's settings and the cluster's metadata.
//!
//! Metadata goes before settings, and settings before what Pinniped's own installation has. Nothing here sends anything.

use serde::{Deserialize, Serialize};
use witgate_sdk::Metadata;

/// What holds for all clusters that do not say otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub(crate) struct Settings {
    /// The end of the API groups, where Pinniped was installed with its own.
    api_group_suffix: Option<String>,
    /// Who verifies the tokens.
    authenticator: AuthenticatorSettings,
}

/// An authenticator, as far as it is said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct AuthenticatorSettings {
    api_group: Option<String>,
    kind: Option<String>,
    name: Option<String>,
}

/// A cluster's Concierge.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Concierge {
    group_suffix: String,
    /// Which of its authenticators verifies the token.
    pub(crate) authenticator: Authenticator,
}

/// The object that verifies a token, as a TokenCredentialRequest names it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Authenticator {
    api_group: String,
    kind: String,
    name: String,
}

impl Settings {
    /// What is wrong with them, by their keys.
    pub(crate) fn faults(&self) -> Vec<String> {
        let AuthenticatorSettings { api_group, kind, name } = &self.authenticator;
        let given = [
            ("apiGroupSuffix", &self.api_group_suffix, Form::Domain),
            ("authenticator.apiGroup", api_group, Form::Domain),
            ("authenticator.kind", kind, Form::Kind),
            ("authenticator.name", name, Form::Domain),
        ];
        let given = given.into_iter().filter_map(|(key, text, form)| Some((key, text.as_deref()?, form)));
        given.filter_map(|(key, text, form)| form.fault(key, text)).collect()
    }
}

impl Concierge {
    /// The Concierge of a cluster with this metadata, or all that is wrong with it.
    pub(crate) fn of(settings: &Settings, auth_metadata: &Metadata) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        for (key, text) in auth_metadata.iter().filter(|(key, _)| key.starts_with(PREFIX)) {
            let fault = match KEYS.iter().find(|(known, _)| known == key) {
                Some((_, form)) => form.fault(key, text),
                None => {
                    let known: Vec<_> = KEYS.iter().map(|(key, _)| format!("`{key}`")).collect();
                    Some(format!("`{key}` is not known; there are {}", known.join(", ")))
                }
            };
            faults.extend(fault);
        }
        let AuthenticatorSettings { api_group, kind, name } = &settings.authenticator;
        let said =
            |key: &str, setting: &Option<String>| value(auth_metadata, key).map(str::to_owned).or(setting.clone());
        let group_suffix = said(GROUP_SUFFIX, &settings.api_group_suffix).unwrap_or_else(|| "pinniped.dev".to_owned());
        let api_group =
            said(API_GROUP, api_group).unwrap_or_else(|| format!("authentication.concierge.{group_suffix}"));
        let kind = said(KIND, kind).unwrap_or_else(|| DEFAULT_KIND.to_owned());
        let name = said(NAME, name).or_else(|| (kind == DEFAULT_KIND).then(|| DEFAULT_NAME.to_owned()));
        let Some(name) = name else {
            faults.push(format!(
                "Must specify `{NAME}` for 'pinniped' strategy: which {kind} of the cluster verifies the tokens"
            ));
            return Err(faults);
        };
        let authenticator = Authenticator { api_group, kind, name };
        if faults.is_empty() { Ok(Self { group_suffix, authenticator }) } else { Err(faults) }
    }

    /// The API version of its requests for credentials.
    pub(crate) fn api_version(&self) -> String {
        format!("login.concierge.{}/v1alpha1", self.group_suffix)
    }

    /// Where they are sent to.
    pub(crate) fn path(&self) -> String {
        format!("/apis/{}/tokencredentialrequests", self.api_version())
    }
}

/// A value of the metadata; an empty one counts as none.
pub(crate) fn value<'a>(auth_metadata: &'a Metadata, key: &str) -> Option<&'a str> {
    let (_, value) = auth_metadata.iter().find(|(known, _)| known == key)?;
    Some(value.as_str()).filter(|value| !value.is_empty())
}

/// What a text must look like, as it becomes part of a path or names an object.
#[derive(Clone, Copy)]
enum Form {
    /// Anything that a header's name can carry on.
    Audience,
    /// A DNS subdomain, as groups and objects are named.
    Domain,
    /// A kind.
    Kind,
}

impl Form {
    fn fault(self, key: &str, text: &str) -> Option<String> {
        let is_label = |label: &str| {
            let inner = label.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
        };
        let (good, expected) = match self {
            Self::Audience => {
                // What an HTTP header's name may hold.
                let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
                (
                    !text.is_empty() && text.bytes().all(is_token),
                    "a name that a header's name can end with, such as `audience1`",
                )
            }
            Self::Domain => (
                text.len() <= 253 && text.split('.').all(is_label),
                "lower-case letters, digits, `-` and `.`, such as `pinniped.dev`",
            ),
            Self::Kind => (
                text.starts_with(|first: char| first.is_ascii_uppercase())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric()),
                "a kind such as `JWTAuthenticator`",
            ),
        };
        (!good).then(|| format!("`{key}` is \"{}\"; it must be {expected}", text.chars().take(64).collect::<String>()))
    }
}

/// Whose tokens the cluster takes; clients see it.
pub(crate) const AUDIENCE: &str = "kubernetes.io/x-pinniped-audience";
const PREFIX: &str = "kubernetes.io/x-pinniped-";
const GROUP_SUFFIX: &str = "kubernetes.io/x-pinniped-api-group-suffix";
const API_GROUP: &str = "kubernetes.io/x-pinniped-authenticator-api-group";
const KIND: &str = "kubernetes.io/x-pinniped-authenticator-kind";
const NAME: &str = "kubernetes.io/x-pinniped-authenticator-name";

const KEYS: [(&str, Form); 5] = [
    (AUDIENCE, Form::Audience),
    (GROUP_SUFFIX, Form::Domain),
    (API_GROUP, Form::Domain),
    (KIND, Form::Kind),
    (NAME, Form::Domain),
];

const DEFAULT_KIND: &str = "JWTAuthenticator";
/// What Pinniped's documentation, and Backstage's, call the one that trusts the Supervisor.
const DEFAULT_NAME: &str = "supervisor";
