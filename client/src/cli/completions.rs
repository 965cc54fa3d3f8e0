//! Completions for shells: what is generated from the definition of the commands, and names on servers.
//!
//! The scripts of bash, zsh and fish ask `ferry complete-place` for what a URL that is being typed may go on with.
//! What it answers needs no quotes in any shell: names are written as URLs write them.

use clap_complete::Shell;

/// The hidden command that the scripts call: the words of the line up to the cursor, the last one begun.
pub(super) const ASK: &str = "complete-place";

/// For bash, where the word that is replaced begins after the last of the characters that break words.
const BASH: &str = r#"_ferry_places() {
    local line="${COMP_LINE:0:COMP_POINT}" word before found IFS=$' \t\n'
    word="${line##*[[:space:]]}"
    word="${word#[\"\']}"
    [[ "$word" == *://* && "${BASH_VERSINFO[0]}" -ge 4 ]] || return 1
    read -ra before <<< "${line%"$word"}"
    mapfile -t found < <("${before[0]/#\~/$HOME}" complete-place -- "${before[@]:1}" "$word" 2>/dev/null </dev/null)
    local typed="${word%"${word##*[$COMP_WORDBREAKS]}"}"
    COMPREPLY=("${found[@]#"$typed"}")
    if [[ ${#COMPREPLY[@]} -eq 1 && "${COMPREPLY[0]}" == */ ]]; then
        compopt -o nospace 2>/dev/null
    fi
    return 0
}

"#;

const ZSH: &str = r#"_ferry_places() {
    local -a found folders
    found=("${(@f)$(${words[1]} complete-place -- "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null </dev/null)}")
    found=(${found:#})
    folders=(${(M)found:#*/})
    found=(${found:#*/})
    (( $#folders )) && compadd -Q -S '' -- $folders
    (( $#found )) && compadd -Q -- $found
    return 0
}

"#;

const FISH: &str = r#"
function __fish_ferry_places
    set -l before (commandline -opc)
    set -l program $before[1]
    set -e before[1]
    $program complete-place -- $before (commandline -ct) 2>/dev/null </dev/null
end

complete -c ferry -n 'string match -q -- "*://*" (commandline -ct)' -f -a '(__fish_ferry_places)'
"#;

/// The completions of a shell. `None`: what is generated has no longer the form that this knows.
pub(super) fn script(shell: Shell, command: &clap::Command) -> Option<Vec<u8>> {
    // What is hidden shall not be found.
    let shown = command.get_subcommands().filter(|c| !c.is_hide_set()).cloned();
    let mut visible = clap::Command::new("ferry")
        .args(command.get_arguments().cloned())
        .subcommands(shown)
        .version(env!("CARGO_PKG_VERSION"));
    let mut generated = Vec::new();
    clap_complete::generate(shell, &mut visible, "ferry", &mut generated);
    let text = String::from_utf8(generated).ok()?;
    let before = |begin: &str, places: &str, ask: &str| {
        let (head, body) = text.split_once(begin)?;
        Some(format!("{head}{places}{begin}{ask}{body}"))
    };
    let text = match shell {
        Shell::Bash => before("_ferry() {\n", BASH, "    _ferry_places && return 0\n")?,
        Shell::Zsh => {
            before("_ferry() {\n", ZSH, "    if [[ $PREFIX == *://* ]]; then _ferry_places; return; fi\n")?
        }
        Shell::Fish => text + FISH,
        _ => text,
    };
    Some(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn scripts_ask_for_places_and_show_nothing_hidden() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let text =
                String::from_utf8(script(shell, &super::super::args::Cli::command()).unwrap()).unwrap();
            assert_eq!(text.matches(ASK).count(), 1, "{shell}: once, where it is asked");
            assert!(text.contains("fingerprint") && text.contains("ferry_places"), "{shell}");
        }
    }
}
