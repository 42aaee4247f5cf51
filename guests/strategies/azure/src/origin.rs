//! What may stand before a path.

/// Which schemes will do.
#[derive(Clone, Copy)]
pub(crate) enum Scheme {
    Https,
    Any,
}

/// Whether `text` is a scheme, a host and perhaps a port, and nothing else.
pub(crate) fn is_origin(text: &str, scheme: Scheme) -> bool {
    let authority = match scheme {
        Scheme::Https => text.strip_prefix("https://"),
        Scheme::Any => text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")),
    };
    authority.is_some_and(|authority| {
        !authority.is_empty()
            && authority
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.:[]".contains(&byte))
    })
}
