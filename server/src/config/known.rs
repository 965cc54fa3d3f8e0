//! The keys of all tables, in order: what a slip of the pen may have meant.

/// Every key, for suggestions.
#[rustfmt::skip]
pub(super) const KEYS: &[&str] = &[
    "access_keys", "active", "address", "addresses", "admin", "allow", "allow_clear", "allow_private",
    "anonymous", "append_code", "arguments", "ascii", "audit", "authorities", "ban", "banner", "base", "bind", "both",
    "bytes", "cache", "certificate", "certificate_names", "certificates", "clamd", "clear",
    "client_authorities", "client_certificates", "commands", "connections", "control", "cors", "count",
    "custom", "data", "data_time", "database", "dead", "deny", "digest", "directories", "directory", "domains",
    "download", "download_limit",
    "drain", "enabled", "event", "events", "exit", "expires", "file", "files", "filter", "filters", "folder",
    "folders", "foreign_data", "format", "from", "fsync", "ftp", "full", "gateway", "gateways", "give_up",
    "grant", "group_attribute", "group_base", "group_filter", "group_map", "groups", "growth", "hash",
    "hide", "history", "hold", "home", "hooks", "host_keys", "hosts", "hours", "icap", "id", "idle_time",
    "in_place",
    "infected", "keep", "keep_overwrites", "key", "key_attribute", "key_secret", "keys", "keys_file", "larger", "largest",
    "level", "limit", "limits", "linger", "listeners", "lock_time", "log", "login", "login_time", "longest",
    "mail", "member_attribute", "memory", "minimum", "minimum_rate", "mode_z", "more", "most", "name",
    "names", "networks", "node", "off", "offence", "old_secret", "on_error", "only_allowed", "outbox", "output", "pages", "parking",
    "passive_address", "passive_addresses", "passive_ports", "passive_time", "passphrases", "password", "password_secret",
    "path", "per", "per_address", "per_network", "per_user", "period", "permissions", "pgp", "phrase_secret",
    "poll", "port", "prefix", "principals", "priority", "processes", "program", "program_output", "program_time", "programs",
    "protector", "protocol", "protocols", "proxies", "quarantine", "quarantine_size", "quota", "rate",
    "read_only", "reader", "realm", "recovery", "region", "remember", "require", "require_session_reuse",
    "reset", "retry", "rotate", "rows", "s3", "safe", "scan", "scripts", "secret", "secrets", "server",
    "sessions", "shared", "site", "sites", "size", "skew", "soft_bytes", "soft_files", "speed_limit",
    "speeds", "sql", "ssh", "staging", "start", "store", "strict_tls_eof", "strikes", "threads", "time",
    "tls", "tokens", "total_quota", "total_transfer", "totp", "transfer", "tries", "unauthenticated", "unknown_user",
    "upload", "upload_limit", "upload_time", "uploads", "url", "user", "users", "wait", "webdav", "webhooks",
    "welcome", "window", "write",
];
