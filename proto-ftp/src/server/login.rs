//! The login of a connection: which site, which user, one password, perhaps one question more.
//!
//! Every name is asked for a password; every refusal has the same words and takes the same time at least.
//! Deliberately absent: keys, more than one question (FTP has one word for it, ACCT).

use std::sync::Arc;
use std::time::Duration;

use session_core::auth::{Credential, Login, Method, Question, Secret, Site, Step};
use session_core::error::Result;
use session_core::gate::SessionFs;
use session_core::session::{Identity, Session};
use tokio::time::Instant;

use super::machine::Done;
use super::options::Hosts;

pub(super) struct Entrance {
    session: Arc<Session>,
    /// Where logins go now; a host's name may change it.
    site: Arc<dyn Site>,
    home: Arc<dyn Site>,
    hosts: Option<Arc<dyn Hosts>>,
    login: Option<Login>,
    user: String,
    question: Option<Question>,
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
            login: None,
            user: String::new(),
            question: None,
            halfway: false,
            tries,
            rejection,
        }
    }

    /// The site that serves whoever logs in now.
    pub(super) fn site(&self) -> &Arc<dyn Site> {
        &self.site
    }

    fn host(&self, name: &str) -> Option<Arc<dyn Site>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        self.hosts.as_ref()?.site(&name)
    }

    /// Goes to the site of this name; whether there is one.
    pub(super) fn go_to(&mut self, name: &str) -> bool {
        let Some(site) = self.host(name) else {
            // Without other sites, ours has every name.
            return self.hosts.is_none();
        };
        self.site = site;
        self.login = None;
        true
    }

    /// A name to log in with: `user`, `user@site` or `site|user`.
    pub(super) async fn user(&mut self, name: &str) {
        let mut user = name;
        if let Some((host, rest)) = name.split_once('|')
            && let Some(site) = self.host(host)
        {
            (user, self.site) = (rest, site);
            self.login = None;
        } else if let Some((rest, host)) = name.rsplit_once('@')
            && let Some(site) = self.host(host)
        {
            (user, self.site) = (rest, site);
            self.login = None;
        }
        self.user = user.to_owned();
        self.question = None;
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
            Step::Partial(next) if next.contains(&Method::Interactive) => {
                self.halfway = true;
                let mut questions = self.login().questions(&user).await;
                if questions.len() == 1 {
                    self.question = questions.pop();
                }
                match &self.question {
                    Some(question) => return Attempt::Answer(Done::NeedsAnswer(question.prompt.clone())),
                    // FTP cannot ask this.
                    None => Done::Rejected,
                }
            }
            Step::Partial(_) => {
                self.halfway = true;
                Done::Rejected
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

    /// Nobody is logged in any more. `anew`: also forget the site and what was tried.
    pub(super) fn leave(&mut self, tries: u32) {
        if self.session.identity().is_some() {
            self.session.log_out();
            self.tries = tries;
        }
        self.site = Arc::clone(&self.home);
        self.login = None;
        self.question = None;
        self.user.clear();
    }
}
