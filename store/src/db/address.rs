//! The database's address, taken apart in one place: this program connects by it, and so do `pg_dump` and
//! psql. What libpq's variables say (`PGHOST`, `PGSSLMODE`, …) and `~/.pgpass` does not count, so that one
//! line of the configuration says where the data are, and how they get there.

use std::fmt;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// Where Postgres listens unless an address says otherwise.
const PORT: u16 = 5432;
/// The root certificates of the system, in the words of libpq.
const SYSTEM_ROOTS: &str = "system";

/// Variables of libpq that can't be kept from counting for us and would not count for `pg_dump`, with the
/// parameter that says the same for both.
pub(super) const FOREIGN: [(&str, &str); 4] = [
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGOPTIONS", "options"),
];

/// An address can't be used. No part of it is told: it may be the password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is no URL, or one of something else.
    #[error("is none of the form postgres://user:password@host/database")]
    Form,
    /// It has no host.
    #[error(
        "names no host: postgres://user:password@host/database (a socket's folder: ?host=/run/postgresql)"
    )]
    Host,
    /// It has no user.
    #[error("names no user: postgres://user:password@host/database")]
    User,
    /// A port or `statement-cache-capacity` that is no number.
    #[error("has a port or another number that is none")]
    Number,
    /// An `sslmode` that nobody knows.
    #[error(
        "has an unknown sslmode: require, verify-ca or verify-full (disable, allow or prefer on this machine)"
    )]
    Tls,
}

/// An address with everything that it leaves open filled in.
#[derive(Clone)]
pub struct DatabaseAddress {
    /// A name, an IP address without brackets, or the folder of a socket.
    host: String,
    port: u16,
    user: String,
    password: Option<String>,
    database: String,
    tls: PgSslMode,
    root_certificate: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    channel_binding: Option<String>,
    options: Option<String>,
    statement_cache: Option<usize>,
}

/// Where it is, for people. Without the password.
impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            port,
            user,
            database,
            ..
        } = self;
        write!(
            f,
            "the database {database} on {host}, port {port}, as {user}"
        )
    }
}

/// Without the password.
impl fmt::Debug for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseAddress")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl DatabaseAddress {
    /// Takes a URL apart. Parameters that mean nothing to us are passed over, as are those of other
    /// libraries. sqlx must not see them: it logs their values, and one may be a password.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Form)?;
        // The prefix that SQLAlchemy wants; seed 000 writes the variable in its form.
        if !["postgres", "postgresql", "postgresql+asyncpg"].contains(&url.scheme()) {
            return Err(AddressError::Form);
        }
        let mut address = Self {
            host: decoded(url.host_str().unwrap_or_default())?,
            port: url.port().unwrap_or(PORT),
            user: decoded(url.username())?,
            password: url.password().map(decoded).transpose()?,
            database: decoded(url.path().trim_start_matches('/'))?,
            tls: PgSslMode::default(),
            root_certificate: None,
            certificate: None,
            key: None,
            channel_binding: None,
            options: None,
            statement_cache: None,
        };
        for (name, value) in url.query_pairs() {
            address.set(&name, value.into_owned())?;
        }
        address.host = address.host.trim_matches(['[', ']']).to_owned();
        if address.host.is_empty() {
            return Err(AddressError::Host);
        }
        if address.user.is_empty() {
            return Err(AddressError::User);
        }
        if address.database.is_empty() {
            // As the server has it.
            address.database.clone_from(&address.user);
        }
        Ok(address)
    }

    fn set(&mut self, name: &str, value: String) -> Result<(), AddressError> {
        match name {
            "host" | "hostaddr" => self.host = value,
            "port" => self.port = value.parse().map_err(|_| AddressError::Number)?,
            "user" => self.user = value,
            "password" => self.password = Some(value),
            "dbname" => self.database = value,
            "sslmode" | "ssl-mode" => self.tls = value.parse().map_err(|_| AddressError::Tls)?,
            "sslrootcert" | "ssl-root-cert" | "ssl-ca" => self.root_certificate = Some(value),
            "sslcert" | "ssl-cert" => self.certificate = Some(value),
            "sslkey" | "ssl-key" => self.key = Some(value),
            "channel_binding" => self.channel_binding = Some(value),
            "options" => {
                let options = self.options.take().map(|options| options + " ");
                self.options = Some(options.unwrap_or_default() + &value);
            }
            "statement-cache-capacity" => {
                self.statement_cache = Some(value.parse().map_err(|_| AddressError::Number)?);
            }
            _ => {}
        }
        Ok(())
    }

    /// The host: a name, an IP address, or the folder of a socket.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether nothing is sent without TLS.
    pub fn demands_tls(&self) -> bool {
        matches!(
            self.tls,
            PgSslMode::Require | PgSslMode::VerifyCa | PgSslMode::VerifyFull
        )
    }

    /// The password, for those who have to keep it out of what others say.
    pub fn password(&self) -> Option<&str> {
        self.password.as_deref()
    }

    /// How we connect. Every option that sqlx would take from a variable or a file is set.
    pub(super) fn connect_options(&self) -> sqlx::Result<PgConnectOptions> {
        // Nothing but a URL takes options as they are written.
        let mut options: PgConnectOptions = match &self.options {
            None => PgConnectOptions::new_without_pgpass(),
            Some(raw) => Url::parse_with_params("postgres://host/", [("options", raw)])
                .map_err(|error| sqlx::Error::Configuration(error.into()))?
                .as_str()
                .parse()?,
        };
        options = options
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .password(self.password.as_deref().unwrap_or_default())
            .database(&self.database)
            .ssl_mode(self.tls);
        if let Some(file) = self.root_certificate.as_ref()
            && file != SYSTEM_ROOTS
        {
            options = options.ssl_root_cert(file);
        }
        if let Some(file) = &self.certificate {
            options = options.ssl_client_cert(file);
        }
        if let Some(file) = &self.key {
            options = options.ssl_client_key(file);
        }
        if let Some(capacity) = self.statement_cache {
            options = options.statement_cache_capacity(capacity);
        }
        Ok(options)
    }

    /// The same for programs of PostgreSQL, as libpq's variables.
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        // Without a certificate of one's own we trust those of the system, and libpq a file that nobody has.
        let roots = self
            .root_certificate
            .clone()
            .or_else(|| matches!(self.tls, PgSslMode::VerifyFull).then(|| SYSTEM_ROOTS.to_owned()));
        let set = [
            ("PGHOST", Some(self.host.clone())),
            ("PGPORT", Some(self.port.to_string())),
            ("PGUSER", Some(self.user.clone())),
            ("PGPASSWORD", self.password.clone()),
            ("PGDATABASE", Some(self.database.clone())),
            ("PGSSLMODE", Some(mode(self.tls).to_owned())),
            ("PGSSLROOTCERT", roots),
            ("PGSSLCERT", self.certificate.clone()),
            ("PGSSLKEY", self.key.clone()),
            ("PGCHANNELBINDING", self.channel_binding.clone()),
            ("PGOPTIONS", self.options.clone()),
        ];
        set.into_iter()
            .filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?)))
            .collect()
    }
}

const fn mode(tls: PgSslMode) -> &'static str {
    match tls {
        PgSslMode::Disable => "disable",
        PgSslMode::Allow => "allow",
        PgSslMode::Prefer => "prefer",
        PgSslMode::Require => "require",
        PgSslMode::VerifyCa => "verify-ca",
        PgSslMode::VerifyFull => "verify-full",
    }
}

/// Without percent-encoding. A plus is a plus.
fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let high = digit(rest.next()).ok_or(AddressError::Form)?;
        let low = digit(rest.next()).ok_or(AddressError::Form)?;
        bytes.push(u8::try_from(high * 16 + low).map_err(|_| AddressError::Form)?);
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Form)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(url: &str) -> Vec<(&'static str, String)> {
        DatabaseAddress::parse(url).unwrap().variables()
    }

    fn pair(name: &'static str, value: &str) -> (&'static str, String) {
        (name, value.to_owned())
    }

    #[test]
    fn programs_are_told_all_that_we_connect_by() {
        let url = "postgres://us%40er:p%2B+%25w@db.example.com:6543/na%20me?sslmode=verify-full\
                   &options=endpoint%3Dx&statement_cache_capacity=0&channel_binding=require";
        let address = DatabaseAddress::parse(url).unwrap();
        let told = [
            pair("PGHOST", "db.example.com"),
            pair("PGPORT", "6543"),
            pair("PGUSER", "us@er"),
            pair("PGPASSWORD", "p++%w"),
            pair("PGDATABASE", "na me"),
            pair("PGSSLMODE", "verify-full"),
            pair("PGSSLROOTCERT", "system"),
            pair("PGCHANNELBINDING", "require"),
            pair("PGOPTIONS", "endpoint=x"),
        ];
        assert_eq!(address.variables(), told);
        let ours = address.connect_options().unwrap();
        assert_eq!(ours.get_host(), "db.example.com");
        assert_eq!(ours.get_port(), 6543);
        assert_eq!(ours.get_username(), "us@er");
        assert_eq!(ours.get_database(), Some("na me"));
        assert!(matches!(ours.get_ssl_mode(), PgSslMode::VerifyFull));
        assert_eq!(ours.get_options(), Some("endpoint=x"));
    }

    #[test]
    fn what_an_address_leaves_open_is_told_as_well() {
        let told = told("postgres://u@[::1]/");
        assert_eq!(
            told,
            [
                pair("PGHOST", "::1"),
                pair("PGPORT", "5432"),
                pair("PGUSER", "u"),
                pair("PGDATABASE", "u"),
                pair("PGSSLMODE", "prefer"),
            ]
        );
    }

    #[test]
    fn a_parameter_goes_before_what_the_rest_of_the_address_says() {
        let told = told("postgres://u@h/x?host=%2Frun%2Fpg&dbname=y&user=v&port=7&password=p");
        for expected in [
            pair("PGHOST", "/run/pg"),
            pair("PGPORT", "7"),
            pair("PGUSER", "v"),
            pair("PGPASSWORD", "p"),
            pair("PGDATABASE", "y"),
        ] {
            assert!(told.contains(&expected), "{expected:?}");
        }
    }

    #[test]
    fn what_is_no_whole_address_is_refused_and_not_echoed() {
        for (url, expected) in [
            ("hunter2", AddressError::Form),
            ("mysql://u:hunter2@h/x", AddressError::Form),
            ("https://u:hunter2@h/x", AddressError::Form),
            ("postgres+psycopg2://u:hunter2@h/x", AddressError::Form),
            ("postgres://u:hunter%2@h/x", AddressError::Form),
            ("postgres://u:%ff@h/x", AddressError::Form),
            ("postgres://", AddressError::Host),
            ("postgres:///x?user=u", AddressError::Host),
            ("postgres://h/x", AddressError::User),
            ("postgres://u@h/x?port=hunter2", AddressError::Number),
            ("postgres://u@h/x?sslmode=hunter2", AddressError::Tls),
        ] {
            let error = DatabaseAddress::parse(url).unwrap_err();
            assert_eq!(error, expected, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter"), "{error}");
        }
        let secret = DatabaseAddress::parse("postgres://u:hunter2@h/x").unwrap();
        assert!(!format!("{secret:?}{secret}").contains("hunter2"));
        assert_eq!(secret.to_string(), "the database x on h, port 5432, as u");
    }
}
