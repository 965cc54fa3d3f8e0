//! A server to try clients by hand: `serve [--tls] [--anonymous] [--port N] [--folder DIR]`. Users `demo` and
//! `other` with the password `demo`, and `guest`; in memory unless a folder is given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::sync::Arc;

use proto_webdav::server::{Sessions, WebdavServer, WebdavServerOptions};
use session_core::auth::Site;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[path = "../tests/it/support/mod.rs"]
mod support;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().collect();
    let has = |flag: &str| args.iter().any(|a| a == flag);
    let value = |flag: &str| {
        let at = args.iter().position(|a| a == flag)?;
        args.get(at + 1).cloned()
    };
    let mut options = WebdavServerOptions::default();
    let (_files, tls) = support::tls();
    if has("--tls") {
        options.tls = Some(tls);
    }
    if has("--anonymous") {
        options.anonymous = Some("guest".to_owned());
    }
    let site = match value("--folder") {
        Some(folder) => {
            let store = session_core::store::local::LocalStore::open(folder, Default::default()).unwrap();
            support::TestSite::over(Arc::new(store))
        }
        None => support::TestSite::in_memory(),
    };
    let port = value("--port").unwrap_or_else(|| "8080".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    println!("serving on {}", listener.local_addr().unwrap());
    let server = WebdavServer::new(options, site as Arc<dyn Site>, Sessions::new().unwrap()).unwrap();
    server.serve(listener, CancellationToken::new()).await;
}
