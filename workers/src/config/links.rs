//! Where links of an answer may lead besides what the company's knowledge names.

use store::settings::Settings;
use url::{Host, Url};

const RULE: &str = "hosts, comma-separated, each such as www.company.com, www.company.com:8443, or \
    .company.com for the host and all below it";

/// Hosts that links of an answer may lead to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkHosts(Vec<LinkHost>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct LinkHost {
    /// As a URL has it: in lower case, punycode.
    host: String,
    /// Whether what is below it is meant as well.
    subdomains: bool,
    /// `None`: the scheme's own.
    port: Option<u16>,
}

impl LinkHosts {
    /// Reads `LINK_ALLOWED_HOSTS`, and adds the sites of `ALLOWED_ORIGIN`, where it is set: a process
    /// without the API's role needs no such variable. The API says what is wrong with it.
    pub fn read(settings: &mut Settings) -> Option<Self> {
        let list = settings.get("LINK_ALLOWED_HOSTS").unwrap_or_default();
        let hosts: Option<Vec<LinkHost>> = items(list).map(host).collect();
        let origins = settings.get("ALLOWED_ORIGIN").unwrap_or_default();
        let origins: Vec<LinkHost> = items(origins).filter_map(origin).collect();
        // What is not UTF-8 is reported by asking for it as a text.
        settings.optional::<String>("LINK_ALLOWED_HOSTS", RULE);
        let Some(mut hosts) = hosts else {
            settings.problem("LINK_ALLOWED_HOSTS", format!("is not valid: {RULE}"));
            return None;
        };
        hosts.extend(origins);
        Some(Self(hosts))
    }

    /// Whether an address is on one of them.
    pub fn contain(&self, url: &Url) -> bool {
        let Some(name) = url.host_str() else {
            return false;
        };
        self.0.iter().any(|host| {
            let below = |name: &str| {
                name.strip_suffix(&host.host)
                    .is_some_and(|rest| rest.ends_with('.'))
            };
            url.port() == host.port && (name == host.host || (host.subdomains && below(name)))
        })
    }
}

fn items(list: &str) -> impl Iterator<Item = &str> {
    list.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

fn host(item: &str) -> Option<LinkHost> {
    let (subdomains, item) = match item.strip_prefix('.') {
        Some(item) => (true, item),
        None => (false, item),
    };
    let (name, port) = match item.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.ends_with(']') => {
            (name, Some(port.parse().ok().filter(|port| *port > 0)?))
        }
        _ => (item, None),
    };
    let host = Host::parse(name).ok()?;
    let legal = match &host {
        Host::Domain(name) => name.split('.').all(|label| !label.is_empty()),
        Host::Ipv4(_) | Host::Ipv6(_) => !subdomains,
    };
    legal.then(|| LinkHost {
        host: host.to_string(),
        subdomains,
        port,
    })
}

fn origin(text: &str) -> Option<LinkHost> {
    let url = Url::parse(text).ok()?;
    Some(LinkHost {
        host: url.host_str()?.to_owned(),
        subdomains: false,
        port: url.port(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<LinkHosts, String> {
        let owned = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let mut settings = Settings::new(owned);
        let hosts = LinkHosts::read(&mut settings);
        settings.finish(hosts).map_err(|error| error.to_string())
    }

    fn contain(hosts: &LinkHosts, url: &str) -> bool {
        hosts.contain(&url.parse().unwrap())
    }

    #[test]
    fn a_host_is_meant_alone_and_with_its_port() {
        let hosts = read(&[(
            "LINK_ALLOWED_HOSTS",
            "www.Company.example, docs.company.example:8443",
        )])
        .unwrap();
        for good in [
            "https://www.company.example/a?b#c",
            "http://WWW.company.example:80/",
            "https://docs.company.example:8443",
        ] {
            assert!(contain(&hosts, good), "{good}");
        }
        for bad in [
            "https://company.example",
            "https://a.www.company.example",
            "https://www.company.example:8443",
            "https://docs.company.example",
            "https://www.company.example.evil.example",
        ] {
            assert!(!contain(&hosts, bad), "{bad}");
        }
    }

    #[test]
    fn a_leading_dot_means_what_is_below_a_host_as_well() {
        let hosts = read(&[("LINK_ALLOWED_HOSTS", ".company.example")]).unwrap();
        assert!(contain(&hosts, "https://company.example"));
        assert!(contain(&hosts, "https://a.b.company.example"));
        assert!(!contain(&hosts, "https://evilcompany.example"));
    }

    #[test]
    fn the_sites_that_carry_the_widget_are_among_them() {
        let hosts =
            read(&[("ALLOWED_ORIGIN", "https://a.example, http://localhost:3000")]).unwrap();
        assert!(contain(&hosts, "https://a.example/x"));
        assert!(contain(&hosts, "http://localhost:3000/"));
        assert!(!contain(&hosts, "http://localhost/"));
        assert_eq!(
            read(&[("ALLOWED_ORIGIN", "*")]).unwrap(),
            LinkHosts::default()
        );
    }

    #[test]
    fn what_is_no_host_is_reported_by_the_variables_name() {
        for bad in [
            "https://a.example",
            "a b",
            "a.example:",
            "a.example:0",
            "..",
            ".127.0.0.1",
        ] {
            let problem = read(&[("LINK_ALLOWED_HOSTS", bad)]).unwrap_err();
            assert!(problem.contains("LINK_ALLOWED_HOSTS"), "{problem}");
            assert!(!problem.contains(bad), "{problem}");
        }
    }
}
