//! How a server of PostgreSQL is reached: by a URL that names one server and no password, under TLS that judges
//! as every client here does, with errors of ours.
//!
//! For what handlers ask (`crate::hooks`) and for what nodes share (`crate::shared`). Deliberately absent:
//! statements, and when a connection is made anew.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, poll_fn};
use session_core::auth::Secret;
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::{ClientTls, ClientTlsOptions};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What a server says without being asked. Nothing moves unless somebody polls it.
pub(crate) type Messages = BoxStream<'static, std::result::Result<AsyncMessage, tokio_postgres::Error>>;

/// What a URL says; the error says what is wrong. It names one server and no password.
pub(crate) fn url(text: &str) -> Result<Config, String> {
    if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
        return Err("this is no URL of PostgreSQL: postgres://user@host/database".into());
    }
    let config: Config = text.parse().map_err(|_| "this URL cannot be read".to_owned())?;
    if config.get_password().is_some() {
        return Err("a password does not stand here: name a secret with 'password_secret'".into());
    }
    if config.get_hosts().len() != 1 || !config.get_hostaddrs().is_empty() {
        return Err("it names one server: postgres://user@host/database".into());
    }
    if config.get_user().is_none() {
        return Err("it does not say who logs in: postgres://user@host/database".into());
    }
    Ok(config)
}

/// Whether what is said to the server of this URL stays on the machine.
pub(crate) fn is_near(config: &Config) -> bool {
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        }
        Some(_) => true,
        None => false,
    }
}

/// What became of a statement.
pub(crate) fn failed(e: tokio_postgres::Error) -> Error {
    let Some(told) = e.as_db_error() else {
        let kind = if e.is_closed() { ErrorKind::Disconnected } else { ErrorKind::InvalidArgument };
        return Error::new(kind).with_detail("the database did not do it").with_source(e);
    };
    let code = told.code();
    let kind = match code.code().get(..2).unwrap_or_default() {
        "08" | "57" if *code != SqlState::QUERY_CANCELED => ErrorKind::Disconnected,
        "28" => ErrorKind::Unauthenticated,
        "25" => ErrorKind::Refused,
        _ if *code == SqlState::INSUFFICIENT_PRIVILEGE => ErrorKind::Refused,
        _ if *code == SqlState::QUERY_CANCELED => ErrorKind::TimedOut,
        "53" => ErrorKind::Throttled,
        _ => ErrorKind::InvalidArgument,
    };
    let words = format!("the database: {} ({})", told.message(), code.code());
    Error::new(kind).with_detail(words).with_source(e)
}

fn unreached(e: tokio_postgres::Error) -> Error {
    match e.as_db_error() {
        Some(_) => failed(e),
        None => Error::new(ErrorKind::Disconnected)
            .with_detail("the database cannot be reached, or is not believed")
            .with_source(e),
    }
}

/// A way to one server.
pub(crate) struct Way {
    config: Config,
    /// The name in the certificate; `None` in the clear.
    tls: Option<(String, ClientTlsOptions)>,
}

impl Way {
    /// `time` is the most for connecting, and for a statement. A socket in the filesystem has no TLS, whatever
    /// `tls` says.
    pub(crate) fn new(
        mut config: Config,
        password: Option<&Secret>,
        tls: bool,
        authorities: Option<PathBuf>,
        time: Duration,
    ) -> Self {
        if let Some(password) = password {
            config.password(password.expose());
        }
        let host = match config.get_hosts().first() {
            Some(Host::Tcp(host)) => Some(host.clone()),
            _ => None,
        };
        let tls = host.filter(|_| tls).map(|host| {
            let authorities = authorities.into_iter().collect();
            (host, ClientTlsOptions { authorities, ..ClientTlsOptions::default() })
        });
        let more = config.get_options().map(|o| format!("{o} ")).unwrap_or_default();
        config
            .ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .application_name("ferryd")
            .connect_timeout(time)
            .options(format!("{more}-c statement_timeout={}", time.as_millis()));
        Way { config, tls }
    }

    /// A new connection. Errors: `Disconnected`, `Unauthenticated`, those of the files of authorities.
    pub(crate) async fn connect(&self) -> Result<(Client, Messages)> {
        let Some((host, options)) = self.tls.clone() else {
            let (client, mut line) = self.config.connect(NoTls).await.map_err(unreached)?;
            return Ok((client, poll_fn(move |cx| line.poll_message(cx)).boxed()));
        };
        // Reads the system's authorities from disk.
        let tls = tokio::task::spawn_blocking(move || ClientTls::new(&host, 5432, &options));
        let tls = tls.await.map_err(|_| Error::new(ErrorKind::Internal))??;
        let tls = MakeRustlsConnect::new(tls.config());
        let (client, mut line) = self.config.connect(tls).await.map_err(unreached)?;
        Ok((client, poll_fn(move |cx| line.poll_message(cx)).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_one_server_and_no_password() {
        assert!(url("postgres://ferry@db.example:5433/ferry").is_ok());
        assert!(url("postgresql://ferry@%2Frun%2Fpostgresql/ferry").is_ok());
        for bad in [
            "postgres://ferry:hunter2@db.example/ferry",
            "postgres://ferry@a,b/ferry",
            "postgres://db.example/ferry",
            "mysql://ferry@db.example/ferry",
            "host=a user=b",
            "postgres://",
        ] {
            let words = url(bad).unwrap_err();
            assert!(!words.contains("hunter2"), "{words}");
        }
    }

    #[test]
    fn what_stays_on_the_machine_is_told_from_what_leaves_it() {
        for (host, near) in [
            ("localhost", true),
            ("127.0.0.7", true),
            ("[::1]", true),
            ("%2Frun%2Fpostgresql", true),
            ("db.example", false),
            ("localhost.example", false),
            ("192.0.2.1", false),
        ] {
            let config = url(&format!("postgres://ferry@{host}/ferry")).unwrap();
            assert_eq!(is_near(&config), near, "{host}");
        }
    }
}
