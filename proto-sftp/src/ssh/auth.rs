//! SSH's login (RFC 4252, 4256) in terms of [`Login`]: what arrives becomes a credential, what is decided
//! becomes an answer.
//!
//! A key counts when it has signed, never when it is offered. A certificate must be for a user, in its
//! validity by the session's clock and signed with something better than SHA-1; who its authority is and
//! for whom it is good, the authenticator says. Questions are asked one by one and judged together, so
//! that nothing tells which answer was wrong; a question that follows from answers is asked like them.
//! Deliberately absent: `none` as a way in, changing of
//! passwords, host-based login, GSSAPI.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use russh::keys::ssh_key::certificate::CertType;
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use russh::server::Auth;
use russh::{MethodKind, MethodSet};
use session_core::auth::{
    Authenticator, Credential, Login, Method, Question, Secret, SignedKey, Step, UserCertificate,
};
use session_core::error::{Error, ErrorKind, Result};
use session_core::session::{Identity, Session};

/// The longest user name that is looked at, bytes.
const LONGEST_NAME: usize = 255;
/// Keys that may be offered in one connection without signing.
const MOST_OFFERS: u32 = 64;

/// What came of an attempt.
pub(crate) enum Outcome {
    /// The answer to send.
    Answer(Auth),
    /// No more tries: the connection ends.
    Exhausted,
}

/// One connection's login.
pub(crate) struct Dialogue {
    session: Arc<Session>,
    login: Login,
    identity: Option<Identity>,
    asked: Option<Asked>,
    offers: u32,
}

struct Asked {
    user: String,
    questions: Vec<Question>,
    answers: Vec<Secret>,
}

fn methods(of: Vec<Method>) -> MethodSet {
    let kinds: Vec<MethodKind> = of
        .into_iter()
        .filter_map(|m| match m {
            Method::Interactive => Some(MethodKind::KeyboardInteractive),
            Method::AccessKey | Method::None | Method::Token => None,
            Method::Password => Some(MethodKind::Password),
            Method::PublicKey => Some(MethodKind::PublicKey),
        })
        .collect();
    MethodSet::from(kinds.as_slice())
}

fn reject(of: Vec<Method>, partial_success: bool) -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods(of)), partial_success }
}

impl Dialogue {
    pub(crate) fn new(session: Arc<Session>, authenticator: Arc<dyn Authenticator>, tries: u32) -> Self {
        let login = Login::new(Arc::clone(&session), authenticator, tries);
        Dialogue { session, login, identity: None, asked: None, offers: 0 }
    }

    /// Who logged in.
    pub(crate) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    fn named(user: &str) -> Result<()> {
        if user.len() > LONGEST_NAME {
            return Err(Error::new(ErrorKind::PeerMisbehaved).with_detail("a user name without end"));
        }
        Ok(())
    }

    fn answer(&mut self, step: Step) -> Outcome {
        Outcome::Answer(match step {
            Step::Accepted(identity) => {
                self.identity = Some(identity);
                Auth::Accept
            }
            Step::Partial(next) => reject(next, true),
            Step::Rejected(next) => reject(next, false),
            // Asked for anything but answers (`interactive`), where SSH has no place for it.
            Step::Ask(_) => Auth::reject(),
            Step::Exhausted => return Outcome::Exhausted,
        })
    }

    /// The probe that tells a client the methods.
    pub(crate) async fn none(&mut self, user: &str) -> Result<Outcome> {
        Self::named(user)?;
        self.login.begin(user).await;
        Ok(Outcome::Answer(reject(self.login.methods().await, false)))
    }

    pub(crate) async fn password(&mut self, user: &str, password: &str) -> Result<Outcome> {
        Self::named(user)?;
        let credential = Credential::Password(Secret::new(password));
        let step = self.login.attempt(user, &credential).await;
        Ok(self.answer(step))
    }

    /// Whether a key is worth a signature.
    pub(crate) async fn offered(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Result<Outcome> {
        Self::named(user)?;
        self.offers += 1;
        if self.offers > MOST_OFFERS {
            return Ok(Outcome::Exhausted);
        }
        let worth = accepted(algorithm) && {
            let key = signed_key(key, algorithm)?;
            self.login.may_offer(user, &key).await
        };
        if worth {
            return Ok(Outcome::Answer(Auth::Accept));
        }
        self.login.begin(user).await;
        Ok(Outcome::Answer(reject(self.login.methods().await, false)))
    }

    /// A key that signed.
    pub(crate) async fn key(
        &mut self,
        user: &str,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Result<Outcome> {
        Self::named(user)?;
        let step = if accepted(algorithm) {
            let credential = Credential::Key(signed_key(key, algorithm)?);
            self.login.attempt(user, &credential).await
        } else {
            self.login.fail(user, Method::PublicKey, "a signature with SHA-1").await
        };
        Ok(self.answer(step))
    }

    /// A certificate whose key signed. russh has checked the authority's signature, and the validity by
    /// the machine's clock.
    pub(crate) async fn certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Outcome> {
        Self::named(user)?;
        let step = match self.judge(certificate) {
            Ok(facts) => {
                let key = PublicKey::new(certificate.public_key().clone(), "");
                let mut signed = signed_key(&key, &certificate.algorithm())?;
                signed.algorithm = certificate.algorithm().to_certificate_type();
                signed.certificate = Some(facts);
                self.login.attempt(user, &Credential::Key(signed)).await
            }
            Err(reason) => self.login.fail(user, Method::PublicKey, reason).await,
        };
        Ok(self.answer(step))
    }

    /// The facts of a certificate that may speak for a user at all.
    fn judge(&self, certificate: &Certificate) -> Result<UserCertificate, &'static str> {
        let now = self.session.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if certificate.cert_type() != CertType::User {
            return Err("the certificate is not for a user");
        }
        if now < certificate.valid_after() {
            return Err("the certificate is not valid yet");
        }
        if now >= certificate.valid_before() {
            return Err("the certificate has expired");
        }
        if !accepted(&certificate.signature().algorithm()) {
            return Err("the certificate is signed with SHA-1");
        }
        if certificate.verify_signature().is_err() {
            return Err("the certificate's signature is wrong");
        }
        let mut source_address = None;
        let mut unknown_critical = Vec::new();
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "source-address" => source_address = Some(value.clone()),
                // There is nothing else to run here.
                "force-command" if value.split(' ').next() == Some("internal-sftp") => {}
                _ => unknown_critical.push(name.clone()),
            }
        }
        let authority = PublicKey::new(certificate.signature_key().clone(), "");
        Ok(UserCertificate {
            authority: authority.to_openssh().map_err(|_| "the certificate's authority has no form")?,
            principals: certificate.valid_principals().to_vec(),
            key_id: certificate.key_id().to_owned(),
            serial: certificate.serial(),
            source_address,
            unknown_critical,
        })
    }

    /// A step of an interactive login: `answers` is `None` at its beginning.
    pub(crate) async fn interactive(&mut self, user: &str, answers: Option<Vec<Vec<u8>>>) -> Result<Outcome> {
        Self::named(user)?;
        let Some(answers) = answers else {
            self.asked = None;
            let questions = self.login.questions(user).await;
            if questions.is_empty() {
                return Ok(Outcome::Answer(reject(self.login.methods().await, false)));
            }
            let asked = Asked { user: user.to_owned(), questions, answers: Vec::new() };
            return Ok(self.ask(asked));
        };
        let Some(mut asked) = self.asked.take().filter(|a| a.user == user) else {
            return Ok(Outcome::Answer(reject(self.login.methods().await, false)));
        };
        let answer = match <[Vec<u8>; 1]>::try_from(answers).map(|[one]| String::from_utf8(one)) {
            Ok(Ok(answer)) => answer,
            _ => {
                let step = self.login.fail(user, Method::Interactive, "no answer to the question").await;
                return Ok(self.answer(step));
            }
        };
        asked.answers.push(Secret::new(answer));
        if asked.answers.len() < asked.questions.len() {
            return Ok(self.ask(asked));
        }
        let pairs = asked.questions.into_iter().zip(asked.answers).collect();
        match self.login.attempt(user, &Credential::Answers(pairs)).await {
            Step::Ask(next) => {
                let asked = Asked { user: user.to_owned(), questions: vec![next], answers: Vec::new() };
                Ok(self.ask(asked))
            }
            step => Ok(self.answer(step)),
        }
    }

    /// Asks the next question, alone: a lone prompt is one that clients answer with a saved password.
    fn ask(&mut self, asked: Asked) -> Outcome {
        let prompts = asked
            .questions
            .get(asked.answers.len())
            .map(|q| (Cow::Owned(q.prompt.clone()), q.echo))
            .into_iter()
            .collect::<Vec<_>>();
        self.asked = Some(asked);
        Outcome::Answer(Auth::Partial {
            name: Cow::Borrowed(""),
            instructions: Cow::Borrowed(""),
            prompts: Cow::Owned(prompts),
        })
    }
}

/// Whether a signature of this kind counts: everything but SHA-1 and DSA.
fn accepted(algorithm: &Algorithm) -> bool {
    !matches!(algorithm, Algorithm::Rsa { hash: None } | Algorithm::Dsa)
}

fn signed_key(key: &PublicKey, algorithm: &Algorithm) -> Result<SignedKey> {
    let bare = PublicKey::new(key.key_data().clone(), "");
    let openssh = bare.to_openssh().map_err(|e| {
        Error::new(ErrorKind::PeerMisbehaved).with_detail("a key that has no form").with_source(e)
    })?;
    Ok(SignedKey {
        algorithm: algorithm.as_str().to_owned(),
        fingerprint: bare.fingerprint(HashAlg::Sha256).to_string(),
        openssh,
        certificate: None,
    })
}
