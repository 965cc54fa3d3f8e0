//! Who signs the requests, and what else the environment says.
//!
//! A key pair is used as it is. Everything else is AWS's own chain (aws-config), which renews what runs out. Its
//! requests go the same way as the store's (proxy, family, reach), but what is pinned or asked about is the
//! store's alone. Nothing of the environment is looked at unless the login says so: a gateway that serves
//! others must not lend them the machine's own role.

use std::sync::Arc;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, ConfigLoader, SdkConfig};
use aws_sdk_s3::config::{Credentials, ProvideCredentials, Region, SharedCredentialsProvider};
use session_core::error::{Error, ErrorKind, Result};
use session_core::net::client_tls::ClientTlsOptions;

use super::http::{Lines, Way};
use super::options::{S3ConnectOptions, S3Login};

/// The name under which a role is taken on where none is given.
const SESSION: &str = "ferry";

/// What a login comes to.
pub(super) struct Signed {
    /// Who signs; nobody where it is `None`.
    pub(super) provider: Option<SharedCredentialsProvider>,
    /// The region that the environment names.
    pub(super) region: Option<String>,
    /// The endpoint that the environment names for S3.
    pub(super) endpoint: Option<String>,
    /// How it was done: `none`, `key`, `environment`, each perhaps with a role.
    pub(super) method: &'static str,
}

/// Finds out who signs, and makes sure that somebody can. Errors: `Unauthenticated`; those of the way there.
pub(super) async fn sign(options: &S3ConnectOptions, lines: &Lines, region: Option<&str>) -> Result<Signed> {
    let plain = Way {
        dial: options.dial(),
        tls: ClientTlsOptions::default(),
        timeout: options.timeout,
        to_store: false,
    };
    let plain = Lines::new(plain, Arc::clone(lines.session()));
    let loader = |base: ConfigLoader| {
        let region = region.map(|r| Region::new(r.to_owned()));
        let base = base.http_client(plain.clone()).retry_config(RetryConfig::standard());
        match region {
            Some(region) => base.region(region),
            None => base,
        }
    };
    let mut signed = match &options.login {
        S3Login::Anonymous => Signed { provider: None, region: None, endpoint: None, method: "none" },
        S3Login::Key { id, secret, token } => {
            let token = token.as_ref().map(|t| t.expose().to_owned());
            let keys = Credentials::new(id.clone(), secret.expose(), token, None, "ferry");
            let provider = Some(SharedCredentialsProvider::new(keys));
            Signed { provider, region: None, endpoint: None, method: "key" }
        }
        S3Login::Environment { profile } => {
            let mut base = aws_config::defaults(BehaviorVersion::latest());
            if let Some(profile) = profile {
                base = base.profile_name(profile);
            }
            let config = loader(base).load().await;
            Signed {
                provider: config.credentials_provider(),
                region: config.region().map(|r| r.as_ref().to_owned()),
                endpoint: endpoint_of(&config),
                method: "environment",
            }
        }
    };
    if let Some(role) = &options.role {
        let Some(provider) = signed.provider.take() else {
            return Err(Error::new(ErrorKind::InvalidArgument)
                .with_detail("a role is taken on by somebody, and nobody logs in")
                .with_hint("give a key, or let the environment say who logs in"));
        };
        let at = region.map(str::to_owned).or_else(|| signed.region.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(plain.clone())
            .region(Region::new(at.unwrap_or_else(|| "us-east-1".to_owned())))
            .build();
        let mut builder = AssumeRoleProvider::builder(&role.arn)
            .session_name(role.session_name.as_deref().unwrap_or(SESSION))
            .configure(&config);
        if let Some(id) = &role.external_id {
            builder = builder.external_id(id);
        }
        let assumed = builder.build_from_provider(provider).await;
        signed.provider = Some(SharedCredentialsProvider::new(assumed));
        signed.method = "role";
    }
    if let (Some(provider), false) = (&signed.provider, signed.method == "key") {
        // What cannot be had is told now and not with the first file.
        provider.provide_credentials().await.map_err(|e| match super::refine::ours(&e) {
            Some(ours) => ours,
            None => Error::new(ErrorKind::Unauthenticated)
                .with_detail(format!("no credentials: {e}"))
                .with_source(e)
                .with_hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, run 'aws configure' or 'aws sso login', or log in as nobody"),
        })?;
    }
    Ok(signed)
}

/// What the environment says of S3's endpoint in particular, or of all.
fn endpoint_of(config: &SdkConfig) -> Option<String> {
    std::env::var("AWS_ENDPOINT_URL_S3")
        .ok()
        .filter(|url| !url.is_empty())
        .or_else(|| config.endpoint_url().map(str::to_owned))
}
