//! Who sends a request.
//!
//! Credentials are Basic (RFC 7617), a token (RFC 6750), or Digest (RFC 7616) where it is offered. Passwords and
//! tokens are taken over TLS or from this machine alone, unless something else is configured; Digest from
//! everywhere where it is configured so. What is no credential of ours is as good as a wrong one.

use std::sync::Arc;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Response, Uri};
use session_core::auth::{self, Secret};
use session_core::error::{Error, ErrorKind};
use session_core::net::http::{Client, Connection, FailedLogin, Out, Shown};
use session_core::reason::Reason;

use super::digest::{Digest, Judged};
use super::options::Clear;
use super::respond::{Body, Failure, empty};
use super::service::Service;
use crate::wire::digest;

/// Decodes with padding or without: clients do either.
const BASIC: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// An answer instead of a session.
type Refused = Box<Response<Body>>;

/// What `Authorization` holds, unjudged.
enum Offer {
    Password(String, Secret),
    Digest(Box<digest::Credentials>),
    Token(Secret),
    /// Nothing that is known here.
    Strange,
}

impl Offer {
    fn of(field: &[u8]) -> Offer {
        let (scheme, rest) = match field.iter().position(|b| *b == b' ') {
            Some(at) => field.split_at(at),
            None => (field, &[][..]),
        };
        let rest = rest.trim_ascii();
        let offer = match scheme.to_ascii_lowercase().as_slice() {
            b"basic" => basic(rest),
            b"bearer" => token(rest),
            b"digest" => digest::parse(rest).map(|d| Offer::Digest(d.into())),
            _ => None,
        };
        offer.unwrap_or(Offer::Strange)
    }
}

/// In UTF-8 or, as older clients do, in Latin-1.
fn basic(token: &[u8]) -> Option<Offer> {
    let text = match String::from_utf8(BASIC.decode(token).ok()?) {
        Ok(text) => text,
        Err(e) => e.into_bytes().into_iter().map(char::from).collect(),
    };
    let (user, password) = text.split_once(':')?;
    Some(Offer::Password(user.to_owned(), Secret::new(password)))
}

/// `token68` (RFC 9110, section 11.2).
fn token(text: &[u8]) -> Option<Offer> {
    let fits = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(b);
    let text = std::str::from_utf8(text).ok().filter(|t| !t.is_empty() && t.bytes().all(|b| fits(&b)))?;
    Some(Offer::Token(Secret::new(text)))
}

/// Whether an answer was made for this request: the URL in it may be the whole one, of whoever it was asked.
fn is_about(asked: &str, uri: &Uri) -> bool {
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    asked == target || asked.parse::<Uri>().is_ok_and(|u| u.path_and_query().is_some_and(|p| p == target))
}

impl Service {
    /// The session of whoever sends this.
    pub(super) async fn enter(
        &self,
        connection: &Arc<Connection>,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Arc<Client>, Refused> {
        let seen = connection.is_clear() && self.options.clear != Clear::Allow;
        let by_digest = seen && self.options.clear == Clear::Digest;
        if seen && !by_digest {
            return Err(unprotected());
        }
        let software = headers.get(header::USER_AGENT).and_then(|f| f.to_str().ok()).unwrap_or_default();
        let offer = headers.get(header::AUTHORIZATION).map(|field| Offer::of(field.as_bytes()));
        let shown = match offer {
            None if by_digest || self.options.anonymous.is_none() => {
                return Err(self.challenge(connection, empty(401), false).into());
            }
            None => None,
            Some(Offer::Digest(credentials)) => {
                Some(self.answered(connection, method, uri, &credentials, software).await?)
            }
            // What everybody on the way has read.
            Some(Offer::Password(..) | Offer::Token(_)) if by_digest => return Err(unprotected()),
            Some(Offer::Password(user, password)) => Some(Shown::Password(user, password)),
            Some(Offer::Token(token)) => Some(self.owned(connection, token, software).await?),
            Some(Offer::Strange) => return Err(self.rejected(connection)),
        };
        let entered = self.sessions.enter(&self.site, &self.http, connection, shown.as_ref(), software).await;
        entered.map_err(|out| match out {
            Out::Rejected => self.rejected(connection),
            Out::Refused(e) => {
                let code = if e.kind() == ErrorKind::Throttled { Some(503) } else { None };
                Failure { code, ..e.into() }.response().into()
            }
        })
    }

    /// What an answer to a challenge proves.
    async fn answered(
        &self,
        connection: &Arc<Connection>,
        method: &Method,
        uri: &Uri,
        shown: &digest::Credentials,
        software: &str,
    ) -> Result<Shown, Refused> {
        let Some(digest) = &self.digest else { return Err(self.rejected(connection)) };
        if shown.realm != self.options.realm || !is_about(&shown.uri, uri) {
            return Err(self.rejected(connection));
        }
        let keys = self.site.authenticator().digest_keys(&shown.user, &shown.realm).await;
        match digest.judge(shown, method.as_str(), &keys) {
            Judged::Good(key) => Ok(Shown::Digest(shown.user.clone(), key)),
            Judged::Stale => Err(self.challenge(connection, empty(401), true).into()),
            Judged::Wrong => {
                let (method, words) = (auth::Method::Password, "the answer to the challenge is wrong");
                let failed = FailedLogin { user: &shown.user, method, words, software };
                Err(self.failed_login(connection, failed).await)
            }
        }
    }

    /// Whose a token is.
    async fn owned(
        &self,
        connection: &Arc<Connection>,
        token: Secret,
        software: &str,
    ) -> Result<Shown, Refused> {
        match self.site.authenticator().token_owner(&token).await {
            Some(user) => Ok(Shown::Token(user.to_string(), token)),
            None => {
                let (method, words) = (auth::Method::Token, "no such token");
                Err(self.failed_login(connection, FailedLogin { user: "", method, words, software }).await)
            }
        }
    }

    /// A login that failed before anybody's account was asked is told to the site all the same.
    async fn failed_login(&self, connection: &Arc<Connection>, failed: FailedLogin<'_>) -> Refused {
        self.sessions.reject(&self.site, &self.http, connection, failed).await;
        self.rejected(connection)
    }

    fn rejected(&self, connection: &Arc<Connection>) -> Refused {
        if connection.failed() >= self.options.tries {
            connection.finish.cancel();
        }
        self.challenge(connection, empty(401), false).into()
    }

    /// Tells how to log in, in place of that answer.
    pub(super) fn challenge(
        &self,
        connection: &Connection,
        mut response: Response<Body>,
        stale: bool,
    ) -> Response<Body> {
        *response.status_mut() = hyper::StatusCode::UNAUTHORIZED;
        let realm = &self.options.realm;
        let digest = self.digest.iter().flat_map(|d: &Digest| d.challenges(realm, stale));
        let protected = !connection.is_clear() || self.options.clear == Clear::Allow;
        let basic = protected.then(|| format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        for words in digest.chain(basic) {
            if let Ok(value) = HeaderValue::from_str(&words) {
                response.headers_mut().append(header::WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

fn unprotected() -> Refused {
    let e = Error::refused("logins need a protected connection").because(Reason::CredentialsTlsRequired);
    Failure::from(e.with_hint("use https")).response().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(field: &str) -> Option<(String, String)> {
        match Offer::of(field.as_bytes()) {
            Offer::Password(user, password) => Some((user, password.expose().to_owned())),
            _ => None,
        }
    }

    #[test]
    fn basic_is_read_in_utf8_and_in_latin1() {
        let pair = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(shown("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), pair("Aladdin", "open sesame"));
        assert_eq!(shown("basic  QWxhZGRpbjpvcGVuIHNlc2FtZQ"), pair("Aladdin", "open sesame"));
        let encode = |bytes: &[u8]| format!("Basic {}", BASIC.encode(bytes));
        assert_eq!(shown(&encode("ä:ö:ü".as_bytes())), pair("ä", "ö:ü"));
        assert_eq!(shown(&encode(b"\xe4:\xf6")), pair("ä", "ö"));
        assert_eq!(shown(&encode(b":")), pair("", ""));
        for bad in ["", "Basic", "Basic ", "Basic !", "Bearer abc", &encode(b"nocolon"), "Digest x"] {
            assert_eq!(shown(bad), None, "{bad}");
        }
    }

    #[test]
    fn tokens_are_words_and_urls_are_those_of_the_request() {
        let token = |field: &str| matches!(Offer::of(field.as_bytes()), Offer::Token(_));
        assert!(token("Bearer a-b_c.d~e+/=") && token("bearer  abc"));
        for bad in ["Bearer", "Bearer ", "Bearer a b", "Bearer \u{e4}", "Bearer,abc"] {
            assert!(!token(bad), "{bad}");
        }
        let uri: Uri = "/a%20b?c=d".parse().unwrap();
        for good in ["/a%20b?c=d", "http://x/a%20b?c=d"] {
            assert!(is_about(good, &uri), "{good}");
        }
        for bad in ["/a%20b", "/", "", "http://x/", "*"] {
            assert!(!is_about(bad, &uri), "{bad}");
        }
    }
}
