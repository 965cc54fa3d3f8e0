//! `call`: a command of the server, in the remote directory of the session.

use session_core::error::Result;

use super::{Runner, several};
use crate::script::command::Command;

impl Runner<'_> {
    pub(super) async fn call(&mut self, c: &Command) -> Result<()> {
        let (session, cwd) = self.at("")?;
        let command = c.arguments.first().map_or("", String::as_str);
        let mut values = vec![("command", command.to_owned()), ("destination", cwd.clone())];
        let (error, logged) = match session.execute_command(command, &cwd).await {
            Ok(result) => {
                let (output, errors) = (result.output_text(), result.error_text());
                output.lines().for_each(|line| self.console.line(line));
                errors.lines().for_each(|line| self.console.error(line));
                values.push(("output", output.trim_end_matches('\n').to_owned()));
                if !errors.is_empty() {
                    values.push(("erroroutput", errors.trim_end_matches('\n').to_owned()));
                }
                values.extend(result.exit_code.map(|code| ("exitcode", code.to_string())));
                (result.failures.into_iter().next(), values)
            }
            Err(e) => (Some(e), values),
        };
        let shown: Vec<(&str, &str)> = logged.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.log("call", &shown, error.as_ref());
        match error {
            None => Ok(()),
            Some(e) => {
                self.console.error(&format!("{e:#}"));
                Err(several())
            }
        }
    }
}
