//! The switches of transfers as options of the engine: the one place where one becomes the other.
//!
//! WinSCP's scripts begin with times kept and permissions left to the server. What the engine cannot do yet
//! is refused by the name of its switch.

use session_core::batch::{Overwrite, Resume, TransferOptions};
use session_core::error::{Error, ErrorKind, Result};

use super::command::{Command, Verb};

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
    let mut options = TransferOptions { preserve_modes: false, ..TransferOptions::default() };
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
            ("nopermissions", _) => options.preserve_modes = false,
            ("nopreservetime", _) => options.preserve_times = false,
            ("preservetime", None) => options.preserve_times = true,
            ("preservetime", Some(v)) if v.eq_ignore_ascii_case("all") => options.preserve_times = true,
            ("preservetime", Some(v)) => return Err(bad(format!("'-preservetime={v}': it takes 'all'"))),
            ("neweronly", _) => options.overwrite = Overwrite::Newer,
            ("noneweronly", _) => options.overwrite = Overwrite::Always,
            ("transfer", Some(v)) => mode = Mode::parse(v)?,
            ("resumesupport", Some(v)) => match v.to_ascii_lowercase().as_str() {
                "on" => options.temporary_names = true,
                "off" => {
                    options.temporary_names = false;
                    options.resume = Resume::Off;
                }
                // The engine's own threshold.
                "100" => {}
                v if v.parse::<u64>().is_ok() => return Err(not_yet("-resumesupport=SIZE")),
                v => return Err(bad(format!("'-resumesupport={v}': it takes on, off or a size in KB"))),
            },
            ("speed", Some("0")) => {}
            ("speed", Some(v)) if v.parse::<u64>().is_err() => {
                return Err(bad(format!("'-speed={v}': it takes KB per second")));
            }
            ("rawtransfersettings", Some(pair)) => {
                raw(pair, &mut options)?;
            }
            (name, _) => return Err(not_yet(&format!("-{name}"))),
        }
    }
    if mode != Mode::Binary {
        return Err(not_yet(&format!("-transfer={}", mode.name())));
    }
    Ok(options)
}

/// One raw setting of transfers.
fn raw(pair: &str, options: &mut TransferOptions) -> Result<()> {
    let (name, value) = pair.split_once('=').ok_or_else(|| bad(format!("'{pair}' is not 'name=value'")))?;
    let yes = match value {
        "0" => false,
        "1" => true,
        _ => return Err(bad(format!("the setting '{name}' takes 0 or 1"))),
    };
    match name.to_ascii_lowercase().as_str() {
        "neweronly" => options.overwrite = if yes { Overwrite::Newer } else { Overwrite::Always },
        "preservetimedirs" if yes => {}
        "calculatesize" => {}
        "excludehiddenfiles"
        | "excludeemptydirectories"
        | "cleararchive"
        | "removectrlz"
        | "removebom"
        | "encryptnewfiles"
        | "ignorepermerrors"
        | "preservereadonly"
        | "replaceinvalidchars"
            if !yes => {}
        _ => {
            return Err(Error::new(ErrorKind::Unsupported)
                .with_detail(format!("the transfer setting '{name}={value}' is not built yet")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
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
        assert_eq!(of("-rawtransfersettings[1] NewerOnly=1").unwrap().overwrite, Overwrite::Newer);
        for (switches, kind) in [
            ("-preservetime=some", ErrorKind::InvalidArgument),
            ("-resumesupport=maybe", ErrorKind::InvalidArgument),
            ("-speed=fast", ErrorKind::InvalidArgument),
            ("-transfer=morse", ErrorKind::InvalidArgument),
            ("-transfer=ascii", ErrorKind::Unsupported),
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
