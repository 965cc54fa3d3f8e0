//! A server of SSH that only forwards, to whom the password `hop` of `hopper` is enough.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use russh::keys::{Algorithm, HashAlg, PrivateKey, key::safe_rng};
use russh::server::{Auth, ChannelOpenHandle, Msg};
use russh::{Channel, ChannelOpenFailure};

pub struct Jump {
    pub port: u16,
    pub fingerprint: String,
    handler: Handler,
}

#[derive(Clone, Default)]
struct Handler {
    reached: Arc<Mutex<Vec<String>>>,
    passwords: Arc<Mutex<Vec<String>>>,
}

impl russh::server::Handler for Handler {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        self.passwords.lock().unwrap().push(password.to_owned());
        let good = user == "hopper" && password == "hop";
        Ok(if good { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _ssh: &mut russh::server::Session,
    ) -> Result<(), Self::Error> {
        self.reached.lock().unwrap().push(format!("{host}:{port}"));
        match tokio::net::TcpStream::connect((host, u16::try_from(port).unwrap())).await {
            Ok(mut out) => {
                reply.accept().await;
                tokio::spawn(async move {
                    let _ = tokio::io::copy_bidirectional(&mut channel.into_stream(), &mut out).await;
                });
            }
            Err(_) => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
        Ok(())
    }
}

impl Jump {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let fingerprint = key.public_key().fingerprint(HashAlg::Sha256).to_string();
        let config = Arc::new(russh::server::Config {
            keys: vec![key],
            auth_rejection_time: Duration::from_millis(10),
            auth_rejection_time_initial: Some(Duration::ZERO),
            nodelay: true,
            ..Default::default()
        });
        let handler = Handler::default();
        let one = handler.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (config, one) = (Arc::clone(&config), one.clone());
                tokio::spawn(async move {
                    if let Ok(running) = russh::server::run_stream(config, stream, one).await {
                        let _ = running.await;
                    }
                });
            }
        });
        Jump { port, fingerprint, handler }
    }

    /// Where it was asked to connect to.
    pub fn reached(&self) -> Vec<String> {
        self.handler.reached.lock().unwrap().clone()
    }

    /// Every password that it was shown.
    pub fn passwords(&self) -> Vec<String> {
        self.handler.passwords.lock().unwrap().clone()
    }
}
