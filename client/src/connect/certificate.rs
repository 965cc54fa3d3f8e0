//! The user's own certificate for TLS: which file is opened, and who is asked for its phrase.

use session_core::batch::{Answer, Decider, Query};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::certificate_file::{CertificateFile, Fault};
use session_core::net::client_tls::ClientCertificate;

use super::{Options, Scheme};

/// How often a phrase is asked for.
const PHRASES: usize = 3;

/// The certificate that the server is shown if it asks, if the user has named one. The phrase that is given is
/// tried first. Errors: `InvalidArgument` where no TLS is spoken; those of [`CertificateFile::read`] and of
/// [`Fault::of`].
pub(super) async fn own_certificate(
    options: &Options,
    decider: &dyn Decider,
) -> Result<Option<ClientCertificate>> {
    let Some(path) = options.ftp.client_certificate.clone() else { return Ok(None) };
    let instead = match options.scheme {
        Scheme::Dav => Some("use davs://"),
        Scheme::Ftp => Some("use ftpes:// or ftps://"),
        Scheme::S3Plain => Some("use s3://"),
        _ => None,
    };
    if let Some(hint) = instead {
        return Err(Error::new(ErrorKind::InvalidArgument)
            .with_detail("a certificate of one's own is shown under TLS only")
            .with_hint(hint));
    }
    let mut file = blocking(move || CertificateFile::read(&path)).await?;
    let (mut phrase, mut given, mut asked) = (None, options.phrase.clone(), 0);
    loop {
        // Reading and opening take time on purpose.
        let (read, outcome) = blocking(move || {
            let outcome = file.open(phrase.as_ref());
            Ok((file, outcome))
        })
        .await?;
        file = read;
        match outcome {
            Ok(certificate) => return Ok(Some(certificate)),
            Err(Fault::Encrypted | Fault::WrongPhrase) if given.is_some() => phrase = given.take(),
            Err(fault @ (Fault::Encrypted | Fault::WrongPhrase)) if asked < PHRASES => {
                asked += 1;
                match decider.decide(Query::Passphrase { key: file.name().to_owned() }).await {
                    Answer::Secret(secret) => phrase = Some(secret),
                    _ => return Err(fault.of(file.name())),
                }
            }
            Err(fault) => return Err(fault.of(file.name())),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|e| Error::new(ErrorKind::Internal).with_source(e))?
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Mutex;

    use session_core::auth::Secret;
    use session_core::batch::Unattended;

    use super::*;
    use crate::url::Location;

    /// Gives these phrases, the last one first, and then no more.
    struct Phrases(Mutex<Vec<&'static str>>, Mutex<usize>);

    #[async_trait::async_trait]
    impl Decider for Phrases {
        async fn decide(&self, query: Query) -> Answer {
            let Query::Passphrase { key } = &query else { panic!("{query:?}") };
            assert!(key.ends_with("usual.p12"), "{key}");
            *self.1.lock().unwrap() += 1;
            let next = self.0.lock().unwrap().pop();
            next.map_or(query.unattended(), |text| Answer::Secret(Secret::new(text)))
        }
    }

    fn remote(url: &str) -> Options {
        let Location::Remote(url) = Location::parse(url).unwrap() else { panic!("{url}") };
        Options::from_url(&url).unwrap()
    }

    fn options(url: &str, file: &str) -> Options {
        let files = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../session-core/tests/certificates");
        remote(url).client_certificate(Some(files.join(file)))
    }

    #[tokio::test]
    async fn a_phrase_is_taken_from_who_gave_it_and_else_asked_for() {
        let locked = || options("ftps://h/", "usual.p12");
        let phrase = |text| Some(Secret::new(text));
        // Given: nobody is asked. Given wrongly, it is asked for, three times at most.
        for (given, answers, asks, works) in [
            (phrase("opens-it"), vec![], 0, true),
            (None, vec!["opens-it", "no"], 2, true),
            (phrase("no"), vec!["opens-it"], 1, true),
            (None, vec!["opens-it", "no", "no", "no"], 3, false),
            (None, vec![], 1, false),
        ] {
            let decider = Phrases(Mutex::new(answers), Mutex::default());
            let outcome = own_certificate(&locked().phrase(given), &decider).await;
            assert_eq!(*decider.1.lock().unwrap(), asks);
            match works {
                true => assert_eq!(outcome.unwrap().unwrap().chain().count(), 3),
                false => assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unauthenticated),
            }
        }
        // What needs no phrase asks for none; who is not there gives none.
        for file in ["plain.pem", "empty.p12"] {
            assert!(own_certificate(&options("davs://h/", file), &Unattended).await.unwrap().is_some());
        }
        let e = own_certificate(&locked(), &Unattended).await.unwrap_err();
        assert!(e.to_string().contains("is encrypted"), "{e}");
    }

    #[tokio::test]
    async fn a_certificate_is_for_tls() {
        for (url, hint) in [("ftp://h/", "ftpes"), ("dav://h/", "davs"), ("s3plain://h/", "s3://")] {
            let e = own_certificate(&options(url, "plain.pem"), &Unattended).await.unwrap_err();
            assert_eq!(e.kind(), ErrorKind::InvalidArgument);
            assert!(format!("{e:#} {:?}", e.hint()).contains(hint), "{e:?}");
        }
        assert!(own_certificate(&remote("ftp://h/"), &Unattended).await.unwrap().is_none());
    }
}
