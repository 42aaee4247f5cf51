//! `GET /`: the console, one page with its style and script in it.
//!
//! It knows nothing that the other routes do not tell, and asks them as any tool would. What it shows of requests is text that
//! somebody chose: the script makes text nodes and nothing else, and the page's own rules hold it to that. They name the
//! one style and the one script by their hashes, let it talk to this listener alone, and let no string become HTML or a script.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY, X_FRAME_OPTIONS};
use http::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::body::{self, Body};

/// The page.
pub(super) fn page() -> Response<Body> {
    let Page { html, rules } = &*PAGE;
    let mut response = body::whole(StatusCode::OK, "text/html; charset=utf-8", html.clone());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, rules.clone());
    // What older browsers read instead, and what the rules do not say.
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    for name in ["cross-origin-opener-policy", "cross-origin-resource-policy"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("same-origin"));
    }
    response
}

struct Page {
    html: Bytes,
    /// Its Content-Security-Policy.
    rules: HeaderValue,
}

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let html = INDEX.replace(STYLE_PLACE, STYLE).replace(SCRIPT_PLACE, SCRIPT);
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let rules = format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        script = hash(SCRIPT),
        style = hash(STYLE),
    );
    let rules = HeaderValue::try_from(rules).expect("base64 and our own words are a header's text");
    Page { html: html.into(), rules }
});

const INDEX: &str = include_str!("console/index.html");
const STYLE: &str = include_str!("console/console.css");
const SCRIPT: &str = include_str!("console/console.js");
const STYLE_PLACE: &str = "/* console.css stands here */";
const SCRIPT_PLACE: &str = "/* console.js stands here */";

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the page is whole, its rules fit it, and nothing in it comes from elsewhere. Method: its text.
    #[test]
    fn the_page_holds_all_that_it_needs() {
        let Page { html, rules } = &*PAGE;
        let html = std::str::from_utf8(html).unwrap();
        assert!(
            html.contains(&format!("<style>{STYLE}</style>")) && html.contains(&format!("<script>{SCRIPT}</script>"))
        );
        let script_hash = STANDARD.encode(Sha256::digest(SCRIPT));
        assert!(rules.to_str().unwrap().contains(&format!("script-src 'sha256-{script_hash}';")));
        // The name of SVG's namespace; nobody fetches it.
        let html = html.replace("http://www.w3.org/2000/svg", "");
        for elsewhere in ["http://", "https://", "//cdn", "@import", "url("] {
            assert!(!html.contains(elsewhere), "{elsewhere}");
        }
        // An element's own style or handler would not run under the rules.
        for inline in [" style=", " onclick=", " onsubmit=", "javascript:"] {
            assert!(!INDEX.contains(inline), "{inline}");
        }
        // What makes HTML of text.
        for unsafe_call in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
            assert!(!SCRIPT.contains(unsafe_call), "{unsafe_call}");
        }
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }
}
