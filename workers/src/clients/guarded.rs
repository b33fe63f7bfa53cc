//! The client for addresses that somebody else wrote: pages to crawl, registered webhooks.
//!
//! Such an address must not reach what only this machine can reach: the metadata service of a cloud,
//! a database, a neighbour's admin page. So a request is refused
//! - before it is sent, if its host is an address that is not public, in whichever spelling (`Url` has
//!   read `http://0x7f.1/` as 127.0.0.1);
//! - while it connects, if its host's name leads to one. The names are looked up by the connection
//!   itself, so that a name can't lead elsewhere between a check and the use (DNS rebinding).
//!
//! Redirects are not followed: whoever follows one sends a new request through here. A proxy of the
//! environment is not used, because it would look the name up in our place.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::{
    Method, RequestBuilder,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

/// How long a connection may take to come about, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an unused connection is kept. Short: a name may lead elsewhere soon.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Which addresses may be reached besides public ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// `ALLOW_PRIVATE_ADDRESSES`.
    pub exempt: Vec<IpNet>,
    /// Whether this machine itself may be: in development it plays the outside world.
    pub loopback: bool,
}

impl AddressRules {
    /// Whether an address may be reached. An IPv6 address that only wraps an IPv4 one is that one.
    pub fn allow(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        is_public(address)
            || (self.loopback && address.is_loopback())
            || self.exempt.iter().any(|net| net.contains(&address))
    }

    /// Whether a request to `url` may be tried: http or https, no user name, and a host that is a name
    /// or an address that may be reached.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::Credentials);
        }
        let address = match url.host() {
            None => return Err(Refused::Scheme),
            Some(Host::Domain(_)) => return Ok(()),
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
        };
        if self.allow(address) {
            Ok(())
        } else {
            Err(Refused::PrivateAddress)
        }
    }
}

/// Why an address is not reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither http nor https, or without a host.
    #[error("is not an http or https address")]
    Scheme,
    /// It has a user name or a password in it.
    #[error("has a user name or a password in it")]
    Credentials,
    /// It is, or its name leads to, an address that is not public.
    #[error("leads to a private address (ALLOW_PRIVATE_ADDRESSES exempts)")]
    PrivateAddress,
}

impl Refused {
    /// The refusal that a failed request was due to, if it was one.
    pub fn behind(error: &reqwest::Error) -> Option<Self> {
        let mut cause: Option<&(dyn Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(refused) = error.downcast_ref::<Self>() {
                return Some(*refused);
            }
            cause = error.source();
        }
        None
    }
}

/// What looks names up; tests have their own.
pub trait LookUp: fmt::Debug + Send + Sync {
    /// The addresses of a host.
    fn look_up(&self, host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// The system's own way.
#[derive(Debug)]
struct SystemLookUp;

impl LookUp for SystemLookUp {
    fn look_up(&self, host: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let addresses = tokio::net::lookup_host((host, 0)).await?;
            Ok(addresses.map(|address| address.ip()).collect())
        })
    }
}

#[derive(Debug)]
struct GuardedResolver {
    rules: AddressRules,
    names: Arc<dyn LookUp>,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let rules = self.rules.clone();
        let looking = self.names.look_up(name.as_str().to_owned());
        Box::pin(async move {
            let addresses = looking.await?;
            // A name that leads to public and private addresses is no honest one.
            if addresses.iter().all(|address| rules.allow(*address)) {
                let sockets = addresses.into_iter().map(|ip| SocketAddr::new(ip, 0));
                Ok(Box::new(sockets) as Addrs)
            } else {
                Err(Refused::PrivateAddress.into())
            }
        })
    }
}

/// The client. A clone shares its connections.
#[derive(Debug, Clone)]
pub struct GuardedClient {
    http: reqwest::Client,
    rules: AddressRules,
}

impl GuardedClient {
    /// A client that keeps these rules. The process has installed a rustls provider before.
    pub fn new(rules: AddressRules) -> reqwest::Result<Self> {
        Self::with_look_up(rules, Arc::new(SystemLookUp))
    }

    /// One that looks names up in another way.
    pub fn with_look_up(rules: AddressRules, names: Arc<dyn LookUp>) -> reqwest::Result<Self> {
        let resolver = GuardedResolver {
            rules: rules.clone(),
            names,
        };
        let http = reqwest::Client::builder()
            .user_agent(concat!("growth-chat/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .redirect(redirect::Policy::none())
            .referer(false)
            .no_proxy()
            .dns_resolver(Arc::new(resolver))
            .build()?;
        Ok(Self { http, rules })
    }

    /// Begins a request, unless its address is refused already. A name is looked up when the request
    /// is sent: see [`Refused::behind`].
    pub fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, Refused> {
        self.rules.check(url)?;
        Ok(self.http.request(method, url.clone()))
    }
}

/// Whether an address belongs to the public internet (IANA's special-purpose registries).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(matches!(a, 0 | 10 | 127 | 224..)
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 0 && matches!(c, 0 | 2)) // protocols, documentation
        || (a == 192 && b == 88 && c == 99) // 6to4 relays
        || (a == 192 && b == 168)
        || (a == 198 && matches!(b, 18 | 19)) // benchmarks
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    match segments {
        // NAT64 and 6to4 hold an IPv4 address, at the end and at the beginning.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => {
            is_public_v4(v4(high, low))
        }
        // Teredo and other protocols, documentation.
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x3fff, second, ..] => second >= 0x1000,
        // Nothing else than 2000::/3 is routed.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests;
