//! What is configured of TLS and of FTP.
//!
//! Deliberately absent: reading certificates and opening sockets (`crate::listen`).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use proto_ftp::server as ftp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use session_core::net::server_tls::{ClientCertificates, MinimumTls};

use super::values;

/// The TLS of every listener that speaks it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// The certificate and those above it, PEM. Empty: one that the server makes for itself.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
    /// Further certificates, chosen by the name that a client asks for.
    pub more: Vec<CertificateFiles>,
    /// The names in a certificate that the server makes for itself, besides `localhost` and 127.0.0.1.
    pub names: Vec<String>,
    /// Whether clients show certificates.
    pub client_certificates: Clients,
    /// The authorities that theirs must chain to, PEM.
    pub client_authorities: PathBuf,
    /// The oldest version.
    pub minimum: Minimum,
}

/// A certificate with its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct CertificateFiles {
    /// The certificate and those above it, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

words! {
    /// Whether clients show certificates.
    Clients {
        /// They are not asked.
        #[default]
        Off,
        /// They may.
        Allow,
        /// They must.
        Require,
    }
    /// Whether FTP's control connection is protected.
    Control {
        /// As the client likes.
        Allow,
        /// Nothing is served before TLS.
        #[default]
        Require,
        /// No name and password before TLS.
        RequireCredentials,
    }
    /// Whether FTP's data connections are protected.
    Data {
        /// As the client likes.
        Allow,
        /// Never.
        Deny,
        /// Always.
        #[default]
        Require,
    }
}

/// The oldest version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Minimum {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

impl Tls {
    /// Whose certificates of clients are taken.
    pub fn clients(&self) -> ClientCertificates {
        match self.client_certificates {
            Clients::Off => ClientCertificates::Off,
            Clients::Allow => ClientCertificates::Allow(self.client_authorities.clone()),
            Clients::Require => ClientCertificates::Require(self.client_authorities.clone()),
        }
    }

    /// The oldest version, in the model's word.
    pub fn minimum(&self) -> MinimumTls {
        match self.minimum {
            Minimum::V12 => MinimumTls::V12,
            Minimum::V13 => MinimumTls::V13,
        }
    }
}

/// How FTP is served; see [`proto_ftp::server::FtpServerOptions`] for what each comes to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ftp {
    /// Whether the control connection is protected.
    pub control: Control,
    /// Whether data connections are protected.
    pub data: Data,
    /// A protected data connection must resume its control connection's TLS session.
    pub require_session_reuse: bool,
    /// An upload whose end was not confirmed under TLS is not published.
    pub strict_tls_eof: bool,
    /// Ports for clients to connect to, `50000-50999`; without it the system chooses.
    #[serde(deserialize_with = "ports")]
    pub passive_ports: Option<RangeInclusive<u16>>,
    /// The IPv4 address, or a name for it, that clients are told to connect to.
    #[serde(deserialize_with = "address")]
    pub passive_address: Option<ftp::PassiveAddress>,
    /// Another one for clients of these networks; an empty text: the address that they came to.
    #[serde(deserialize_with = "addresses")]
    pub passive_addresses: Vec<(IpNet, Option<ftp::PassiveAddress>)>,
    /// How long a port waits for its client.
    #[serde(deserialize_with = "values::duration")]
    pub passive_time: Duration,
    /// Whether the server connects to clients (PORT).
    pub active: bool,
    /// Whether data may come from or go to a third party (copies between two servers).
    pub foreign_data: bool,
    /// Proxies that must say, by the PROXY protocol, who is behind them.
    #[serde(deserialize_with = "values::networks")]
    pub proxies: Vec<IpNet>,
    /// How long nothing may move on a data connection.
    #[serde(deserialize_with = "values::duration")]
    pub data_time: Duration,
    /// The least bytes per second of a transfer; 0 for none.
    pub minimum_rate: u64,
    /// The greeting.
    pub banner: String,
    /// What is said after a login.
    pub welcome: String,
    /// What is said after QUIT.
    pub exit: String,
    /// What is said to a client for which there is no room.
    pub limit: String,
    /// Whether compressed transfers are offered.
    pub mode_z: bool,
    /// Whether texts get the line ends of the network.
    pub ascii: bool,
}

impl Default for Ftp {
    fn default() -> Self {
        let options = ftp::FtpServerOptions::default();
        Ftp {
            control: Control::default(),
            data: Data::default(),
            require_session_reuse: options.require_session_reuse,
            strict_tls_eof: options.strict_tls_eof,
            passive_ports: None,
            passive_address: None,
            passive_addresses: Vec::new(),
            passive_time: options.passive.time,
            active: options.active,
            foreign_data: options.foreign_data,
            proxies: Vec::new(),
            data_time: options.data_time,
            minimum_rate: options.minimum_rate,
            banner: options.messages.banner,
            welcome: options.messages.welcome,
            exit: options.messages.exit,
            limit: options.messages.limit,
            mode_z: options.mode_z,
            ascii: options.ascii,
        }
    }
}

impl Ftp {
    /// The server's options, as far as they are configured here.
    pub fn options(&self) -> ftp::FtpServerOptions {
        ftp::FtpServerOptions {
            control_policy: match self.control {
                Control::Allow => ftp::ControlPolicy::Allow,
                Control::Require => ftp::ControlPolicy::Require,
                Control::RequireCredentials => ftp::ControlPolicy::RequireCredentials,
            },
            data_policy: match self.data {
                Data::Allow => ftp::DataPolicy::Allow,
                Data::Deny => ftp::DataPolicy::Deny,
                Data::Require => ftp::DataPolicy::Require,
            },
            require_session_reuse: self.require_session_reuse,
            strict_tls_eof: self.strict_tls_eof,
            passive: ftp::PassiveOptions {
                ports: self.passive_ports.clone(),
                address: self.passive_address.clone(),
                addresses: self.passive_addresses.clone(),
                time: self.passive_time,
            },
            active: self.active,
            foreign_data: self.foreign_data,
            trusted_proxies: self.proxies.clone(),
            data_time: self.data_time,
            minimum_rate: self.minimum_rate,
            messages: ftp::Messages {
                banner: self.banner.clone(),
                welcome: self.welcome.clone(),
                exit: self.exit.clone(),
                limit: self.limit.clone(),
            },
            mode_z: self.mode_z,
            ascii: self.ascii,
            ..ftp::FtpServerOptions::default()
        }
    }
}

fn ports<'de, D: Deserializer<'de>>(d: D) -> Result<Option<RangeInclusive<u16>>, D::Error> {
    let text = String::deserialize(d)?;
    let bad = || D::Error::custom(format!("'{text}' is no range of ports: write 50000-50999"));
    let (from, to) = text.split_once('-').ok_or_else(bad)?;
    let port = |p: &str| p.trim().parse::<u16>().ok().filter(|p| *p != 0).ok_or_else(bad);
    let (from, to) = (port(from)?, port(to)?);
    if from > to { Err(bad()) } else { Ok(Some(from..=to)) }
}

fn parse_address(text: &str) -> Result<Option<ftp::PassiveAddress>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|e: session_core::error::Error| e.peer_words().to_owned())
}

fn address<'de, D: Deserializer<'de>>(d: D) -> Result<Option<ftp::PassiveAddress>, D::Error> {
    parse_address(&String::deserialize(d)?).map_err(D::Error::custom)
}

fn addresses<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(IpNet, Option<ftp::PassiveAddress>)>, D::Error> {
    let pairs = BTreeMap::<String, String>::deserialize(d)?;
    let pair = |(network, address): (&String, &String)| {
        Ok((values::parse_network(network)?, parse_address(address)?))
    };
    pairs.iter().map(pair).collect::<Result<_, String>>().map_err(D::Error::custom)
}
