//! A live session as shown, taken at one moment.
//!
//! IIS's ten attributes stand first, under their names. Deliberately absent: history; a session that is
//! over shows nothing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Session, lock};
use crate::event::timestamp;

impl Session {
    /// Everything a live view shows, taken at one moment.
    pub fn snapshot(&self) -> Snapshot {
        let transfers = self
            .transfers()
            .iter()
            .map(|t| TransferSnapshot {
                path: t.path().display(),
                direction: t.direction.name().into(),
                bytes: t.bytes.load(Ordering::Relaxed),
                seconds: t.since.elapsed().as_secs_f64(),
            })
            .collect();
        let load = |a: &AtomicU64| a.load(Ordering::Relaxed);
        let now = self.now();
        let m = lock(&self.mutable);
        let account = m.state.identity().map(|i| Arc::clone(&i.account));
        Snapshot {
            session_id: self.id.to_string(),
            user_name: match &account {
                Some(a) if a.anonymous => "<Anonymous>".into(),
                Some(a) => a.name.to_string(),
                None => String::new(),
            },
            account: account.as_ref().map(|a| a.name.to_string()).unwrap_or_default(),
            requested_user: m.requested_user.to_string(),
            client_ip: self.peer_address().map(|a| a.to_string()).unwrap_or_default(),
            client_port: self.peer().map_or(0, |p| p.port()),
            server_ip: self.local().map(|a| a.ip().to_canonical().to_string()).unwrap_or_default(),
            server_port: self.local().map_or(0, |p| p.port()),
            session_start_time: timestamp(self.started),
            current_command: m.current.as_ref().map(ToString::to_string).unwrap_or_default(),
            previous_command: m.previous.as_ref().map(ToString::to_string).unwrap_or_default(),
            command_start_time: m.command_started.map(timestamp).unwrap_or_default(),
            bytes_received: load(&self.stats.uploaded),
            bytes_sent: load(&self.stats.downloaded),
            last_error_status: m.last_status,
            protocol: m.protocol.name().into(),
            node: self.registry.upgrade().map(|r| r.node().to_string()).unwrap_or_default(),
            site: m.site.to_string(),
            state: m.state.name().into(),
            auth_methods: m.auth_methods.iter().map(|method| (*method).into()).collect(),
            client_version: m.client_version.to_string(),
            cipher: m.tls.as_deref().unwrap_or_default().to_string(),
            last_activity: timestamp(
                self.started + Duration::from_millis(self.active_at.load(Ordering::Relaxed)),
            ),
            idle_seconds: self.idle().as_secs_f64(),
            age_seconds: now.duration_since(self.started).unwrap_or_default().as_secs_f64(),
            last_error: m.last_error.as_ref().map(|e| e.0.to_string()).unwrap_or_default(),
            last_error_time: m.last_error.as_ref().map(|e| timestamp(e.1)).unwrap_or_default(),
            last_sub_status: m.last_error.as_ref().map_or(0, |e| e.2.number()),
            wire_in: load(&self.stats.wire_in),
            wire_out: load(&self.stats.wire_out),
            operations: load(&self.stats.operations),
            errors: load(&self.stats.errors),
            in_flight: self.leases.in_flight(),
            custom_data: m.custom.clone(),
            tags: m.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            transfers,
        }
    }
}

/// A live session as shown: IIS's ten attributes under their names, then ours. Read back, what another version
/// does not have is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the fields are the attributes that the module's header and IIS's reference name"
)]
pub struct Snapshot {
    pub session_id: String,
    pub user_name: String,
    pub client_ip: String,
    pub session_start_time: String,
    pub current_command: String,
    pub previous_command: String,
    pub command_start_time: String,
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub last_error_status: u32,
    pub client_port: u16,
    pub server_ip: String,
    pub server_port: u16,
    pub protocol: Cow<'static, str>,
    pub node: String,
    pub site: String,
    pub state: Cow<'static, str>,
    pub account: String,
    pub requested_user: String,
    pub auth_methods: Vec<Cow<'static, str>>,
    pub client_version: String,
    pub cipher: String,
    pub last_activity: String,
    pub idle_seconds: f64,
    pub age_seconds: f64,
    pub last_error: String,
    pub last_error_time: String,
    pub last_sub_status: u16,
    pub wire_in: u64,
    pub wire_out: u64,
    pub operations: u64,
    pub errors: u64,
    pub in_flight: usize,
    pub custom_data: Vec<String>,
    pub tags: BTreeMap<String, String>,
    pub transfers: Vec<TransferSnapshot>,
}

/// A file in use, as shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "named after the fields of `Transfer`")]
pub struct TransferSnapshot {
    pub path: String,
    pub direction: Cow<'static, str>,
    pub bytes: u64,
    pub seconds: f64,
}
