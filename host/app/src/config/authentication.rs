//! The `authentication` list: ways to find out who calls.
//!
//! What stands in a token file or a JWKS file is not read here: `crate::authentication` does that.

use super::listener;
use super::section::{Field, Section};
use super::suggestion::closest;
use super::url::{self, Query};
use super::{AuthenticationMethod, JwksSource, JwtConfig};

/// The methods of the list, without those that are problems.
pub(super) fn methods(list: &Field<'_>) -> Vec<AuthenticationMethod> {
    list.list().unwrap_or_default().iter().filter_map(method).collect()
}

fn method(item: &Field<'_>) -> Option<AuthenticationMethod> {
    let section = item.section()?;
    let mut keys = section.all();
    let (Some((name, _)), None) = (keys.next(), keys.next()) else {
        item.problem(format_args!("must have one key, the method; known are {}", METHODS.join(", ")));
        return None;
    };
    match name {
        "jwt" => jwt(&section.optional("jwt")?.section()?).map(AuthenticationMethod::Jwt),
        "tokenFile" => Some(AuthenticationMethod::TokenFile(section.optional("tokenFile")?.path()?.0)),
        "clientCertificate" => {
            // `- clientCertificate:` says all that there is to say.
            if let Some(field) = section.all().next().map(|(_, field)| field).filter(|field| !field.is_null()) {
                field.section()?.refuse_rest();
            }
            Some(AuthenticationMethod::ClientCertificate)
        }
        "anonymous" => anonymous(&section.optional("anonymous")?.section()?),
        unknown => {
            let shown: String = unknown.chars().take(64).flat_map(char::escape_debug).collect();
            match closest(unknown, &METHODS) {
                Some(meant) => item.problem(format_args!("unknown method `{shown}`; did you mean `{meant}`?")),
                None => item.problem(format_args!("unknown method `{shown}`; known are {}", METHODS.join(", "))),
            }
            None
        }
    }
}

fn jwt(section: &Section<'_>) -> Option<JwtConfig> {
    let issuer = section.required(
        "issuer",
        "the `iss` that a token must have; without it, any issuer whose keys are here could speak for another",
    );
    let issuer = issuer.and_then(|field| field.text()).map(|text| text.text);
    let audiences = section.required(
        "audiences",
        "the `aud` of which a token must have one; without it, a token made for another service would open this gate",
    );
    let audiences = audiences.and_then(|field| {
        let audiences = field.texts()?;
        if audiences.is_empty() {
            field.problem("is an empty list: a token made for another service would open this gate; name an audience");
            return None;
        }
        Some(audiences)
    });
    let file = section.optional("jwksFile");
    let url = section.optional("jwksUrl");
    let keys = match (file, url) {
        (Some(_), Some(url)) => {
            url.problem("`jwksFile` and `jwksUrl` are both given; give one");
            None
        }
        (None, None) => {
            if !section.has("jwksFile") && !section.has("jwksUrl") {
                section.field.problem("`jwksFile` or `jwksUrl` is missing: where the keys are that sign the tokens");
            }
            None
        }
        (Some(file), None) => listener::read(&file, |_| Ok(())).map(|(path, ())| JwksSource::File(path)),
        (None, Some(url)) => jwks_url(&url).map(JwksSource::Url),
    };
    let claim = |key: &'static str, default: &str| {
        let given = section.optional(key).map(|field| field.text().map(|text| text.text));
        given.unwrap_or_else(|| Some(default.to_owned()))
    };
    let (username_claim, groups_claim) = (claim("usernameClaim", "sub"), claim("groupsClaim", "ent"));
    section.refuse_rest();
    Some(JwtConfig {
        issuer: Some(issuer?),
        audiences: audiences?,
        keys: keys?,
        username_claim: username_claim?,
        groups_claim: groups_claim?,
    })
}

fn jwks_url(field: &Field<'_>) -> Option<String> {
    match url::check(&field.text()?, Query::Allowed) {
        Ok(checked) => {
            if checked.in_clear {
                field.note("plain `http`: who stands between can replace the keys and be anyone; use `https`");
            }
            Some(checked.url)
        }
        Err(why) => {
            field.problem(why);
            None
        }
    }
}

fn anonymous(section: &Section<'_>) -> Option<AuthenticationMethod> {
    let user = section.required("user", "the name that every caller without credentials gets");
    let user = user.and_then(|field| field.text()).map(|text| text.text);
    let groups = section.optional("groups").map_or(Some(Vec::new()), |field| field.texts());
    section.refuse_rest();
    Some(AuthenticationMethod::Anonymous { user: user?, groups: groups? })
}

/// The methods that we know.
const METHODS: [&str; 4] = ["jwt", "tokenFile", "clientCertificate", "anonymous"];
