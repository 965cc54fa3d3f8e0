//! The login of a connection: which site, which user, the certificate of TLS or one password, perhaps one
//! question more.
//!
//! Every name is asked for a password; every refusal has the same words and takes the same time at least.
//! Deliberately absent: keys, more than one question (FTP has one word for it, ACCT, and no reply to it that asks).

use std::sync::Arc;
use std::time::Duration;

use session_core::auth::{Credential, Login, Method, Question, Secret, Site, Step, TlsCertificate};
use session_core::error::Result;
use session_core::gate::SessionFs;
use session_core::session::{Identity, Session};
use tokio::time::Instant;

use super::machine::Done;
use super::options::{Hosts, Messages};

pub(super) struct Entrance {
    session: Arc<Session>,
    /// Where logins go now; a host's name may change it.
    site: Arc<dyn Site>,
    home: Arc<dyn Site>,
    hosts: Option<Arc<dyn Hosts>>,
    /// What is said to people here, where it differs from what is said to all.
    messages: Option<Arc<Messages>>,
    login: Option<Login>,
    user: String,
    question: Option<Question>,
    /// What TLS has shown and nobody has judged yet.
    certificate: Option<TlsCertificate>,
    /// A password was good and something more is needed: a new USER begins anew.
    halfway: bool,
    tries: u32,
    rejection: Duration,
}

/// What came of an attempt.
pub(super) enum Attempt {
    In(Identity),
    Answer(Done),
}

impl Entrance {
    pub(super) fn new(
        session: Arc<Session>,
        site: Arc<dyn Site>,
        hosts: Option<Arc<dyn Hosts>>,
        tries: u32,
        rejection: Duration,
    ) -> Self {
        let home = Arc::clone(&site);
        Entrance {
            session,
            site,
            home,
            hosts,
            messages: None,
            login: None,
            user: String::new(),
            question: None,
            certificate: None,
            halfway: false,
            tries,
            rejection,
        }
    }

    /// The site that serves whoever logs in now.
    pub(super) fn site(&self) -> &Arc<dyn Site> {
        &self.site
    }

    /// What is said to people where logins go now, if it differs from what is said to all.
    pub(super) fn messages(&self) -> Option<&Messages> {
        self.messages.as_deref()
    }

    /// Goes to the site of this name; whether there is one that takes the session.
    pub(super) async fn go_to(&mut self, name: &str) -> bool {
        // Without other sites, ours has every name.
        let Some(hosts) = self.hosts.clone() else { return true };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let Some(site) = hosts.site(&name) else { return false };
        if let Err(e) = site.welcome(&self.session).await {
            self.session.note_error(&e);
            return false;
        }
        self.site = site;
        self.messages = hosts.messages(&name);
        self.login = None;
        true
    }

    /// A name to log in with: `user`, `user@site` or `site|user`.
    pub(super) async fn user(&mut self, name: &str) {
        let mut user = name;
        if self.hosts.is_some() {
            if let Some((host, rest)) = name.split_once('|')
                && self.go_to(host).await
            {
                user = rest;
            } else if let Some((rest, host)) = name.rsplit_once('@')
                && self.go_to(host).await
            {
                user = rest;
            }
        }
        self.user = user.to_owned();
        self.question = None;
        self.certificate = None;
        if std::mem::take(&mut self.halfway) {
            self.login = None;
        }
        let user = self.user.clone();
        self.login().begin(&user).await;
    }

    fn login(&mut self) -> &mut Login {
        let (session, site, tries) = (&self.session, &self.site, self.tries);
        self.login.get_or_insert_with(|| Login::new(Arc::clone(session), site.authenticator(), tries))
    }

    /// What the certificate that TLS has shown is worth, before a password is asked for. A certificate that
    /// is not enough has refused nobody; one that is not taken yet may be a factor after the password.
    pub(super) async fn certificate(&mut self, certificate: TlsCertificate) -> Attempt {
        let user = self.user.clone();
        if !self.login().takes_certificate(&user, &certificate).await {
            self.certificate = Some(certificate);
            return Attempt::Answer(Done::Ok);
        }
        let step = self.login().attempt(&user, &Credential::Certificate(certificate)).await;
        Attempt::Answer(match step {
            Step::Accepted(identity) => return Attempt::In(identity),
            Step::Partial(next) => {
                self.halfway = true;
                if next.contains(&Method::Password) { Done::Ok } else { self.ask(&next).await }
            }
            Step::Ask(_) | Step::Rejected(_) | Step::Exhausted => {
                self.tries = self.tries.saturating_sub(1);
                Done::Ok
            }
        })
    }

    /// The one question that may follow; `Rejected` where FTP cannot ask it.
    async fn ask(&mut self, next: &[Method]) -> Done {
        if !next.contains(&Method::Interactive) {
            return Done::Rejected;
        }
        let user = self.user.clone();
        let mut questions = self.login().questions(&user).await;
        if questions.len() == 1 {
            self.question = questions.pop();
        }
        match &self.question {
            Some(question) => Done::NeedsAnswer(question.prompt.clone()),
            None => Done::Rejected,
        }
    }

    pub(super) async fn password(&mut self, password: Secret) -> Attempt {
        self.attempt(Credential::Password(password)).await
    }

    pub(super) async fn answer(&mut self, answer: Secret) -> Attempt {
        match self.question.take() {
            Some(question) => self.attempt(Credential::Answers(vec![(question, answer)])).await,
            None => Attempt::Answer(Done::Rejected),
        }
    }

    async fn attempt(&mut self, credential: Credential) -> Attempt {
        let begun = Instant::now();
        let user = self.user.clone();
        let step = self.login().attempt(&user, &credential).await;
        let done = match step {
            Step::Accepted(identity) => return Attempt::In(identity),
            // RFC 959, 5.4: 332 answers PASS, and never ACCT.
            Step::Ask(question) if credential.method() == Method::Password => {
                self.halfway = true;
                let prompt = question.prompt.clone();
                self.question = Some(question);
                return Attempt::Answer(Done::NeedsAnswer(prompt));
            }
            Step::Ask(_) => Done::Rejected,
            Step::Partial(next) => {
                self.halfway = true;
                if next.contains(&Method::PublicKey)
                    && let Some(certificate) = self.certificate.take()
                {
                    return Box::pin(self.attempt(Credential::Certificate(certificate))).await;
                }
                match self.ask(&next).await {
                    asked @ Done::NeedsAnswer(_) => return Attempt::Answer(asked),
                    other => other,
                }
            }
            Step::Rejected(_) => Done::Rejected,
            Step::Exhausted => Done::Exhausted,
        };
        self.tries = match done {
            Done::Exhausted => 0,
            _ => self.tries.saturating_sub(1),
        };
        tokio::time::sleep_until(begun + self.rejection).await;
        // Another site's login begins with what is left of the tries.
        Attempt::Answer(if self.tries == 0 { Done::Exhausted } else { done })
    }

    pub(super) async fn mount(&self, identity: &Identity) -> Result<SessionFs> {
        self.site.mount(&self.session, identity).await
    }

    /// Nobody is logged in any more, and the site is again that of the connection, if it still has room.
    pub(super) async fn leave(&mut self, tries: u32) {
        if self.session.identity().is_some() {
            self.session.log_out();
            self.tries = tries;
        }
        if !Arc::ptr_eq(&self.site, &self.home) && self.home.welcome(&self.session).await.is_ok() {
            self.site = Arc::clone(&self.home);
            self.messages = None;
        }
        self.login = None;
        self.question = None;
        self.certificate = None;
        self.user.clear();
    }
}
