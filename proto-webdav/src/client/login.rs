//! Who we are: what a challenge of the server is answered with, and the head of every request.
//!
//! The WebDAV library's client makes the request, with the URL and the header of the login (Basic, RFC 7617;
//! Digest, RFC 7616, with its count of uses); it never sends one: its own way to a first challenge would go
//! past our transport. Over TLS a password is told by Basic, or a token, and what was given is told at once: the
//! server has shown who it is, and being asked takes a round. In the clear nothing is told before the server asks,
//! and a password only by Digest, unless this machine is the server or the caller allows it. A password is asked for
//! once.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT, WWW_AUTHENTICATE};
use reqwest_dav::Auth;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use session_core::auth::Secret;
use session_core::batch::{Answer, Query};
use session_core::error::{Error, ErrorKind, Result};

use super::challenge::{Challenge, parse};
use super::lines::{Head, Lines};
use super::options::WebdavConnectOptions;

/// How a login is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Basic,
    Digest,
    Nobody,
    Token,
}

/// What requests are made with.
#[derive(Clone)]
pub(super) struct Maker {
    pub(super) way: Way,
    dav: Arc<reqwest_dav::Client>,
    token: Option<HeaderValue>,
}

pub(super) struct Login {
    agent: reqwest::Client,
    origin: String,
    user: Option<String>,
    host: String,
    password: Mutex<Option<Secret>>,
    token: Option<Secret>,
    in_the_clear: bool,
    maker: Mutex<Maker>,
}

fn no(words: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Unauthenticated).with_detail(words)
}

fn internal(words: &'static str) -> Error {
    Error::new(ErrorKind::Internal).with_detail(words)
}

impl Login {
    pub(super) fn new(options: &WebdavConnectOptions, origin: String) -> Result<Login> {
        // What makes requests believes nobody and reaches nobody.
        let tls = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let agent = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?;
        let maker = match (&options.token, &options.user, &options.password) {
            (Some(token), ..) if options.secure => Maker {
                way: Way::Token,
                dav: client(&agent, &origin, Auth::Anonymous)?,
                token: Some(bearer(token)?),
            },
            (None, Some(user), Some(password)) if options.secure => {
                by_password(&agent, &origin, user, password)?
            }
            _ => Maker { way: Way::Nobody, dav: client(&agent, &origin, Auth::Anonymous)?, token: None },
        };
        Ok(Login {
            agent,
            origin,
            user: options.user.clone(),
            host: options.host.clone(),
            password: Mutex::new(options.password.clone()),
            token: options.token.clone(),
            in_the_clear: options.secrets_in_the_clear,
            maker: Mutex::new(maker),
        })
    }

    /// What requests are made with now.
    pub(super) fn maker(&self) -> Maker {
        self.maker.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers the challenges of a refused request, which was made with `used`: the next one may be let in.
    /// Errors: `Unauthenticated` where it would not be; `Refused` where the password would be told in the
    /// clear.
    pub(super) async fn answer(&self, headers: &HeaderMap, used: &Maker, lines: &Lines) -> Result<()> {
        let fields = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|v| v.to_str().ok());
        let challenges: Vec<Challenge> = fields.flat_map(parse).collect();
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        let renewed = {
            let now = self.maker();
            // Another request has answered meanwhile.
            now.way != used.way || !Arc::ptr_eq(&now.dav, &used.dav)
        };
        if renewed {
            return Ok(());
        }
        if let Some(token) = &self.token {
            if used.way == Way::Token {
                return Err(no("the token was refused"));
            }
            self.may_tell(lines)?;
            self.set(Maker { way: Way::Token, token: Some(bearer(token)?), ..used.clone() });
            return Ok(());
        }
        let Some(user) = self.user.clone() else {
            return Err(no("the server wants a login and no user was given"));
        };
        // Over TLS Basic first, else Digest.
        let (basic, digest) = (of("basic"), of("digest"));
        if basic.is_some() && (lines.place().secure || digest.is_none()) {
            if used.way == Way::Basic {
                return Err(self.refused(&user));
            }
            self.may_tell(lines)?;
            let password = self.password(lines).await?;
            self.set(by_password(&self.agent, &self.origin, &user, &password)?);
            return Ok(());
        }
        let Some(digest) = digest else {
            let schemes: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
            return Err(no(format!(
                "the server offers no login that is known here ({})",
                schemes.join(", ")
            )));
        };
        if used.way == Way::Digest && !digest.says("stale", "true") {
            return Err(self.refused(&user));
        }
        let password = self.password(lines).await?;
        let dav = client(&self.agent, &self.origin, Auth::Digest(user, password.expose().to_owned()))?;
        let challenge = digest.text.parse().map_err(|_| {
            Error::new(ErrorKind::Unsupported).with_detail("the server's digest challenge is not understood")
        })?;
        *dav.digest_auth.lock().await = Some(challenge);
        self.set(Maker { way: Way::Digest, dav, token: None });
        Ok(())
    }

    fn set(&self, maker: Maker) {
        *self.maker.lock().unwrap_or_else(PoisonError::into_inner) = maker;
    }

    fn refused(&self, user: &str) -> Error {
        no(format!("the login of '{user}' was refused"))
    }

    fn may_tell(&self, lines: &Lines) -> Result<()> {
        if self.in_the_clear || !lines.is_in_the_clear() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Refused)
            .with_detail("the server wants the password in the clear")
            .with_hint("everybody on the way could read it: use davs://, or allow it if that is meant"))
    }

    async fn password(&self, lines: &Lines) -> Result<Secret> {
        let known = self.password.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(known) = known {
            return Ok(known);
        }
        let who = format!("{}@{}", self.user.as_deref().unwrap_or_default(), self.host);
        let answer = match lines.decider() {
            Some(decider) => decider.decide(Query::Password { who }).await,
            None => Answer::Abort,
        };
        let Answer::Secret(secret) = answer else {
            return Err(no("the server wants a password and none was given"));
        };
        *self.password.lock().unwrap_or_else(PoisonError::into_inner) = Some(secret.clone());
        Ok(secret)
    }
}

fn client(agent: &reqwest::Client, origin: &str, auth: Auth) -> Result<Arc<reqwest_dav::Client>> {
    let made = reqwest_dav::ClientBuilder::new()
        .set_agent(agent.clone())
        .set_host(origin.to_owned())
        .set_auth(auth)
        .build();
    // Its errors may show what it was made of.
    Ok(Arc::new(made.map_err(|_| internal("the WebDAV library cannot be set up"))?))
}

/// A token as a login. Errors: `Unauthenticated`.
fn bearer(token: &Secret) -> Result<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
        .map_err(|_| no("the token cannot be sent: it holds a line end"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn by_password(agent: &reqwest::Client, origin: &str, user: &str, password: &Secret) -> Result<Maker> {
    let auth = Auth::Basic(user.to_owned(), password.expose().to_owned());
    Ok(Maker { way: Way::Basic, dav: client(agent, origin, auth)?, token: None })
}

impl Maker {
    /// The head of a request: its URL checked, the login added.
    pub(super) async fn head(
        &self,
        method: &Method,
        target: &str,
        headers: &HeaderMap,
        once: bool,
    ) -> Result<Head> {
        let started = self.dav.start_request(method.clone(), target).await;
        let request = started
            .map_err(|_| internal("the WebDAV library refuses the request"))?
            .headers(headers.clone())
            .build()
            .map_err(|e| Error::new(ErrorKind::InvalidPath).with_source(e.without_url()))?;
        let url = request.url();
        let target = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let mut headers = request.headers().clone();
        headers.insert(USER_AGENT, HeaderValue::from_static("Ferry"));
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.clone());
        }
        Ok(Head { method: method.clone(), target, headers, once })
    }
}
