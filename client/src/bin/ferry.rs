//! `ferry`: see `ferry --help`.

fn main() -> std::process::ExitCode {
    client::cli::main()
}
