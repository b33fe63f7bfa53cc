//! To which addresses requests go whose address somebody else wrote.

use std::{net::IpAddr, str::FromStr};

use ipnet::IpNet;
use store::{environment::Environment, settings::Settings};

use crate::clients::guarded::AddressRules;

/// The outgoing requests whose address somebody else wrote: pages to crawl, registered webhooks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutgoingConfig {
    /// `ALLOW_PRIVATE_ADDRESSES`; this machine itself is exempt with `ENVIRONMENT=development`.
    pub rules: AddressRules,
}

impl OutgoingConfig {
    /// Reads the variables of outgoing requests.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let environment = Environment::read(settings);
        let exempt = settings
            .optional::<Networks>(
                "ALLOW_PRIVATE_ADDRESSES",
                "networks such as 10.0.0.0/8 or fd00::/8, comma-separated",
            )
            .unwrap_or_default();
        Some(Self {
            rules: AddressRules {
                exempt: exempt.0,
                loopback: environment == Environment::Development,
            },
        })
    }
}

/// A list of networks; an address by itself is a network of one.
#[derive(Debug, Default)]
struct Networks(Vec<IpNet>);

impl FromStr for Networks {
    type Err = ipnet::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',')
            .map(str::trim)
            .filter(|network| !network.is_empty())
            .map(|network| {
                let alone = network.parse::<IpAddr>().map(IpNet::from);
                alone.or_else(|_| network.parse())
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }
}
