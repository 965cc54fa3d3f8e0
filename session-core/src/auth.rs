//! Authentication: credentials, questions, outcomes, and `Login`, the one way into a session.
//!
//! Decided from the key that signed, never from one that was only offered; one user name per login;
//! tries bounded; several factors in turn; every refusal looks the same to the client. A protocol's
//! server half drives a [`Login`]; who the users are is the [`Authenticator`]'s business. Where that is a
//! conversation of somebody else's ([`Asker`]), each answer may bring the next question, so many and no more.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::event::What;
use crate::lifecycle::{Lifecycle, Verdict};
use crate::path::VPath;
use crate::reason::Reason;
use crate::session::{Identity, Session};

/// A secret string: never shown, wiped when dropped as far as the language allows.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: impl Into<String>) -> Self {
        Secret(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        std::hint::black_box(&bytes);
    }
}

/// A way to prove who one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// A key of an account that programs sign their requests with (S3). Never one factor of several.
    AccessKey,
    /// Questions and answers (RFC 4256).
    Interactive,
    /// No proof at all; only ever a probe, or an anonymous login.
    None,
    /// A password.
    Password,
    /// A key or a certificate that signed.
    PublicKey,
    /// A token of an account that programs show as it is (RFC 6750). Never one factor of several.
    Token,
}

impl Method {
    /// The SSH name (RFC 4252), used in configuration and logs on every protocol.
    pub fn name(self) -> &'static str {
        match self {
            Method::AccessKey => "accesskey",
            Method::Interactive => "keyboard-interactive",
            Method::None => "none",
            Method::Password => "password",
            Method::PublicKey => "publickey",
            Method::Token => "token",
        }
    }

    /// The method called `name`, of those that can be a factor.
    pub fn parse(name: &str) -> Option<Self> {
        [Method::Interactive, Method::None, Method::Password, Method::PublicKey]
            .into_iter()
            .find(|m| m.name() == name)
    }
}

/// Questions of one login that follow from answers to those before; more are not asked.
const MOST_FOLLOWING: u32 = 16;

/// Somebody who judges in a conversation: what is asked next depends on what was answered.
#[async_trait]
pub trait Asker: Send + Sync {
    /// Takes the answer to its last question, from the user it asks.
    async fn hear(&self, user: &str, answer: &Secret) -> Heard;
}

/// What an [`Asker`] makes of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The user is who it says; this proves its password, and whatever else was asked.
    Yes,
    /// It is not.
    No,
    /// It cannot be said yet: this is asked next.
    Ask(Question),
}

/// Whose question it is. It ends with the last of its questions: nothing waits for an answer that never comes.
#[derive(Clone)]
pub struct Asked(pub Arc<dyn Asker>);

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Asked(…)")
    }
}

impl PartialEq for Asked {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// How the answer to a question is judged.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// By whoever asked it.
    Asked(Asked),
    /// It must be equal to this.
    Equals(Secret),
    /// It is the account's password.
    Password,
    /// It is a one-time code of the account (RFC 6238).
    Totp,
}

/// One question of an interactive login.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// What the user reads.
    pub prompt: String,
    /// Whether typing is shown.
    pub echo: bool,
    /// How the answer is judged.
    pub check: Check,
}

/// A key that signed the session, or the certificate that vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedKey {
    /// The algorithm's SSH name.
    pub algorithm: String,
    /// `SHA256:…` of the key that signed.
    pub fingerprint: String,
    /// The public key in OpenSSH's one-line form, without comment.
    pub openssh: String,
    /// The certificate, where one was offered: already found to be signed by `authority`, in its
    /// validity, for a user.
    pub certificate: Option<UserCertificate>,
}

/// The facts of an OpenSSH user certificate that the account must agree to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCertificate {
    /// The CA's public key in OpenSSH's one-line form.
    pub authority: String,
    /// Names it is good for; empty means none.
    pub principals: Vec<String>,
    /// The key id, for the log.
    pub key_id: String,
    /// The serial number, for the log.
    pub serial: u64,
    /// `source-address` of the critical options.
    pub source_address: Option<String>,
    /// Critical options that are not understood: any one refuses the login.
    pub unknown_critical: Vec<String>,
}

/// A certificate that a TLS client showed (RFC 5280): already found to chain to an authority that the
/// server trusts for clients, to be in its validity, and to be the client's own. Whose it is the account
/// says: by the fingerprint, or by a name in it where the authority gives each name to one person only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsCertificate {
    /// The subject, for people: `CN=alice, O=Example`.
    pub subject: String,
    /// The issuer, for people.
    pub issuer: String,
    /// The subject's common name; `None` where there is none, or more than one.
    pub common_name: Option<String>,
    /// Alternative names: mail addresses and user principal names.
    pub names: Vec<String>,
    /// SHA-256 of the certificate.
    pub sha256: [u8; 32],
}

impl TlsCertificate {
    /// The SHA-256 in pairs of hexadecimal digits with colons between them.
    pub fn fingerprint(&self) -> String {
        let pairs: Vec<_> = self.sha256.iter().map(|b| format!("{b:02x}")).collect();
        pairs.join(":")
    }

    /// Whether it was made for this very name: as its common name or one of its alternative names.
    pub fn is_for(&self, name: &str) -> bool {
        !name.is_empty()
            && (self.common_name.as_deref() == Some(name) || self.names.iter().any(|n| n == name))
    }
}

/// A proof, as offered.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// The id of an access key. Whoever offers it has verified a signature by its secret, which
    /// [`Authenticator::access_key`] told.
    AccessKey(Arc<str>),
    /// Questions with their answers, in order.
    Answers(Vec<(Question, Secret)>),
    /// The certificate of a TLS client. Its method is that of a key that signed.
    Certificate(TlsCertificate),
    /// What the account keeps for Digest (RFC 7616), as [`DigestKeys`] has it. Whoever offers it has verified an
    /// answer that was made with it: it proves the password, without showing it.
    Digest(Secret),
    /// A key that signed.
    Key(SignedKey),
    /// A password.
    Password(Secret),
    /// A token of the account, as it was shown.
    Token(Secret),
}

impl Credential {
    /// Whether it proves the password and nothing else, be it by questions.
    pub fn is_password_only(&self) -> bool {
        match self {
            Credential::Answers(answers) => {
                !answers.is_empty()
                    && answers.iter().all(|(q, _)| matches!(q.check, Check::Asked(_) | Check::Password))
            }
            Credential::Digest(_) | Credential::Password(_) => true,
            _ => false,
        }
    }

    /// Its method.
    pub fn method(&self) -> Method {
        match self {
            Credential::AccessKey(_) => Method::AccessKey,
            Credential::Answers(_) => Method::Interactive,
            Credential::Certificate(_) | Credential::Key(_) => Method::PublicKey,
            Credential::Digest(_) | Credential::Password(_) => Method::Password,
            Credential::Token(_) => Method::Token,
        }
    }
}

/// Who someone is, once proven.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// The account's name, as configured (not as typed).
    pub name: Arc<str>,
    /// Shown as `<Anonymous>` in live sessions.
    pub anonymous: bool,
    /// Several people use it: what is parked belongs to a session, not to the account.
    pub shared: bool,
    /// Its groups.
    pub groups: Vec<Arc<str>>,
    /// How many sessions it may have at once, besides what its site says; 0 for no limit of its own.
    pub max_sessions: usize,
    /// Where relative paths begin.
    pub home: VPath,
    /// Where its root lies on disk, for hooks and the log; never told to a client.
    pub root: Option<Arc<std::path::Path>>,
    /// Free values for hooks.
    pub custom: BTreeMap<String, String>,
}

impl Account {
    /// An account of this name, all else empty.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Account {
            name: name.into(),
            anonymous: false,
            shared: false,
            groups: Vec::new(),
            max_sessions: 0,
            home: VPath::root(),
            root: None,
            custom: BTreeMap::new(),
        }
    }
}

/// What an authenticator says of one proof.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It cannot be said before this is answered, too. Only of answers and, where the protocol can ask behind it, of
    /// a password.
    Ask(Question),
    /// The proof is good and it is enough.
    Complete(Account),
    /// The proof is good; one of these must follow.
    More(Vec<Method>),
    /// The proof is not good. The reason is for the log only.
    Rejected(Arc<str>),
    /// The account may not log in now, whatever the proof; the client hears the same as for a proof that is
    /// not good. The words are for the log only.
    Barred(Reason, Arc<str>),
}

/// Who the users are.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// The methods that a client may try. The same for a user that does not exist.
    async fn methods(&self, session: &Arc<Session>, user: &str) -> Vec<Method>;

    /// The questions to begin with; empty refuses interactive login.
    async fn questions(&self, session: &Arc<Session>, user: &str) -> Vec<Question>;

    /// The questions to go on with, when factors were passed before.
    async fn more_questions(&self, session: &Arc<Session>, user: &str, passed: &[Method]) -> Vec<Question> {
        let _ = passed;
        self.questions(session, user).await
    }

    /// Judges one proof, with the methods passed before. Takes the same time and gives the same words
    /// for a user that does not exist.
    async fn verify(
        &self,
        session: &Arc<Session>,
        user: &str,
        credential: &Credential,
        passed: &[Method],
    ) -> Proof;

    /// The account of a user that a hook vouches for; `None` if there is none by that name.
    async fn vouched(&self, session: &Arc<Session>, user: &str) -> Option<Account>;

    /// Makes room for a login whose proof was good, where sessions are counted beyond this server's table; what is
    /// made lasts until the session is over or logged out. Errors: `Throttled` where there is none: the login fails.
    /// The default counts nowhere else.
    async fn make_room(&self, session: &Arc<Session>, account: &Account) -> Result<()> {
        let _ = (session, account);
        Ok(())
    }

    /// Whether a key may be tried at all, before it signs anything. Must not tell whether the user
    /// exists: the answer for an unknown user is `true`.
    async fn may_offer(&self, session: &Arc<Session>, user: &str, key: &SignedKey) -> bool {
        let _ = (session, user, key);
        true
    }

    /// The access key of this id, for a protocol that verifies signatures. Nobody is let in by it: that is
    /// judged by `verify`. The default has none.
    async fn access_key(&self, id: &str) -> Option<AccessKey> {
        let _ = id;
        None
    }

    /// What answers of this user to Digest are verified by, where it has that for this realm. Nobody is let in by it:
    /// that is judged by `verify`. Must take the same time for a user that does not exist. The default has none.
    async fn digest_keys(&self, user: &str, realm: &str) -> DigestKeys {
        let _ = (user, realm);
        DigestKeys::default()
    }

    /// Whose this token says it is. Nobody is let in by it: that is judged by `verify`. The default knows none.
    async fn token_owner(&self, token: &Secret) -> Option<Arc<str>> {
        let _ = token;
        None
    }

    /// Whether this certificate is to be tried for this user, before a password is asked for. A client
    /// shows its certificate to get TLS, not to log in: a no costs it no try. The default takes none.
    async fn takes_certificate(
        &self,
        session: &Arc<Session>,
        user: &str,
        certificate: &TlsCertificate,
    ) -> bool {
        let _ = (session, user, certificate);
        false
    }
}

/// A key that programs sign requests with: whose it is, and what they share with us.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The account's name.
    pub user: Arc<str>,
    /// The shared secret.
    pub secret: Secret,
}

/// What an account keeps for Digest: the hash of name, realm and password (RFC 7616, section 3.4.2, `H(A1)`), in
/// hexadecimal digits of lower case, by the algorithm. As good as the password where Digest is spoken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DigestKeys {
    /// By MD5.
    pub md5: Option<Secret>,
    /// By SHA-256.
    pub sha256: Option<Secret>,
}

/// The answer to one attempt.
#[derive(Debug)]
pub enum Step {
    /// Logged in.
    Accepted(Identity),
    /// Neither: this is to be asked, and its answer is the next attempt. A protocol that cannot ask takes it for a no.
    Ask(Question),
    /// Good, and one of these must follow.
    Partial(Vec<Method>),
    /// Not good; these may be tried.
    Rejected(Vec<Method>),
    /// Not good, and no more tries.
    Exhausted,
}

/// One login of one session.
pub struct Login {
    session: Arc<Session>,
    authenticator: Arc<dyn Authenticator>,
    user: Option<Arc<str>>,
    refused: bool,
    passed: Vec<Method>,
    tries_left: u32,
    following: u32,
}

impl Login {
    /// A login with at most `tries` failed attempts.
    pub fn new(session: Arc<Session>, authenticator: Arc<dyn Authenticator>, tries: u32) -> Self {
        session.authenticating();
        Login {
            session,
            authenticator,
            user: None,
            refused: false,
            passed: Vec::new(),
            tries_left: tries,
            following: 0,
        }
    }

    /// Fixes the user name and asks whether this user may try. Another name after a passed factor, or
    /// a name that hooks refuse, makes every later attempt fail.
    pub async fn begin(&mut self, user: &str) {
        if self.user.as_deref() == Some(user) {
            return;
        }
        if self.user.is_some() && !self.passed.is_empty() {
            self.refused = true;
            return;
        }
        self.user = Some(user.into());
        self.session.set_requested_user(user);
        let verdict = self.session.decide(Lifecycle::AuthRequest { user }).await;
        self.refused = matches!(verdict, Verdict::Refuse(_));
        let allowed = !self.refused;
        self.session.decide(Lifecycle::AuthRequestResult { user, allowed }).await;
    }

    /// The methods that remain.
    pub async fn methods(&self) -> Vec<Method> {
        let user = self.user.as_deref().unwrap_or_default();
        let all = self.authenticator.methods(&self.session, user).await;
        all.into_iter().filter(|m| !self.passed.contains(m)).collect()
    }

    /// Whether this key may be tried; see [`Authenticator::may_offer`].
    pub async fn may_offer(&mut self, user: &str, key: &SignedKey) -> bool {
        self.begin(user).await;
        self.authenticator.may_offer(&self.session, user, key).await
    }

    /// Whether this certificate is to be tried; see [`Authenticator::takes_certificate`].
    pub async fn takes_certificate(&mut self, user: &str, certificate: &TlsCertificate) -> bool {
        self.begin(user).await;
        self.authenticator.takes_certificate(&self.session, user, certificate).await
    }

    /// The questions of an interactive attempt: the account's own, shaped by hooks.
    pub async fn questions(&mut self, user: &str) -> Vec<Question> {
        self.begin(user).await;
        let (authenticator, session) = (&self.authenticator, &self.session);
        let mut questions = match self.passed.is_empty() {
            true => authenticator.questions(session, user).await,
            false => authenticator.more_questions(session, user, &self.passed).await,
        };
        self.session.decide(Lifecycle::AuthQuestions { user, questions: &mut questions }).await;
        questions
    }

    /// Judges one proof. Never a success on an error path: whatever is not `Accepted` is not logged in.
    pub async fn attempt(&mut self, user: &str, credential: &Credential) -> Step {
        self.begin(user).await;
        let method = credential.method();
        if self.tries_left == 0 || self.session.is_cut() {
            return Step::Exhausted;
        }
        let mut proof = judge(&self.session, &*self.authenticator, user, credential, &self.passed).await;
        if self.refused {
            proof = Proof::Barred(Reason::Hook, "this user may not try".into());
        }
        match proof {
            Proof::Ask(_) if self.following >= MOST_FOLLOWING => {
                self.failed(user, method, Reason::WrongCredentials, "questions without end").await
            }
            Proof::Ask(question) => {
                self.following += 1;
                Step::Ask(question)
            }
            Proof::Complete(account) => {
                self.passed.push(method);
                let methods: Vec<_> = self.passed.iter().map(|m| m.name()).collect();
                let room = self.authenticator.make_room(&self.session, &account).await;
                match room.and_then(|()| self.session.log_in(account, methods)) {
                    Ok(identity) => {
                        self.session.decide(Lifecycle::AuthResult { user, method, success: true }).await;
                        Step::Accepted(identity)
                    }
                    Err(e) => self.failed(user, method, e.reason(), e.peer_words()).await,
                }
            }
            Proof::More(next) => {
                // Questions about the password alone are that factor, and others may follow.
                self.passed.push(if credential.is_password_only() { Method::Password } else { method });
                let next: Vec<_> = next.into_iter().filter(|m| !self.passed.contains(m)).collect();
                Step::Partial(next)
            }
            Proof::Rejected(words) => self.failed(user, method, Reason::WrongCredentials, &words).await,
            Proof::Barred(code, words) => self.failed(user, method, code, &words).await,
        }
    }

    /// A proof that the protocol itself found to be none (an expired certificate, a signature with
    /// SHA-1): counts, is logged and is asked about as any other failed attempt. The reason is for the
    /// log only.
    pub async fn fail(&mut self, user: &str, method: Method, reason: &str) -> Step {
        self.begin(user).await;
        if self.tries_left == 0 || self.session.is_cut() {
            return Step::Exhausted;
        }
        self.failed(user, method, Reason::WrongCredentials, reason).await
    }

    async fn failed(&mut self, user: &str, method: Method, code: Reason, reason: &str) -> Step {
        self.tries_left = self.tries_left.saturating_sub(1);
        let e = Error::new(ErrorKind::Unauthenticated).with_detail("login failed").because(code);
        self.session.note_error(&e);
        self.session.emit(What::LoginFailed {
            user: user.into(),
            method: method.name(),
            reason: reason.into(),
            code,
        });
        self.session.decide(Lifecycle::AuthResult { user, method, success: false }).await;
        if self.tries_left == 0 { Step::Exhausted } else { Step::Rejected(self.methods().await) }
    }
}

/// One proof, by the hooks and by the authenticator. It is judged even when the hooks' answer is no: the
/// time taken must not tell.
async fn judge(
    session: &Arc<Session>,
    authenticator: &dyn Authenticator,
    user: &str,
    credential: &Credential,
    passed: &[Method],
) -> Proof {
    let verdict = session.decide(Lifecycle::AuthStep { user, credential }).await;
    let proof = authenticator.verify(session, user, credential, passed).await;
    match verdict {
        Verdict::Refuse(e) => {
            Proof::Barred(Reason::Hook, format!("refused by a hook: {}", e.peer_words()).into())
        }
        Verdict::Authenticated => match authenticator.vouched(session, user).await {
            Some(account) => Proof::Complete(account),
            None => Proof::Rejected("a hook vouched for an account that does not exist".into()),
        },
        Verdict::Pass => proof,
    }
}

/// Whether the proof that let somebody in would do so once more, for the same account: for a protocol whose
/// clients show it with every request. Nobody is logged in or out by it.
pub async fn still_good(
    session: &Arc<Session>,
    authenticator: &dyn Authenticator,
    user: &str,
    credential: &Credential,
) -> bool {
    let Some(identity) = session.identity() else { return false };
    let proof = judge(session, authenticator, user, credential, &[]).await;
    matches!(proof, Proof::Complete(account) if account.name == identity.account().name)
}

/// What a protocol's server half needs from the place it serves: sessions, logins and filesystems.
#[async_trait]
pub trait Site: Send + Sync {
    /// The site's name.
    fn name(&self) -> Arc<str>;

    /// Admits a connection: address rules, limits, `OnNewConnection`. The session is in the live table
    /// until [`Session::close`]. An error refuses the connection.
    async fn admit(
        &self,
        protocol: crate::session::Protocol,
        peer: std::net::SocketAddr,
        local: std::net::SocketAddr,
    ) -> Result<Arc<Session>>;

    /// Whether a connection may stay, where a connection is no session (HTTP): what [`Site::admit`] asks before
    /// there is one. The default leaves all of it to [`Site::begin`].
    async fn knock(&self, peer: std::net::SocketAddr, local: std::net::SocketAddr) -> Result<()> {
        let _ = (peer, local);
        Ok(())
    }

    /// A session for a client whose connection has passed [`Site::knock`]: in the live table until
    /// [`Session::close`]. Errors: as those of `admit`.
    async fn begin(
        &self,
        protocol: crate::session::Protocol,
        peer: std::net::SocketAddr,
        local: std::net::SocketAddr,
    ) -> Result<Arc<Session>> {
        self.admit(protocol, peer, local).await
    }

    /// A session that another site admitted comes here by name, before its login; see
    /// [`Session::move_to`]. An error leaves it where it was.
    async fn welcome(&self, session: &Arc<Session>) -> Result<()> {
        let _ = session;
        Ok(())
    }

    /// Who the users are.
    fn authenticator(&self) -> Arc<dyn Authenticator>;

    /// The filesystem of a logged-in user, guarded.
    async fn mount(&self, session: &Arc<Session>, identity: &Identity) -> Result<crate::gate::SessionFs>;
}
