//! A server to try clients by hand: `serve [--tls|--implicit] [--allow] [--no-reuse] [--active] [--port N]
//! [--folder DIR]`. One user, `demo` with the password `demo`, and anonymous; in memory unless a folder is
//! given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::sync::Arc;

use proto_ftp::server::{ControlPolicy, DataPolicy, FtpServer, FtpServerOptions};
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
    let mut options = FtpServerOptions { active: has("--active"), ..FtpServerOptions::default() };
    if has("--tls") || has("--implicit") {
        options.tls = Some(support::tls());
        options.implicit_tls = has("--implicit");
        options.require_session_reuse = !has("--no-reuse");
    }
    if has("--allow") {
        options.control_policy = ControlPolicy::Allow;
        options.data_policy = DataPolicy::Allow;
    }
    let site = match value("--folder") {
        Some(folder) => {
            let store = session_core::store::local::LocalStore::open(folder, Default::default()).unwrap();
            support::TestSite::over(Arc::new(store))
        }
        None => support::in_memory(),
    };
    let port = value("--port").unwrap_or_else(|| "2121".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.unwrap();
    println!("serving on {}", listener.local_addr().unwrap());
    let server = FtpServer::new(options, site as Arc<dyn Site>).unwrap();
    server.serve(listener, CancellationToken::new()).await;
}
