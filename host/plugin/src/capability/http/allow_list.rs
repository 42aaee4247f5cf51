//! Where a strategy may go: the origins of its sidecar, and the cluster at hand.
//!
//! An origin is scheme, host and port, and a URL's must be exactly a granted one. Hosts that can be read in two
//! ways (`0x7f.1`, `017700000001`, a name with a user before it) are no hosts here, neither in a grant nor in a
//! request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::address::AddressRange;
use super::authorities::Authorities;
use http::Uri;

/// One entry of a sidecar's `outboundHosts`.
///
/// ```
/// use witgate_plugin::OutboundHost;
///
/// assert_eq!(OutboundHost::parse("https://STS.example/")?.to_string(), "https://sts.example");
/// assert!(OutboundHost::parse("https://user@sts.example").is_err());
/// # Ok::<(), witgate_plugin::InvalidOrigin>(())
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct OutboundHost {
    pub(crate) destination: Destination,
    /// Addresses beyond the public ones that the name may mean.
    pub(crate) addresses: Vec<AddressRange>,
    /// Whose certificates are believed, instead of the system's.
    pub(crate) authorities: Option<Arc<Authorities>>,
}

/// What is granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Destination {
    /// The API server of the cluster that the credential is for.
    Cluster,
    /// A server.
    Origin(Origin),
}

/// Scheme, host and port of a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Origin {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

/// A host that can be read in one way only.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Host {
    Address(IpAddr),
    /// In lower case, without a dot at its end.
    Name(Box<str>),
}

/// Why a text is not an origin.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("not `https://HOST[:PORT]` or `http://HOST[:PORT]`, with a host that can be read in one way only")]
pub struct InvalidOrigin;

impl OutboundHost {
    /// Reads an origin, or `cluster`.
    ///
    /// An origin whose host is an address, or `localhost`, grants that very address; a name's addresses must be public
    /// ones, unless [`with_addresses`](Self::with_addresses) says more.
    ///
    /// # Errors
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        if text == "cluster" {
            return Ok(Self { destination: Destination::Cluster, addresses: Vec::new(), authorities: None });
        }
        let origin = Origin::parse_bare(text)?;
        let addresses = match &origin.host {
            Host::Address(address) => vec![AddressRange::only(*address)],
            Host::Name(name) if **name == *"localhost" => AddressRange::LOOPBACK.to_vec(),
            Host::Name(_) => Vec::new(),
        };
        Ok(Self { destination: Destination::Origin(origin), addresses, authorities: None })
    }

    /// The same host, which may also be at these addresses.
    #[must_use]
    pub fn with_addresses(mut self, addresses: impl IntoIterator<Item = AddressRange>) -> Self {
        self.addresses.extend(addresses);
        self
    }

    /// The same host, whose certificate must chain to one of these authorities, instead of the system's.
    #[must_use]
    pub fn with_certificate_authorities(mut self, authorities: Arc<Authorities>) -> Self {
        self.authorities = Some(authorities);
        self
    }

    /// Whether it is the API server of the cluster at hand, of which nothing more can be said.
    pub const fn is_cluster(&self) -> bool {
        matches!(self.destination, Destination::Cluster)
    }
}

impl fmt::Display for OutboundHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Cluster => f.write_str("cluster"),
            Destination::Origin(origin) => origin.fmt(f),
        }
    }
}

impl Origin {
    /// An origin and nothing behind it.
    fn parse_bare(text: &str) -> Result<Self, InvalidOrigin> {
        let uri: Uri = text.parse().map_err(|_| InvalidOrigin)?;
        let bare = ["", "/"].contains(&uri.path()) && uri.query().is_none() && !text.contains('#');
        if bare { Self::of(&uri) } else { Err(InvalidOrigin) }
    }

    /// The origin of a whole URL, as a cluster's is.
    pub(crate) fn of_url(url: &str) -> Result<Self, InvalidOrigin> {
        Self::of(&url.parse().map_err(|_| InvalidOrigin)?)
    }

    /// The origin of a URL that was parsed.
    pub(crate) fn of(uri: &Uri) -> Result<Self, InvalidOrigin> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(_) | None => return Err(InvalidOrigin),
        };
        let authority = uri.authority().ok_or(InvalidOrigin)?.as_str();
        // Not at the last colon: an IPv6 address has some of its own.
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, port)) => {
                (Host::Address(address.parse::<Ipv6Addr>().map_err(|_| InvalidOrigin)?.into()), port)
            }
            None => {
                let end = authority.find(':').unwrap_or(authority.len());
                let (host, port) = authority.split_at_checked(end).ok_or(InvalidOrigin)?;
                (Host::parse(host)?, port)
            }
        };
        let port = match port.strip_prefix(':') {
            None if port.is_empty() => scheme.default_port(),
            None => return Err(InvalidOrigin),
            // `+80` and `080` are ports to some, and an empty one is the default to others.
            Some(digits) if digits.starts_with('0') || !digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                return Err(InvalidOrigin);
            }
            Some(digits) => digits.parse().map_err(|_| InvalidOrigin)?,
        };
        Ok(Self { scheme, host, port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.host)?;
        if self.port == self.scheme.default_port() { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

impl Scheme {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Host {
    fn parse(text: &str) -> Result<Self, InvalidOrigin> {
        // Four plain decimal numbers: the library refuses leading zeros.
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        let is_name = text.len() <= 253 && text.split('.').all(is_label);
        // What ends in a number is an address to many resolvers: `2130706433`, `0x7f.1`, `127.1`, `0177.0.0.01`.
        let last = text.rsplit('.').next().unwrap_or_default();
        let is_number = last.bytes().all(|byte| byte.is_ascii_digit())
            || last
                .strip_prefix("0x")
                .or_else(|| last.strip_prefix("0X"))
                .is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_name && !is_number { Ok(Self::Name(text.to_ascii_lowercase().into())) } else { Err(InvalidOrigin) }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: an origin has one form, and what has two is none. Method: rows of text and what becomes of it.
    #[test]
    fn an_origin_has_one_form() {
        check("https://STS.Example", Some("https://sts.example"));
        check("https://sts.example:443/", Some("https://sts.example"));
        check("http://sts.example:8080", Some("http://sts.example:8080"));
        check("http://169.254.169.254", Some("http://169.254.169.254"));
        check("https://[::1]:8443", Some("https://[::1]:8443"));
        check("http://[::ffff:127.0.0.1]", Some("http://[::ffff:127.0.0.1]"));
        check("http://localhost:80", Some("http://localhost"));
        check("cluster", Some("cluster"));
        for wrong in [
            "",
            "sts.example",
            "ftp://sts.example",
            "https://",
            "https://:443",
            "https://sts.example/path",
            "https://sts.example?query",
            "https://sts.example#fragment",
            "https://user@sts.example",
            "https://user:password@sts.example",
            "https://sts.example@evil.example",
            "https://*.example",
            "https://sts.example.",
            "https://sts..example",
            "https://sts.example:",
            "https://sts.example:0",
            "https://sts.example:+80",
            "https://sts.example:080",
            "https://sts.example:65536",
            "https://sts.example:80:80",
            "http://2130706433",
            "http://0x7f000001",
            "http://0x7f.1",
            "http://0X7F.0.0.1",
            "http://017700000001",
            "http://0177.0.0.1",
            "http://127.1",
            "http://127.0.0.01",
            "http://1.2.3.4.5",
            "http://256.1.1.1",
            "http://[::1",
            "http://[fe80::1%25eth0]",
            "http://[127.0.0.1]",
            "http://[::1]x",
            "http://sts.example\\@evil.example",
            "http://%6c%6fcalhost",
            "http://ⓛocalhost",
            "Cluster",
        ] {
            check(wrong, None);
        }
    }

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(OutboundHost::parse(text).ok().map(|host| host.to_string()).as_deref(), expected, "{text}");
    }
}
