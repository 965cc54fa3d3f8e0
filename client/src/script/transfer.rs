//! The switches of transfers as options of the engine: the one place where one becomes the other.
//!
//! WinSCP's scripts begin with times kept and permissions left to the server. What the engine cannot do yet
//! is refused by the name of its switch.

use session_core::batch::{InvalidChars, NameCase, Overwrite, Resume, Selection, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};

use super::command::{Command, Verb};
use crate::mask::{FileMask, TEXTS};
use crate::session::FilePermissions;

/// What `ascii`, `binary` and `option transfer` have said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    Ascii,
    Automatic,
    #[default]
    Binary,
}

impl Mode {
    pub(super) fn parse(text: &str) -> Result<Self> {
        match text.to_ascii_lowercase().as_str() {
            "ascii" => Ok(Mode::Ascii),
            "automatic" => Ok(Mode::Automatic),
            "binary" => Ok(Mode::Binary),
            other => Err(bad(format!("'{other}' is not binary, ascii or automatic"))),
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Ascii => "ascii",
            Mode::Automatic => "automatic",
            Mode::Binary => "binary",
        }
    }

    /// Which files are text.
    fn texts(self) -> Result<Option<Selection>> {
        Ok(match self {
            Mode::Ascii => Some(FileMask::all().selection()),
            Mode::Automatic => Some(FileMask::parse(TEXTS)?.selection()),
            Mode::Binary => None,
        })
    }
}

fn bad(words: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidArgument).with_detail(words.into())
}

fn not_yet(switch: &str) -> Error {
    Error::new(ErrorKind::Unsupported).with_detail(format!("the switch '{switch}' is not built yet"))
}

/// The options of a transfer. Errors: `InvalidArgument` for a value that is none, `Unsupported` for what the
/// engine cannot do.
pub(super) fn options(command: &Command, mode: Mode, confirm: bool) -> Result<TransferOptions> {
    let mut options =
        TransferOptions { preserve_modes: false, directory_times: false, ..TransferOptions::default() };
    if confirm {
        options.overwrite = Overwrite::Ask;
    }
    let mut mode = mode;
    for (name, value) in &command.switches {
        let value = value.as_deref();
        match (*name, value) {
            ("delete" | "latest" | "onlyfile" | "preview" | "mirror" | "criteria", _) => {}
            // A synchronisation has its own mask.
            ("filemask", _) if command.verb == Verb::Synchronize => {}
            ("nopermissions", _) => options.permissions = None,
            ("permissions", Some(v)) => options.permissions = Some(permissions(v)?),
            ("nopreservetime", _) => {
                options.preserve_times = false;
                options.directory_times = false;
            }
            ("preservetime", None) => options.preserve_times = true,
            ("preservetime", Some(v)) if v.eq_ignore_ascii_case("all") => {
                options.preserve_times = true;
                options.directory_times = true;
            }
            ("preservetime", Some(v)) => return Err(bad(format!("'-preservetime={v}': it takes 'all'"))),
            ("neweronly", _) => options.overwrite = Overwrite::Newer,
            ("noneweronly", _) => options.overwrite = Overwrite::Always,
            ("resume", _) => options.overwrite = Overwrite::Continue,
            ("append", _) => options.overwrite = Overwrite::Append,
            ("filemask", Some(v)) => options.selection = Some(FileMask::parse(v)?.selection()),
            ("transfer", Some(v)) => mode = Mode::parse(v)?,
            ("resumesupport", Some(v)) => match v.to_ascii_lowercase().as_str() {
                "on" => options.temporary_from = 0,
                "off" => {
                    options.temporary_names = false;
                    options.resume = Resume::Off;
                }
                v => {
                    let size = v.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
                    options.temporary_from = size.ok_or_else(|| {
                        bad(format!("'-resumesupport={v}': it takes on, off or a size in KB"))
                    })?;
                }
            },
            ("speed", Some(v)) => {
                let limit = v.parse::<u64>().ok().and_then(|kib| kib.checked_mul(1024));
                options.limit = limit.ok_or_else(|| bad(format!("'-speed={v}': it takes KB per second")))?;
            }
            ("rawtransfersettings", Some(pair)) => raw(pair, &mut options)?,
            (name, _) => return Err(not_yet(&format!("-{name}"))),
        }
    }
    options.text = match (mode, options.text.take()) {
        (Mode::Automatic, Some(masks)) => Some(masks),
        _ => mode.texts()?,
    };
    Ok(options)
}

/// Permissions as octal digits or nine letters.
fn permissions(text: &str) -> Result<u32> {
    let parsed = FilePermissions::from_octal(text).or_else(|_| FilePermissions::from_text(text));
    parsed.map(FilePermissions::numeric)
}

/// One raw setting of transfers.
fn raw(pair: &str, options: &mut TransferOptions) -> Result<()> {
    let (name, value) = pair.split_once('=').ok_or_else(|| bad(format!("'{pair}' is not 'name=value'")))?;
    let yes = || match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(bad(format!("the setting '{name}' takes 0 or 1"))),
    };
    match name.to_ascii_lowercase().as_str() {
        "neweronly" => options.overwrite = if yes()? { Overwrite::Newer } else { Overwrite::Always },
        "preservetimedirs" => options.directory_times = yes()?,
        "ignorepermerrors" => options.ignore_attribute_errors = yes()?,
        "excludehiddenfiles" => options.exclude_hidden = yes()?,
        "addxtodirectories" => options.add_x_to_directories = yes()?,
        // The size is known as far as it is; nothing is listed for it beforehand.
        "calculatesize" => drop(yes()?),
        "filenamecase" => {
            let case = value.parse::<usize>().ok().and_then(|n| NameCase::ALL.get(n));
            options.name_case =
                *case.ok_or_else(|| bad(format!("the setting '{name}' takes a number from 0 to 4")))?;
        }
        "excludeemptydirectories" => options.exclude_empty_directories = yes()?,
        "removectrlz" => options.remove_ctrl_z = yes()?,
        "removebom" => options.remove_bom = yes()?,
        "preservereadonly" => options.preserve_read_only = yes()?,
        "replaceinvalidchars" => {
            let chars = options.invalid_chars.take().unwrap_or_default();
            options.invalid_chars = yes()?.then_some(chars);
        }
        // Only where they are replaced at all, which is what WinSCP does unless it is told not to.
        "localinvalidchars" => options.invalid_chars = Some(InvalidChars::new(value)),
        "masks" => options.text = Some(FileMask::parse(value)?.selection()),
        "text" => options.permissions = Some(permissions(value)?),
        // There is no such attribute here.
        "cleararchive" => drop(yes()?),
        // What is new is encrypted where the session has a key; `off` is judged there.
        "encryptnewfiles" => drop(yes()?),
        _ => {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the transfer setting '{name}={value}' is not built yet")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use session_core::batch::Candidate;
    use session_core::metadata::{FileType, Metadata};
    use session_core::path::VPath;

    use super::super::command::parse;
    use super::*;

    fn of(switches: &str) -> Result<TransferOptions> {
        options(&parse(&format!("get {switches} x")).unwrap().unwrap(), Mode::Binary, false)
    }

    #[test]
    fn switches_become_options() {
        let o = of("").unwrap();
        assert_eq!((o.preserve_times, o.preserve_modes, o.overwrite), (true, false, Overwrite::Always));
        assert!(!of("-nopreservetime").unwrap().preserve_times);
        assert_eq!(of("-neweronly").unwrap().overwrite, Overwrite::Newer);
        assert!(!of("-resumesupport=off").unwrap().temporary_names);
        assert_eq!(of("-resumesupport=200").unwrap().temporary_from, 200 << 10);
        assert_eq!(
            (of("-speed=10").unwrap().limit, of("-append").unwrap().overwrite),
            (10_240, Overwrite::Append)
        );
        assert_eq!(of("-resume").unwrap().overwrite, Overwrite::Continue);
        assert_eq!(of("-permissions=rw-r-----").unwrap().permissions, Some(0o640));
        assert!(!of("").unwrap().directory_times && of("-preservetime=all").unwrap().directory_times);
        let lower = of("-rawtransfersettings[2] FileNameCase=2 ExcludeHiddenFiles=1").unwrap();
        assert_eq!((lower.name_case, lower.exclude_hidden), (NameCase::Lower, true));
        let raw =
            "-rawtransfersettings[6] RemoveBOM=1 RemoveCtrlZ=1 ExcludeEmptyDirectories=1 PreserveReadOnly=1";
        let raw = of(&format!("{raw} LocalInvalidChars=:? Text=rw-------")).unwrap();
        assert!(
            raw.remove_bom && raw.remove_ctrl_z && raw.exclude_empty_directories && raw.preserve_read_only
        );
        assert_eq!(raw.invalid_chars, Some(InvalidChars::new(":?")));
        assert_eq!(raw.permissions, Some(0o600));
        let off = of("-rawtransfersettings[2] LocalInvalidChars=: ReplaceInvalidChars=0").unwrap();
        assert_eq!(off.invalid_chars, None);
        assert!(of("-filemask=*.txt|a*").unwrap().selection.is_some());
        let is_text = |switches: &str, name: &str| {
            let (path, file) = (VPath::absolute(name).unwrap(), Metadata::new(FileType::File, 1));
            let candidate = Candidate { path: &path, root: &path, metadata: &file };
            of(switches).unwrap().text.map(|s| s.0.takes(&candidate))
        };
        assert_eq!(is_text("-transfer=ascii", "/a.bin"), Some(true));
        assert_eq!(is_text("-transfer=automatic", "/a.bin"), Some(false));
        assert_eq!(is_text("-transfer=automatic", "/d/a.html"), Some(true));
        assert_eq!(is_text("-transfer=binary", "/a.txt"), None);
        let masks = "-transfer=automatic -rawtransfersettings[1] Masks=*.me";
        assert_eq!((is_text(masks, "/read.me"), is_text(masks, "/a.txt")), (Some(true), Some(false)));
        assert_eq!(of("-rawtransfersettings[1] NewerOnly=1").unwrap().overwrite, Overwrite::Newer);
        for (switches, kind) in [
            ("-preservetime=some", ErrorKind::InvalidArgument),
            ("-resumesupport=maybe", ErrorKind::InvalidArgument),
            ("-speed=fast", ErrorKind::InvalidArgument),
            ("-filemask=a|b|c", ErrorKind::InvalidArgument),
            ("-permissions=rwz", ErrorKind::InvalidArgument),
            ("-transfer=morse", ErrorKind::InvalidArgument),
            ("-rawtransfersettings[1] Color=1", ErrorKind::Unsupported),
        ] {
            assert_eq!(of(switches).map(|_| ()).unwrap_err().kind(), kind, "{switches}");
        }
        assert_eq!(
            options(&parse("get x").unwrap().unwrap(), Mode::Binary, true).unwrap().overwrite,
            Overwrite::Ask
        );
    }
}
