//! From a host to the addresses that may be dialled.
//!
//! A name is looked up once in an exchange. What is dialled is what was looked at here, so a name that
//! means another address a moment later (rebinding) changes nothing.

use std::io;
use std::net::{IpAddr, SocketAddr};

use witgate_core::BoxFuture;

use super::address::{AddressRange, not_public};
use super::allow_list::Host;

/// Looks names up.
pub(crate) trait Resolve: Send + Sync {
    /// All addresses of a name. The caller bounds the wait.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The machine's own way: its hosts file, then its name servers.
pub(crate) struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect()) })
    }
}

/// Which addresses a host may have.
#[derive(Clone, Debug)]
pub(crate) enum AddressRule {
    /// Any: an API server is where its cluster's configuration says.
    Any,
    /// Public ones, and these.
    PublicOr(Vec<AddressRange>),
}

/// Why there is nothing to dial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("its name cannot be resolved")]
    Lookup(#[source] io::Error),
    #[error("its name has no address")]
    NoAddress,
    #[error("its name has {0} addresses, more than {ADDRESSES_MAX}")]
    TooMany(usize),
    #[error("it is at {0}, {1}, which its grant does not include")]
    Prohibited(IpAddr, &'static str),
}

impl AddressRule {
    fn check(&self, address: IpAddr) -> Result<(), ResolveError> {
        match self {
            Self::Any => Ok(()),
            Self::PublicOr(granted) if granted.iter().any(|range| range.contains(address)) => Ok(()),
            Self::PublicOr(_) => match not_public(address) {
                None => Ok(()),
                Some(what) => Err(ResolveError::Prohibited(address, what)),
            },
        }
    }
}

/// The addresses of `host`, each of which `rule` lets pass. One that does not condemns all: a name that is at a
/// public and at a private address is being played with.
pub(crate) async fn addresses(
    resolver: &dyn Resolve,
    host: &Host,
    port: u16,
    rule: &AddressRule,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let addresses = match host {
        Host::Address(address) => vec![*address],
        Host::Name(name) => resolver.resolve(name).await.map_err(ResolveError::Lookup)?,
    };
    if addresses.len() > ADDRESSES_MAX {
        return Err(ResolveError::TooMany(addresses.len()));
    }
    if addresses.is_empty() {
        return Err(ResolveError::NoAddress);
    }
    addresses.iter().try_for_each(|address| rule.check(*address))?;
    Ok(addresses.into_iter().map(|address| SocketAddr::new(address, port)).collect())
}

/// Addresses that one name may have.
const ADDRESSES_MAX: usize = 64;

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::capability::http::allow_list::{Destination, OutboundHost};

    /// Answers with the next of its lists, and with the last one for ever.
    pub(crate) struct FakeResolver {
        answers: Mutex<Vec<Vec<IpAddr>>>,
        pub(crate) asked: Mutex<Vec<String>>,
    }

    impl FakeResolver {
        pub(crate) fn answering(answers: &[&[&str]]) -> Self {
            let parse = |list: &&[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
            Self { answers: Mutex::new(answers.iter().map(parse).collect()), asked: Mutex::default() }
        }
    }

    impl Resolve for FakeResolver {
        fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
            Box::pin(async move {
                self.asked.lock().unwrap().push(name.to_owned());
                let mut answers = self.answers.lock().unwrap();
                let next = answers.first().cloned().ok_or_else(|| io::Error::other("no such name"))?;
                if answers.len() > 1 {
                    answers.remove(0);
                }
                Ok(next)
            })
        }
    }

    /// Goal: what is dialled was checked, all of it. Method: rows of a grant, the name's addresses and the outcome.
    #[tokio::test]
    async fn every_address_is_checked() {
        check("http://a.example", &[], &["1.1.1.1"], "1.1.1.1:80").await;
        check("https://a.example", &[], &["1.1.1.1", "2606:4700::1"], "1.1.1.1:443 [2606:4700::1]:443").await;
        check("http://a.example", &[], &[], "its name has no address").await;
        let refused =
            |address: &str, what: &str| format!("it is at {address}, {what}, which its grant does not include");
        let low = "an unspecified, loopback or IPv4-mapped address";
        for (address, what) in [
            ("169.254.169.254", "a link-local address"),
            ("127.0.0.1", "a loopback address"),
            ("::1", low),
            ("::ffff:127.0.0.1", low),
            ("10.0.0.1", "a private address"),
            ("fd00:ec2::254", "a unique local address"),
            ("64:ff9b::a9fe:a9fe", "an address that NAT64 makes an IPv4 address"),
            ("0.0.0.0", "an unspecified address"),
        ] {
            check("http://a.example", &[], &[address], &refused(address, what)).await;
            check("http://a.example", &[], &["1.1.1.1", address], &refused(address, what)).await;
        }
        check("http://a.example", &["10.0.0.0/8"], &["10.0.0.1", "1.1.1.1"], "10.0.0.1:80 1.1.1.1:80").await;
        check("http://a.example", &["10.0.0.0/8"], &["192.168.0.1"], &refused("192.168.0.1", "a private address"))
            .await;
        check("http://localhost", &[], &["127.0.0.1", "::1"], "127.0.0.1:80 [::1]:80").await;
        check("http://localhost", &[], &["10.0.0.1"], &refused("10.0.0.1", "a private address")).await;
        check("http://169.254.169.254", &[], &["6.6.6.6"], "169.254.169.254:80").await;
        check("http://[::1]", &[], &["6.6.6.6"], "[::1]:80").await;
        check("http://a.example", &[], &["1.1.1.1"; 65], "its name has 65 addresses, more than 64").await;
    }

    async fn check(grant: &str, ranges: &[&str], addresses: &[&str], expected: &str) {
        let host = OutboundHost::parse(grant).unwrap();
        let host = host.with_addresses(ranges.iter().map(|range| range.parse().unwrap()));
        let Destination::Origin(origin) = host.destination else { panic!("it is an origin") };
        let resolver = FakeResolver::answering(&[addresses]);
        let rule = AddressRule::PublicOr(host.addresses);
        let got = match super::addresses(&resolver, &origin.host, origin.port, &rule).await {
            Ok(addresses) => addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected, "{grant} {ranges:?} {addresses:?}");
    }

    /// Goal: the machine's resolver knows its own name. Method: the one name that every machine has.
    #[tokio::test]
    async fn the_system_resolves_localhost() {
        let addresses = SystemResolver.resolve("localhost").await.unwrap();
        assert!(!addresses.is_empty() && addresses.iter().all(IpAddr::is_loopback), "{addresses:?}");
    }
}
