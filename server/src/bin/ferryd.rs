//! `ferryd`: see `ferryd --help`.

fn main() -> std::process::ExitCode {
    server::cli::main()
}
