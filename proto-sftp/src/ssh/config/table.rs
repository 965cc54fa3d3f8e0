//! Every keyword of ssh_config(5) that is known, and what becomes of it here.

/// What a keyword does here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// What it says.
    Honoured,
    /// Nothing, rightly: it is about shells, terminals, forwarding or other things that a file transfer has not.
    Nothing,
    /// Nothing, although it could matter: a warning, once.
    Warned,
    /// It must not be passed over: an error.
    Refused,
}

/// Keyword, effect, and what there is to say about it.
pub const TABLE: &[(&str, Effect, &str)] = {
    use Effect::{Honoured as H, Nothing as N, Refused as R, Warned as W};
    &[
        ("AddKeysToAgent", N, ""),
        ("AddressFamily", H, "`any`, `inet`, `inet6`"),
        ("BatchMode", N, "`ferry --batch` asks nothing"),
        ("BindAddress", H, "an address, not a name"),
        ("BindInterface", W, ""),
        ("CanonicalDomains", N, ""),
        ("CanonicalizeFallbackLocal", N, ""),
        ("CanonicalizeHostname", W, ""),
        ("CanonicalizeMaxDots", N, ""),
        ("CanonicalizePermittedCNAMEs", N, ""),
        ("CASignatureAlgorithms", N, "authorities sign with anything but SHA-1 and DSA"),
        ("CertificateFile", H, "adds up; besides, `KEY-cert.pub` beside each key"),
        ("ChallengeResponseAuthentication", H, "an old name of KbdInteractiveAuthentication"),
        ("ChannelTimeout", N, ""),
        ("CheckHostIP", N, "addresses are not recorded"),
        ("Ciphers", H, "with `+`, `-`, `^`; SHA-1 and CBC only where they are named outright"),
        ("ClearAllForwardings", N, ""),
        ("Compression", N, "nothing is compressed"),
        ("ConnectionAttempts", N, ""),
        ("ConnectTimeout", H, "also bounds each step of the login"),
        ("ControlMaster", N, ""),
        ("ControlPath", N, ""),
        ("ControlPersist", N, ""),
        ("DynamicForward", N, ""),
        ("EnableEscapeCommandline", N, ""),
        ("EnableSSHKeysign", N, ""),
        ("EscapeChar", N, ""),
        ("ExitOnForwardFailure", N, ""),
        ("FingerprintHash", N, "fingerprints are shown as SHA-256"),
        ("ForkAfterAuthentication", N, ""),
        ("ForwardAgent", N, "the agent is never forwarded"),
        ("ForwardX11", N, ""),
        ("ForwardX11Timeout", N, ""),
        ("ForwardX11Trusted", N, ""),
        ("GatewayPorts", N, ""),
        ("GlobalKnownHostsFile", H, ""),
        ("GSSAPIAuthentication", N, "Kerberos is not spoken"),
        ("GSSAPIClientIdentity", N, ""),
        ("GSSAPIDelegateCredentials", N, ""),
        ("GSSAPIKexAlgorithms", N, ""),
        ("GSSAPIKeyExchange", N, ""),
        ("GSSAPIRenewalForcesRekey", N, ""),
        ("GSSAPIServerIdentity", N, ""),
        ("GSSAPITrustDns", N, ""),
        ("HashKnownHosts", H, ""),
        ("Host", H, "patterns with `*`, `?`, `!`"),
        ("HostbasedAcceptedAlgorithms", N, ""),
        ("HostbasedAuthentication", W, ""),
        ("HostKeyAlgorithms", H, "with `+`, `-`, `^`; SHA-1 and CBC only where they are named outright"),
        ("HostKeyAlias", H, ""),
        ("HostName", H, "tokens `%h`, `%%`"),
        ("IdentitiesOnly", H, ""),
        ("IdentityAgent", H, "`none`, `SSH_AUTH_SOCK`, `$VARIABLE`, a path"),
        ("IdentityFile", H, "adds up; `none` for none; a public key chooses among the agent's"),
        ("IgnoreUnknown", H, ""),
        ("Include", H, "`*` and `?`, at most 16 deep"),
        ("IPQoS", N, ""),
        ("KbdInteractiveAuthentication", H, ""),
        ("KbdInteractiveDevices", N, ""),
        ("KexAlgorithms", H, "with `+`, `-`, `^`; SHA-1 and CBC only where they are named outright"),
        ("KnownHostsCommand", W, ""),
        ("LocalCommand", N, ""),
        ("LocalForward", N, ""),
        ("LogLevel", N, ""),
        ("LogVerbose", N, ""),
        ("MACs", H, "with `+`, `-`, `^`; SHA-1 and CBC only where they are named outright"),
        (
            "Match",
            H,
            "`all`, `canonical`, `final`, `host`, `originalhost`, `user`, `localuser`; others never match",
        ),
        ("NoHostAuthenticationForLocalhost", N, "keys are always checked"),
        ("NumberOfPasswordPrompts", N, "three"),
        ("ObscureKeystrokeTiming", N, ""),
        ("PasswordAuthentication", H, ""),
        ("PermitLocalCommand", N, ""),
        ("PermitRemoteOpen", N, ""),
        ("PKCS11Provider", W, "the agent can hold such keys"),
        ("Port", H, ""),
        ("PreferredAuthentications", H, "`publickey`, `password`, `keyboard-interactive`"),
        ("ProxyCommand", H, "run by `$SHELL -c`; `none`; tokens `%h %n %p %r %%`"),
        ("ProxyJump", H, "`none`; each host by its own settings and with its own check"),
        ("ProxyUseFdpass", R, ""),
        ("PubkeyAcceptedAlgorithms", N, "anything but SHA-1 and DSA"),
        ("PubkeyAcceptedKeyTypes", N, "an old name of PubkeyAcceptedAlgorithms"),
        ("PubkeyAuthentication", H, ""),
        ("RekeyLimit", N, "1 GiB or an hour"),
        ("RemoteCommand", N, ""),
        ("RemoteForward", N, ""),
        ("RequestTTY", N, ""),
        ("RequiredRSASize", N, ""),
        ("RevokedHostKeys", R, "`@revoked` in known_hosts works"),
        ("SecurityKeyProvider", N, "the agent has such keys"),
        ("SendEnv", N, ""),
        ("ServerAliveCountMax", H, ""),
        ("ServerAliveInterval", H, "0 for none; 30 seconds where nothing is said"),
        ("SessionType", N, ""),
        ("SetEnv", N, ""),
        ("StdinNull", N, ""),
        ("StreamLocalBindMask", N, ""),
        ("StreamLocalBindUnlink", N, ""),
        (
            "StrictHostKeyChecking",
            H,
            "`yes`, `ask`, `accept-new`; `no` is taken for `accept-new`: a changed key is always refused",
        ),
        ("SyslogFacility", N, ""),
        ("Tag", N, ""),
        ("TCPKeepAlive", N, ""),
        ("Tunnel", N, ""),
        ("TunnelDevice", N, ""),
        ("UpdateHostKeys", N, "keys that a server announces are not recorded"),
        ("User", H, ""),
        ("UserKnownHostsFile", H, "new keys go to the first"),
        ("VerifyHostKeyDNS", W, ""),
        ("VisualHostKey", N, ""),
        ("XAuthLocation", N, ""),
    ]
};

/// The name as it is written and the effect of a keyword in lower case.
pub(super) fn effect(keyword: &str) -> Option<(&'static str, Effect)> {
    TABLE
        .iter()
        .find(|(name, ..)| name.eq_ignore_ascii_case(keyword))
        .map(|(name, effect, _)| (*name, *effect))
}

/// The table as it stands in the documentation.
pub fn as_markdown() -> String {
    let mut out = String::from("| Keyword | Here | Note |\n| --- | --- | --- |\n");
    for (name, effect, note) in TABLE {
        let words = match effect {
            Effect::Honoured => "yes",
            Effect::Nothing => "no effect",
            Effect::Warned => "not done: a warning",
            Effect::Refused => "not done: an error",
        };
        out += &format!("| `{name}` | {words} | {note} |\n");
    }
    out
}
