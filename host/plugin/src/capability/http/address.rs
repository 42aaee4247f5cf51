//! Which addresses are of the public Internet, and which are a neighbour's.
//!
//! A strategy may talk to the servers that its sidecar names, and a name can be made to mean any address. So
//! each address is looked at too: what is not public is reached only where the grant says so.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// Addresses that begin with the same bits: `10.0.0.0/8`, `fd00::/8`, or one alone.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressRange {
    first: IpAddr,
    prefix_bits: u32,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is not a range of addresses: write it like `10.0.0.0/8`, `fd00::/8` or `10.1.2.3`")]
pub struct InvalidAddressRange(Box<str>);

impl AddressRange {
    /// The loopback addresses of both kinds.
    pub(crate) const LOOPBACK: [Self; 2] = [
        Self { first: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix_bits: 8 },
        Self { first: IpAddr::V6(Ipv6Addr::LOCALHOST), prefix_bits: 128 },
    ];

    /// This address and no other.
    pub(crate) const fn only(address: IpAddr) -> Self {
        let prefix_bits = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        Self { first: address, prefix_bits }
    }

    /// Whether `address` is one of them. An IPv4 address in IPv6 clothes is not the IPv4 address.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                same_start(u128::from(first.to_bits()) << 96, u128::from(address.to_bits()) << 96, self.prefix_bits)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                same_start(first.to_bits(), address.to_bits(), self.prefix_bits)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddressRange;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = || {
            let Some((first, bits)) = text.split_once('/') else { return Some(Self::only(text.parse().ok()?)) };
            let first: IpAddr = first.parse().ok()?;
            let range = Self { first, prefix_bits: bits.parse().ok()? };
            let (start, width) = match first {
                IpAddr::V4(first) => (u128::from(first.to_bits()) << 96, 32),
                IpAddr::V6(first) => (first.to_bits(), 128),
            };
            // `10.1.2.3/8` is a slip: it would grant more than it seems to.
            let exact = range.prefix_bits <= width && start.checked_shl(range.prefix_bits).unwrap_or(0) == 0;
            exact.then_some(range)
        };
        parsed().ok_or_else(|| InvalidAddressRange(text.chars().take(64).collect()))
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

/// What an address is, where it is not one of the public Internet.
pub(crate) fn not_public(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let bits = u128::from(address.to_bits()) << 96;
            NOT_PUBLIC_V4.iter().find(|(a, b, c, d, prefix, _)| {
                let first = Ipv4Addr::new(*a, *b, *c, *d).to_bits();
                same_start(u128::from(first) << 96, bits, *prefix)
            })
        }
        .map(|(.., what)| *what),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            NOT_PUBLIC_V6.iter().find(|(first, prefix, _)| same_start(*first << 96, bits, *prefix)).map_or_else(
                // Whatever is outside the one block that is given out, named or not.
                || (!same_start(GLOBAL_UNICAST << 96, bits, 3)).then_some("not a public address"),
                |(.., what)| Some(*what),
            )
        }
    }
}

/// Whether the first bits of two addresses, left-aligned, are the same.
fn same_start(left: u128, right: u128, bits: u32) -> bool {
    (left ^ right).leading_zeros() >= bits
}

/// RFC 6890 and the registry that it began. Each is four octets, the prefix, and what it is.
const NOT_PUBLIC_V4: [(u8, u8, u8, u8, u32, &str); 16] = [
    (0, 0, 0, 0, 8, "an unspecified address"),
    (10, 0, 0, 0, 8, "a private address"),
    (100, 64, 0, 0, 10, "an address of a carrier's network"),
    (127, 0, 0, 0, 8, "a loopback address"),
    (169, 254, 0, 0, 16, "a link-local address"),
    (172, 16, 0, 0, 12, "a private address"),
    (192, 0, 0, 0, 24, "an address of a protocol"),
    (192, 0, 2, 0, 24, "an address for documentation"),
    (192, 88, 99, 0, 24, "an address of a 6to4 relay"),
    (192, 168, 0, 0, 16, "a private address"),
    (198, 18, 0, 0, 15, "an address for benchmarks"),
    (198, 51, 100, 0, 24, "an address for documentation"),
    (203, 0, 113, 0, 24, "an address for documentation"),
    (224, 0, 0, 0, 4, "a multicast address"),
    (255, 255, 255, 255, 32, "the broadcast address"),
    (240, 0, 0, 0, 4, "a reserved address"),
];

/// The same for IPv6: the first 32 bits, the prefix, and what it is. What lies outside of `2000::/3` is refused anyway.
const NOT_PUBLIC_V6: [(u128, u32, &str); 9] = [
    (0, 32, "an unspecified, loopback or IPv4-mapped address"),
    (0x0064_ff9b, 32, "an address that NAT64 makes an IPv4 address"),
    (0xfc00_0000, 7, "a unique local address"),
    (0xfe80_0000, 10, "a link-local address"),
    (0xff00_0000, 8, "a multicast address"),
    // Teredo, benchmarks, ORCHID and what else the IETF gives out for protocols.
    (0x2001_0000, 23, "an address of a protocol"),
    (0x2001_0db8, 32, "an address for documentation"),
    (0x2002_0000, 16, "an address that 6to4 makes an IPv4 address"),
    (0x3fff_0000, 20, "an address for documentation"),
];

const GLOBAL_UNICAST: u128 = 0x2000_0000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only public addresses pass. Method: the ends of every block, and what lies beside them.
    #[test]
    fn only_public_addresses_are_public() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:200::1",
            "2003::1",
            "3ffe::1",
        ] {
            check(public, None);
        }
        check("0.0.0.0", Some("an unspecified address"));
        check("0.255.255.255", Some("an unspecified address"));
        check("10.0.0.0", Some("a private address"));
        check("10.255.255.255", Some("a private address"));
        check("100.64.0.0", Some("an address of a carrier's network"));
        check("100.127.255.255", Some("an address of a carrier's network"));
        check("127.0.0.1", Some("a loopback address"));
        check("127.255.255.255", Some("a loopback address"));
        check("169.254.169.254", Some("a link-local address"));
        check("172.16.0.0", Some("a private address"));
        check("172.31.255.255", Some("a private address"));
        check("192.0.0.8", Some("an address of a protocol"));
        check("192.0.2.1", Some("an address for documentation"));
        check("192.88.99.1", Some("an address of a 6to4 relay"));
        check("192.168.255.255", Some("a private address"));
        check("198.18.0.0", Some("an address for benchmarks"));
        check("198.19.255.255", Some("an address for benchmarks"));
        check("198.51.100.7", Some("an address for documentation"));
        check("203.0.113.7", Some("an address for documentation"));
        check("224.0.0.1", Some("a multicast address"));
        check("239.255.255.255", Some("a multicast address"));
        check("240.0.0.1", Some("a reserved address"));
        check("255.255.255.255", Some("the broadcast address"));
        let low = "an unspecified, loopback or IPv4-mapped address";
        for address in ["::", "::1", "::ffff:1.1.1.1", "::ffff:127.0.0.1", "::7f00:1", "::ffff:0:7f00:1"] {
            check(address, Some(low));
        }
        check("64:ff9b::7f00:1", Some("an address that NAT64 makes an IPv4 address"));
        check("64:ff9b:1::1", Some("an address that NAT64 makes an IPv4 address"));
        check("fc00::1", Some("a unique local address"));
        check("fd00:ec2::254", Some("a unique local address"));
        check("fe80::1", Some("a link-local address"));
        check("febf::1", Some("a link-local address"));
        check("fec0::1", Some("not a public address"));
        check("ff02::1", Some("a multicast address"));
        check("100::1", Some("not a public address"));
        check("4000::1", Some("not a public address"));
        check("2001::1", Some("an address of a protocol"));
        check("2001:2::1", Some("an address of a protocol"));
        check("2001:db8::1", Some("an address for documentation"));
        check("2002:7f00:1::1", Some("an address that 6to4 makes an IPv4 address"));
        check("3fff::1", Some("an address for documentation"));
    }

    #[track_caller]
    fn check(address: &str, expected: Option<&str>) {
        assert_eq!(not_public(address.parse().unwrap()), expected, "{address}");
    }

    /// Goal: a range is what it seems to be. Method: rows of a range, an address and whether it is inside.
    #[test]
    fn a_range_is_what_it_seems_to_be() {
        let contains = |range: &str, address: &str| {
            range.parse::<AddressRange>().map(|range| range.contains(address.parse().unwrap()))
        };
        assert_eq!(contains("10.0.0.0/8", "10.255.0.1"), Ok(true));
        assert_eq!(contains("10.0.0.0/8", "11.0.0.1"), Ok(false));
        assert_eq!(contains("10.0.0.0/8", "::ffff:10.0.0.1"), Ok(false));
        assert_eq!(contains("0.0.0.0/0", "10.0.0.1"), Ok(true));
        assert_eq!(contains("169.254.169.254", "169.254.169.254"), Ok(true));
        assert_eq!(contains("169.254.169.254", "169.254.169.253"), Ok(false));
        assert_eq!(contains("fd00::/8", "fdff::1"), Ok(true));
        assert_eq!(contains("fd00::/8", "fc00::1"), Ok(false));
        for wrong in ["", "10", "10.0.0.0/", "10.0.0.0/33", "10.1.2.3/8", "fd00::1/8", "::/129", "10.0.0.0/8/8", "x/8"]
        {
            assert_eq!(wrong.parse::<AddressRange>(), Err(InvalidAddressRange(wrong.into())));
        }
    }
}
