//! What handlers and logins ask of other programs: a mail server, a database, a directory.
//!
//! Each is Debian's or Python's own, started here on a port of the loopback with a certificate of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::postgres::Postgres;
use super::{Stage, sftp};
use crate::fault::{Fault, Result, While, ensure};
use crate::peers::cases::says;
use crate::peers::servers::{Extra, LOOPBACK};
use crate::peers::{drive, program};
use crate::process::{Server, free_port, read, set_mode, write};

pub(super) const READY: Duration = Duration::from_secs(60);

/// A folder of the case, which programs that run as somebody else may enter.
pub(super) fn folder(stage: &Stage, name: &str) -> Result<PathBuf> {
    let dir = stage.kit.join(name);
    std::fs::create_dir_all(&dir).doing(|| format!("making {}", dir.display()))?;
    Ok(dir)
}

/// A certificate that is its own authority and nobody else's: `NAME.pem` and `NAME.key`.
pub(super) fn certificate(dir: &Path, name: &str) -> Result<PathBuf> {
    const REQUEST: &str = "[req]\ndistinguished_name=d\nx509_extensions=e\nprompt=no\n[d]\nCN=localhost\n[e]\n\
        basicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1,DNS:localhost\n";
    let (request, certificate) = (dir.join("request"), dir.join(format!("{name}.pem")));
    write(&request, REQUEST)?;
    program("openssl")?
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "30", "-config"])
        .arg(&request)
        .arg("-keyout")
        .arg(dir.join(format!("{name}.key")))
        .arg("-out")
        .arg(&certificate)
        .finish()?
        .succeeded()?;
    Ok(certificate)
}

/// A table of a handler, with its file.
fn hook(dir: &Path, event: &str, grants: &str, source: &str) -> Result<String> {
    let file = dir.join(format!("{event}.js"));
    write(&file, source)?;
    Ok(format!("[[hooks]]\nevent = \"{event}\"\nfile = {file:?}\ngrant = [{grants}]\n"))
}

/// A mail of a handler, with a file, arrives at a server that asks for TLS.
pub(super) fn mail_arrives(stage: &Stage) -> Result<()> {
    let (dir, port) = (folder(stage, "mail")?, free_port()?);
    let certificate = certificate(&dir, "smtp")?;
    let inbox = dir.join("inbox");
    let run = program("python")?
        .args(["-u", "-m", "aiosmtpd", "-n", "-l"])
        .arg(format!("{LOOPBACK}:{port}"))
        .args(["-c", "aiosmtpd.handlers.Mailbox"])
        .arg(&inbox)
        .arg("--tlscert")
        .arg(&certificate)
        .arg("--tlskey")
        .arg(dir.join("smtp.key"));
    let mut smtp = Server::start(&run)?;
    smtp.port(port, READY)?;
    let source = "SendMail('', 'b@example.com', 'Gr\u{fc}\u{df}e', CtxRelPath(), CtxRelPath()); Log('sent');";
    let lines = hook(&dir, "AfterFileUpload", "\"mail\", \"files\"", source)?
        + &format!(
            "[mail]\nserver = \"localhost:{port}\"\nauthorities = {certificate:?}\nfrom = \"a@example.com\"\n"
        );
    let mut endpoint = stage.start(&Extra { lines: &lines, ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    let file = scene.here("f");
    write(&file, [0, 255])?;
    sftp(&scene, &format!("put {} {}f\n", file.display(), scene.folder))?;
    drop(scene);
    endpoint.line(|line| line.contains("sent"))?;
    let mails = std::fs::read_dir(inbox.join("new")).doing(|| "reading the inbox".to_owned())?;
    let mails: Vec<_> = mails.flatten().collect();
    let [mail] = mails.as_slice() else {
        return Err(Fault::new(format!("there are {} mails, not one", mails.len())));
    };
    let text = String::from_utf8_lossy(&read(&mail.path())?).into_owned();
    for line in ["From: a@example.com", "To: b@example.com", "Subject: =?utf-8?b?R3LDvMOfZQ==?=", "AP8="] {
        says(&text, line)?;
    }
    Ok(())
}

/// A database is asked under TLS and with a password, and changed only where that is allowed.
pub(super) fn database_is_asked(stage: &Stage) -> Result<()> {
    let postgres = Postgres::start()?;
    let at = folder(stage, "sql")?;
    let secrets = postgres.secret(&at)?;
    let source = "
      const ask = (...all) => { try { return JSON.stringify(SqlQuery(...all)); } catch (e) { return e.message; } };
      ask('write', 'create table t (n bigint, d numeric, b bytea, w timestamptz, j jsonb, u uuid)');
      ask('write', 'insert into t values ($1, $2, $3, $4, $5, $6)', ['9007199254740993', 1.50, new Uint8Array([0, 255]),
        new Date(0), '{\"a\":1}', '00000000-0000-0000-0000-000000000001']);
      const row = SqlQuery('read', 'select *, $1::int + 1 as more from t', [41]).Rows[0];
      Log('row', row.n, row.d, HexEncode(row.b), row.w, row.j, row.u, row.more);
      Log('null', ask('read', 'select null::text as x, true as y, $1::text as z', ['it''s']));
      Log('refused', ask('read', 'delete from t'), ask('read', 'select 1; select 2'), ask('read', 'select $1::int', ['x']));
      ask('read', 'set statement_timeout = 0');
      Log('late', ask('read', 'select pg_sleep(60)'));
      Log('many', ask('read', 'select generate_series(1, 2000)'));
      Log('asked');
    "
    .replace("it''s", "it\\'s");
    let table = |name: &str, more: &str| {
        format!(
            "[sql.{name}]\nurl = {:?}\npassword_secret = \"db\"\nauthorities = {:?}\n{more}\n",
            postgres.url("localhost"),
            postgres.certificate
        )
    };
    let lines = hook(&at, "AfterFileUpload", "\"sql\"", &source)?
        + &format!("[scripts]\nsecrets = {secrets:?}\ntime = \"60s\"\n")
        + &table("read", "time = \"3s\"")
        + &table("write", "time = \"20s\"\nwrite = true");
    let mut endpoint = stage.start(&Extra { lines: &lines, ..Extra::default() })?;
    let scene = stage.scene(&endpoint)?;
    let file = scene.here("f");
    write(&file, "x")?;
    sftp(&scene, &format!("put {} {}f\n", file.display(), scene.folder))?;
    drop(scene);
    endpoint.line(|line| line.contains("asked"))?;
    let log = endpoint.log();
    for words in [
        "row 9007199254740993 1.5 00ff 1970-01-01T00:00:00.000Z",
        "00000000-0000-0000-0000-000000000001 42",
        "it's",
        "read-only transaction",
        "cannot insert multiple commands",
        "takes too long",
        "more than 1000 rows",
    ] {
        says(&log, words)?;
    }
    Ok(())
}

const PEOPLE: &str = "dn: dc=example,dc=com
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=com
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=com
objectClass: organizationalUnit
ou: groups

dn: cn=reader,dc=example,dc=com
objectClass: organizationalRole
objectClass: simpleSecurityObject
cn: reader
userPassword: reads

dn: uid=ada,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: ada
cn: Ada
sn: Lovelace
userPassword: analytical

dn: uid=eve,ou=people,dc=example,dc=com
objectClass: inetOrgPerson
uid: eve
cn: Eve
sn: Drop
userPassword: listens

dn: cn=staff,ou=groups,dc=example,dc=com
objectClass: groupOfNames
cn: staff
member: uid=ada,ou=people,dc=example,dc=com
";

/// A key without a phrase: its file, and its line.
fn key_pair(dir: &Path, name: &str) -> Result<(PathBuf, String)> {
    let file = dir.join(name);
    let run = program("ssh-keygen")?.args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]);
    run.arg(&file).finish()?.succeeded()?;
    let public = read(&file.with_extension("pub"))?;
    Ok((file, String::from_utf8_lossy(&public).trim().to_owned()))
}

/// Accounts of a directory log in by search and by their whole name; groups decide who, and what they may.
pub(super) fn directory_vouches(stage: &Stage) -> Result<()> {
    let (dir, port) = (folder(stage, "ldap")?, free_port()?);
    let certificate = certificate(&dir, "slapd")?;
    let data = folder(stage, "ldap/data")?;
    let (config, people) = (dir.join("slapd.conf"), dir.join("people.ldif"));
    let schema =
        ["core", "cosine", "inetorgperson"].map(|s| format!("include /etc/ldap/schema/{s}.schema\n"));
    let lines = format!(
        "{}modulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n\
         database mdb\nsuffix \"dc=example,dc=com\"\ndirectory {}\nrequire bind\n\
         access to attrs=userPassword by anonymous auth\n\
         access to * by dn.exact=\"cn=reader,dc=example,dc=com\" read by anonymous auth by self read\n",
        schema.concat(),
        certificate.display(),
        dir.join("slapd.key").display(),
        data.display(),
    );
    write(&config, lines)?;
    // Ada's key, as a directory has it: beside words that are none.
    let (key, public) = key_pair(&dir, "ada")?;
    let (other, _) = key_pair(&dir, "other")?;
    let ada = format!("uid: ada\ndescription: the countess\ndescription: {public}\n");
    write(&people, PEOPLE.replace("uid: ada\n", &ada))?;
    program("slapadd")?.arg("-f").arg(&config).arg("-l").arg(&people).finish()?.succeeded()?;
    let run = program("slapd")?.args(["-d", "0", "-f"]).arg(&config).arg("-h");
    let mut slapd = Server::start(&run.arg(format!("ldap://{LOOPBACK}:{port}/")))?;
    slapd.port(port, READY)?;
    let secrets = dir.join("secrets.toml");
    write(&secrets, "reader = \"reads\"\n")?;
    set_mode(&secrets, 0o600)?;
    let searched = format!(
        "[[directories]]\nname = \"search\"\nurl = \"ldap://localhost:{port}\"\nauthorities = {certificate:?}\n\
         base = \"ou=people,dc=example,dc=com\"\nreader = \"cn=reader,dc=example,dc=com\"\n\
         password_secret = \"reader\"\ngroup_base = \"ou=groups,dc=example,dc=com\"\n\
         key_attribute = \"description\"\n\
         [directories.group_map]\nstaff = \"here\"\n"
    );
    let bound = format!(
        "[[directories]]\nname = \"bind\"\nurl = \"ldap://localhost:{port}\"\nauthorities = {certificate:?}\n\
         bind = \"uid=%u,ou=people,dc=example,dc=com\"\ngroups = [\"here\"]\n"
    );
    let rest = format!(
        "[scripts]\nsecrets = {secrets:?}\n[[groups]]\nname = \"here\"\n\
         [groups.permissions]\n\"/\" = [\"list\", \"put\", \"get\"]\n"
    );
    // Eve is in no group that counts; by her whole name nobody asks for groups.
    for (table, eve) in [(&searched, false), (&bound, true)] {
        let endpoint = stage.start(&Extra { lines: &format!("{table}{rest}"), ..Extra::default() })?;
        let logs_in = |user: &str, password: &str| -> Result<bool> {
            let mut at = endpoint.at.clone();
            (at.user, at.password) = (user.to_owned(), password.to_owned());
            let url = drive::ferry_url(&at, "/");
            let run = drive::ferry(stage.kit, stage.ferry, &at).env("FERRY_PASSWORD", password);
            Ok(run.arg("ls").arg(url).finish()?.is_success())
        };
        for (user, password, may) in [
            ("ada", "analytical", true),
            ("ada", "wrong", false),
            ("ada", "", false),
            ("nobody", "analytical", false),
            ("*", "analytical", false),
            ("eve", "listens", eve),
        ] {
            let does = logs_in(user, password)?;
            ensure!(does == may, "{user} with `{password}`: {does}, not {may}\n{}", endpoint.tail());
        }
        // By key where a search may find whose it is, before and after a password was right.
        for (user, file, may) in
            [("ada", &key, table == &searched), ("ada", &other, false), ("nobody", &key, false)]
        {
            let mut at = endpoint.at.clone();
            user.clone_into(&mut at.user);
            let run = drive::ferry(stage.kit, stage.ferry, &at).arg("--identity").arg(file);
            let does = run.arg("ls").arg(drive::ferry_url(&at, "/")).finish()?.is_success();
            ensure!(does == may, "{user} by {}: {does}, not {may}\n{}", file.display(), endpoint.tail());
        }
    }
    Ok(())
}
