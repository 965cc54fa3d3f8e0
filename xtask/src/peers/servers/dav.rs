//! Their servers of WebDAV: Apache's mod_dav behind Digest, nginx with dav-ext over TLS and HTTP/2, wsgidav and
//! rclone behind Basic in the clear. So every login, both versions of HTTP and TLS are met by one of them. dufs is
//! in no package: it is built from its source, which takes minutes, where it is asked for.

use std::path::Path;

use serde_json::json;

use super::ftp::{NOBODY, password_hash};
use super::{Endpoint, Kit, LOOPBACK, PASSWORD, Place, Scheme, Starter, USER};
use crate::fault::{Result, While};
use crate::install::{ensure_built, is_root};
use crate::peers::cases::ours::Trait;
use crate::peers::program;
use crate::process::{Run, set_mode, write};

pub(in crate::peers) const DAV_SERVERS: &[Starter] = &[
    Starter { name: "apache", peer: "apache2", start: |kit| apache(kit, None), lacks: APACHE_LACKS },
    Starter { name: "nginx-dav", peer: "nginx", start: |kit| nginx(kit, None), lacks: NGINX_LACKS },
    Starter { name: "wsgidav", peer: "wsgidav", start: wsgidav, lacks: WSGIDAV_LACKS },
    Starter { name: "rclone-dav", peer: "rclone", start: rclone, lacks: RCLONE_LACKS },
];

/// What is built where it is asked for by its name.
pub(in crate::peers) const BUILT_SERVERS: &[Starter] =
    &[Starter { name: "dufs", peer: "dufs", start: dufs, lacks: DUFS_LACKS }];

/// The newest that we have tried.
const DUFS: &str = "0.47.0";

/// What WebDAV has no words for, and quota and times, which mod_dav knows as properties of no effect.
const APACHE_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Modes,
    Trait::Space,
    Trait::Leftovers,
    Trait::Times,
];

/// It has no PROPPATCH, no quota, and lists no name that begins with a dot.
const NGINX_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Modes,
    Trait::Space,
    Trait::Leftovers,
    Trait::Times,
    Trait::DotNames,
];

/// Its names are text.
const WSGIDAV_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Modes,
    Trait::AnyNames,
    Trait::ByteNames,
    Trait::Leftovers,
    Trait::Times,
];

/// It writes control characters down as other ones.
const RCLONE_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Modes,
    Trait::Space,
    Trait::AnyNames,
    Trait::ByteNames,
    Trait::Leftovers,
];

/// Its names are text, what is told of times is not kept, and folders that are missing are made.
const DUFS_LACKS: &[Trait] = &[
    Trait::HostKey,
    Trait::Links,
    Trait::HardLinks,
    Trait::Modes,
    Trait::Space,
    Trait::AnyNames,
    Trait::ByteNames,
    Trait::Refusals,
    Trait::Leftovers,
    Trait::Times,
];

/// Apache with what it needs for WebDAV and nothing else. As root it works as somebody without rights: it
/// refuses to be root. Over a folder that is there already it asks for Basic, which needs one request less.
pub(crate) fn apache(kit: &Kit, over: Option<&Path>) -> Result<Endpoint> {
    let mut place = Place::new(kit, "apache")?;
    let (realm, database, users) = ("files", place.path("database"), place.path("users"));
    std::fs::create_dir(&database).doing(|| format!("making {}", database.display()))?;
    for path in [&place.path(""), &place.root, &database] {
        set_mode(path, 0o777)?;
    }
    let (module, kind) = if over.is_some() { ("auth_basic", "Basic") } else { ("auth_digest", "Digest") };
    if let Some(root) = over {
        place.root = root.to_path_buf();
        write(&users, quick_login()?)?;
    } else {
        let digest = Run::new("md5sum").input(format!("{USER}:{realm}:{PASSWORD}")).text()?;
        let digest = digest.split(' ').next().unwrap_or_default();
        write(&users, format!("{USER}:{realm}:{digest}\n"))?;
    }
    let modules = ["mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", module];
    let mut lines: Vec<String> = modules
        .iter()
        .chain(&["dav", "dav_fs"])
        .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"))
        .collect();
    let own = place.path("");
    let (own, root) = (own.display(), place.root.display());
    lines.extend([
        "ServerName localhost".to_owned(),
        format!("Listen {LOOPBACK}:{}", place.port),
        format!("User {NOBODY}"),
        format!("Group {NOBODY}"),
        format!("DefaultRuntimeDir {own}"),
        format!("Mutex file:{own}"),
        format!("PidFile {}", place.path("pid").display()),
        "ErrorLog /dev/stderr".to_owned(),
        // A GiB is its own bound otherwise.
        "LimitRequestBody 0".to_owned(),
        format!("DavLockDB {}", database.join("locks").display()),
        format!("DocumentRoot {root}"),
        format!("<Directory {root}>"),
        "Dav On".to_owned(),
        format!("AuthType {kind}"),
        format!("AuthName {realm}"),
        format!("Auth{kind}Provider file"),
        format!("AuthUserFile {}", users.display()),
        "Require valid-user".to_owned(),
        "</Directory>".to_owned(),
    ]);
    let config = place.path("config");
    write(&config, lines.join("\n") + "\n")?;
    let run = program("apache2")?.arg("-d").arg(place.path("")).arg("-f").arg(&config).arg("-DFOREGROUND");
    let endpoint = place.serve_with_password(run, Scheme::Dav, USER, "/")?;
    Ok(Endpoint { owner: is_root().then_some(NOBODY), ..endpoint })
}

/// Over a folder that is there already it speaks in the clear.
pub(crate) fn nginx(kit: &Kit, over: Option<&Path>) -> Result<Endpoint> {
    let mut place = Place::new(kit, "nginx")?;
    let users = place.path("users");
    let (scheme, listen) = match over {
        Some(root) => {
            place.root = root.to_path_buf();
            write(&users, quick_login()?)?;
            (Scheme::Dav, vec![format!("listen {LOOPBACK}:{};", place.port)])
        }
        None => {
            place.certificate()?;
            write(&users, format!("{USER}:{}\n", password_hash()?))?;
            let listen = vec![
                format!("listen {LOOPBACK}:{} ssl http2;", place.port),
                format!("ssl_certificate {};", place.path("tls.pem").display()),
                format!("ssl_certificate_key {};", place.path("tls.key").display()),
            ];
            (Scheme::Davs, listen)
        }
    };
    let temporary = |kind: &str| format!("{kind}_temp_path {};", place.path(kind).display());
    let mut lines = vec![
        "daemon off;".to_owned(),
        // Without the rights of root this says nothing.
        "user root;".to_owned(),
        format!("pid {};", place.path("pid").display()),
        "error_log stderr warn;".to_owned(),
        "load_module /usr/lib/nginx/modules/ngx_http_dav_ext_module.so;".to_owned(),
        "events { worker_connections 1000; }".to_owned(),
        "http {".to_owned(),
        "access_log off;".to_owned(),
        "client_max_body_size 0;".to_owned(),
        "dav_ext_lock_zone zone=files:10m;".to_owned(),
    ];
    lines.extend(["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(temporary));
    lines.push("server {".to_owned());
    lines.extend(listen);
    lines.extend([
        format!("root {};", place.root.display()),
        "location / {".to_owned(),
        "auth_basic files;".to_owned(),
        format!("auth_basic_user_file {};", users.display()),
        "dav_methods PUT DELETE MKCOL COPY MOVE;".to_owned(),
        "dav_ext_methods PROPFIND OPTIONS LOCK UNLOCK;".to_owned(),
        "dav_ext_lock zone=files;".to_owned(),
        "}}}".to_owned(),
    ]);
    let config = place.path("config");
    write(&config, lines.join("\n") + "\n")?;
    let run = program("nginx")?.args(["-e", "stderr", "-p"]).arg(place.path("")).arg("-c").arg(&config);
    place.serve_with_password(run, scheme, USER, "/")
}

/// The line of a file of users whose password is found right with little work, so that a measured server does
/// not spend its time on that.
fn quick_login() -> Result<String> {
    let script = "import base64, hashlib, sys; print(base64.b64encode(hashlib.sha1(sys.argv[1].encode()).digest()).decode())";
    Ok(format!("{USER}:{{SHA}}{}\n", program("python3")?.args(["-c", script, PASSWORD]).text()?.trim()))
}

fn wsgidav(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "wsgidav")?;
    let config = place.path("config.json");
    let text = |path: &Path| path.display().to_string();
    let wanted = json!({
        "server": "cheroot",
        "host": LOOPBACK,
        "port": place.port,
        "provider_mapping": { "/": text(&place.root) },
        "http_authenticator": { "accept_basic": true, "accept_digest": false, "default_to_digest": false },
        "simple_dc": { "user_mapping": { "*": { (USER): { "password": PASSWORD } } } },
        "property_manager": true,
        "lock_storage": true,
    });
    write(&config, wanted.to_string())?;
    let run = program("wsgidav")?.arg("--config").arg(&config);
    place.serve_with_password(run, Scheme::Dav, USER, "/")
}

/// rclone's: an object store's idea of files.
fn rclone(kit: &Kit) -> Result<Endpoint> {
    let place = Place::new(kit, "rclone")?;
    let run = place.rclone("webdav")?.args(["--user", USER, "--pass", PASSWORD]).arg(&place.root);
    place.serve_with_password(run, Scheme::Dav, USER, "/")
}

fn dufs(kit: &Kit) -> Result<Endpoint> {
    // Neither TLS nor speed is what it is for.
    ensure_built("dufs", DUFS, &["--no-default-features", "--profile", "dev"])?;
    let place = Place::new(kit, "dufs")?;
    let run = program("dufs")?.args(["--bind", LOOPBACK, "--port", &place.port.to_string(), "--allow-all"]);
    let run = run.args(["--auth", &format!("{USER}:{PASSWORD}@/:rw")]).arg(&place.root);
    place.serve_with_password(run, Scheme::Dav, USER, "/")
}
