//! Secrets that handlers may read by name: from a private file, and from variables of the environment.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use session_core::auth::Secret;
use session_core::error::Result;

use super::invalid;

/// Those of a TOML file of names and texts that nobody else may read, and those of variables that begin with
/// `prefix`, by the rest of their name in small letters, which stand before the file's. Blocks. Errors:
/// `InvalidArgument` for a file that others may read or that is not of this kind; its content is not told.
pub fn secrets(file: Option<&Path>, prefix: &str) -> Result<BTreeMap<String, Secret>> {
    // What is no text is nobody's secret.
    let variables = std::env::vars_os().filter_map(|(n, v)| n.into_string().ok().zip(v.into_string().ok()));
    declared(file, prefix, variables)
}

fn declared(
    file: Option<&Path>,
    prefix: &str,
    variables: impl Iterator<Item = (String, String)>,
) -> Result<BTreeMap<String, Secret>> {
    let mut all = BTreeMap::new();
    if let Some(file) = file {
        let fault = |words: String| invalid(format!("the secrets in {}: {words}", file.display()));
        let metadata = std::fs::metadata(file).map_err(|e| fault(e.to_string()))?;
        if metadata.mode() & 0o077 != 0 {
            return Err(fault("others may read or write them".into()).with_hint("chmod 600"));
        }
        let text = std::fs::read_to_string(file).map_err(|e| fault(e.to_string()))?;
        // A parser's message quotes the text: only its place is told.
        let parsed: BTreeMap<String, String> = toml::from_str(&text).map_err(|e| {
            let line =
                1 + text.get(..e.span().map_or(0, |s| s.start)).unwrap_or_default().matches('\n').count();
            fault(format!("line {line} is not `name = \"secret\"`"))
        })?;
        all.extend(parsed.into_iter().map(|(name, secret)| (name, Secret::new(secret))));
    }
    for (name, secret) in variables {
        if let Some(name) = name.strip_prefix(prefix).filter(|n| !n.is_empty()) {
            all.insert(name.to_ascii_lowercase(), Secret::new(secret));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use session_core::script::Secrets;

    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn secrets_come_from_a_private_file_and_from_variables() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secrets.toml");
        std::fs::write(&file, "a = \"one\"\nb = \"two\"\n").unwrap();
        let read = |mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let variables = [("FERRYD_SECRET_B", "three"), ("FERRYD_SECRET_", "x"), ("PATH", "p")];
            let variables = variables.into_iter().map(|(n, v)| (n.into(), v.into()));
            declared(Some(&file), "FERRYD_SECRET_", variables).map(Secrets::new)
        };
        assert!(read(0o644).unwrap_err().to_string().contains("others may read"));
        let all = read(0o600).unwrap();
        let get = |name| all.get(name).map(|s| s.expose().to_string());
        assert_eq!((get("a").as_deref(), get("b").as_deref()), (Some("one"), Some("three")));
        assert_eq!(format!("{all:?}"), "{\"a\", \"b\"}");
        std::fs::write(&file, "a = \"one\"\nb = hunter2\n").unwrap();
        let words = read(0o600).unwrap_err().to_string();
        assert!(words.contains("line 2") && !words.contains("hunter2"), "{words}");
    }
}
