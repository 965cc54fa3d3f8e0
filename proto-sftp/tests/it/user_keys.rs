//! Keys as text: every format in, every format out, phrases and damage told apart.
#![cfg(feature = "client")]

use std::path::{Path, PathBuf};
use std::process::Command;

use proto_sftp::ssh::keyfile::{Fault, Format, Kind, UserKey};
use session_core::auth::Secret;

const PHRASE: &str = "correct horse";

fn corpus() -> Vec<(String, String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/keys");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "ppk"));
    paths.sort();
    let read = |p: &Path| std::fs::read_to_string(p).unwrap();
    let name = |p: &Path| p.file_stem().unwrap().to_str().unwrap().to_owned();
    paths.iter().map(|p| (name(p), read(p), read(&p.with_extension("pub")))).collect()
}

fn is_locked(name: &str) -> bool {
    name.contains("locked") || name.contains("argon2")
}

fn spoken(name: &str) -> bool {
    !name.starts_with("ed448") && !name.starts_with("dsa")
}

fn phrase() -> Secret {
    Secret::new(PHRASE)
}

#[test]
fn what_puttygen_made_is_read_with_the_public_half_that_it_shows() {
    let mut read = 0;
    for (name, text, public) in corpus() {
        assert_eq!(UserKey::is_encrypted(&text), is_locked(&name), "{name}");
        if !spoken(&name) {
            assert!(matches!(UserKey::decode(&text, None), Err(Fault::Unsupported(_))), "{name}");
            continue;
        }
        assert_eq!(UserKey::public_half(&text).unwrap(), public.trim(), "{name}");
        if is_locked(&name) {
            assert_eq!(UserKey::decode(&text, None).unwrap_err(), Fault::Encrypted, "{name}");
            let wrong = UserKey::decode(&text, Some(&Secret::new("Correct horse")));
            assert_eq!(wrong.unwrap_err(), Fault::WrongPhrase, "{name}");
        }
        let key = UserKey::decode(&text, Some(&phrase())).unwrap();
        assert_eq!(key.public_line().unwrap().trim(), public.trim(), "{name}");
        // Windows' ends of line are as good.
        assert!(UserKey::decode(&text.replace('\n', "\r\n"), Some(&phrase())).is_ok(), "{name}");
        read += 1;
    }
    assert!(read >= 12);
}

#[test]
fn a_key_that_begins_with_a_zero_is_why_the_reader_is_our_own() {
    let (_, text, _) = corpus().into_iter().find(|(n, ..)| n.contains("zero-head")).unwrap();
    assert!(
        russh::keys::decode_secret_key(&text, None).is_err(),
        "then `keyfile::ppk` may have lost a reason"
    );
    assert!(UserKey::decode(&text, None).is_ok());
}

#[test]
fn damage_anywhere_is_seen_and_is_not_called_a_wrong_phrase_where_that_can_be_known() {
    for (name, text, _) in corpus().into_iter().filter(|(n, ..)| spoken(n)) {
        let lines: Vec<&str> = text.lines().collect();
        for (i, line) in lines.iter().enumerate() {
            // One character of each line, a cut after it, and the line left out.
            let at = line.len() - 1;
            let other = if line.ends_with('0') { '1' } else { '0' };
            let changed = format!("{}{other}", &line[..at]);
            let private =
                i > lines.iter().position(|l| l.starts_with("Private-Lines")).unwrap() && i + 1 < lines.len();
            let derivation = line.starts_with("Argon2-") || line.starts_with("Key-Derivation");
            for (what, broken) in [("changed", Some(changed)), ("missing", None)] {
                let mut broken_lines: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
                match broken {
                    Some(line) => broken_lines[i] = line,
                    None => drop(broken_lines.remove(i)),
                }
                let fault = match UserKey::decode(&broken_lines.join("\n"), Some(&phrase())) {
                    Ok(_) => panic!("{name}: line {i} {what}, and the key opens"),
                    Err(fault) => fault,
                };
                if matches!(fault, Fault::WrongPhrase) {
                    assert!(
                        is_locked(&name) && (private || derivation),
                        "{name}: line {i} {what}: {fault:?}"
                    );
                }
            }
            let cut = lines[..i].join("\n");
            assert!(
                !matches!(UserKey::decode(&cut, Some(&phrase())), Ok(_) | Err(Fault::WrongPhrase)),
                "{name} {i}"
            );
        }
    }
}

#[test]
fn a_file_does_not_say_how_much_memory_it_gets() {
    let (_, text, _) = corpus().into_iter().find(|(n, ..)| n == "ed25519-v3-locked").unwrap();
    for (from, to) in [
        ("Argon2-Memory: 512", "Argon2-Memory: 4294967295"),
        ("Argon2-Passes: 2", "Argon2-Passes: 4294967295"),
        ("Argon2-Parallelism: 1", "Argon2-Parallelism: 4294967295"),
    ] {
        let fault = UserKey::decode(&text.replace(from, to), Some(&phrase())).unwrap_err();
        assert!(matches!(fault, Fault::Unsupported(_)), "{to}: {fault:?}");
    }
    for (from, to) in [
        ("Argon2-Memory: 512", "Argon2-Memory: 0"),
        ("Argon2-Passes: 2", "Argon2-Passes: 0"),
        ("Private-Lines: 1", "Private-Lines: 99999999999"),
        ("Public-Lines: 2", "Public-Lines: -1"),
    ] {
        let fault = UserKey::decode(&text.replace(from, to), Some(&phrase())).unwrap_err();
        assert!(matches!(fault, Fault::Damaged(_)), "{to}: {fault:?}");
    }
}

/// Every kind in every format, and back by another reader.
#[test]
fn what_is_written_is_read_again_by_us_and_by_others() {
    let dir = tempfile::tempdir().unwrap();
    let mut keys: Vec<UserKey> = [Kind::Ed25519, Kind::Ecdsa(256), Kind::Ecdsa(384), Kind::Ecdsa(521)]
        .into_iter()
        .map(|kind| UserKey::generate(kind, "a comment").unwrap())
        .collect();
    // RSA takes its time to be made; one from the corpus does as well.
    let (_, rsa, _) = corpus().into_iter().find(|(n, ..)| n == "rsa-v2").unwrap();
    keys.push(UserKey::decode(&rsa, None).unwrap().with_comment("a comment"));
    for key in keys {
        let public = key.public_line().unwrap();
        for format in [Format::OpenSsh, Format::Ppk2, Format::Ppk3] {
            for lock in [None, Some(phrase())] {
                // What makes guessing slow makes tests slow: one key is locked in OpenSSH's way.
                if lock.is_some() && format == Format::OpenSsh && key.algorithm() != "ssh-ed25519" {
                    continue;
                }
                let text = key.encode(format, lock.as_ref()).unwrap();
                let text = text.expose();
                assert_eq!(UserKey::is_encrypted(text), lock.is_some());
                let again = UserKey::decode(text, lock.as_ref()).unwrap();
                assert_eq!(again.public_line().unwrap(), public, "{format:?}");
                if lock.is_some() && key.algorithm() == "ssh-ed25519" {
                    let wrong = UserKey::decode(text, Some(&Secret::new("x"))).unwrap_err();
                    assert_eq!(wrong, Fault::WrongPhrase, "{format:?}");
                    assert_eq!(UserKey::decode(text, None).unwrap_err(), Fault::Encrypted);
                }
                // russh's reader is another one; it cannot read what begins with a zero.
                if let Ok(theirs) = russh::keys::decode_secret_key(text, lock.as_ref().map(Secret::expose)) {
                    assert_eq!(theirs.public_key().to_openssh().unwrap(), public, "{format:?}");
                } else {
                    assert!(format != Format::OpenSsh && public.starts_with("ssh-ed25519"), "{format:?}");
                }
                let file = dir.path().join("key");
                std::fs::write(&file, text).unwrap();
                let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
                std::fs::set_permissions(&file, mode).unwrap();
                std::fs::write(dir.path().join("phrase"), PHRASE).unwrap();
                if format == Format::OpenSsh {
                    let mut run = Command::new("ssh-keygen");
                    run.args(["-y", "-P", if lock.is_some() { PHRASE } else { "" }, "-f"]).arg(&file);
                    says(&mut run, &public, "ssh-keygen");
                } else {
                    let mut run = Command::new("puttygen");
                    run.arg("-q").arg(&file).arg("-L");
                    if lock.is_some() {
                        run.arg("--old-passphrase").arg(dir.path().join("phrase"));
                    }
                    says(&mut run, &public, "puttygen");
                }
            }
        }
    }
}

/// Whether a program, where it is installed, shows this public key.
fn says(run: &mut Command, public: &str, name: &str) {
    use std::io::Write as _;
    let Ok(out) = run.output() else {
        let _ = writeln!(std::io::stderr(), "NOT TESTED against {name}: it is not installed");
        return;
    };
    let words = String::from_utf8_lossy(&out.stdout).into_owned();
    let blob = public.split(' ').nth(1).unwrap();
    assert!(words.contains(blob), "{name}: {words}{}", String::from_utf8_lossy(&out.stderr));
}

#[test]
fn what_is_no_key_is_not_called_a_damaged_one() {
    for text in ["", "hello", "ssh-ed25519 AAAA", "PuTTY-User-Key-File-1: ssh-rsa\n"] {
        let fault = UserKey::decode(text, None).unwrap_err();
        assert!(matches!(fault, Fault::NotAKey | Fault::Unsupported(_)), "{text}: {fault:?}");
    }
    assert!(
        UserKey::generate(Kind::Rsa(1024), "").is_err() && UserKey::generate(Kind::Ecdsa(255), "").is_err()
    );
    let key = UserKey::generate(Kind::Ed25519, "secret comment").unwrap();
    assert!(format!("{key:?}").starts_with("UserKey(SHA256:"));
    // A comment cannot bring lines of its own into a file.
    let odd = key.with_comment("a\nPrivate-MAC: 0");
    let text = odd.encode(Format::Ppk3, None).unwrap();
    assert_eq!(
        UserKey::decode(text.expose(), None).unwrap().public_line().unwrap().split(' ').nth(1),
        odd.public_line().unwrap().split(' ').nth(1)
    );
}
