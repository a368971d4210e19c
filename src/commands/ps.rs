//! `ps`: the processes of a container.

use clap::{Args, ValueEnum};

use crate::engine::cgroup;
use crate::error::{Context as _, Error, Result};
use crate::out;

use super::Context;

/// Print the processes of a container
#[derive(Clone, Debug, Args)]
pub struct Ps {
    /// As a table, or their numbers as JSON
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// The container's name
    pub id: String,
    /// What ps(1) is asked for
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub options: Vec<String>,
}

/// How processes are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// ps(1)'s lines
    Table,
    /// A list of numbers
    Json,
}

impl Ps {
    /// Prints the processes.
    pub fn exec(self, context: &Context) -> Result<()> {
        let (_, state) = context.load(&self.id)?;
        let pids = cgroup::pids(&state)?;
        if self.format == Format::Json {
            return out::line(serde_json::json!(pids)).map(drop);
        }
        let options = if self.options.is_empty() {
            vec!["-ef".into()]
        } else {
            self.options
        };
        let output = std::process::Command::new("ps").args(&options).output();
        let output = output.doing(|| "cannot start ps")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut lines = text.lines();
        let title = lines.next().unwrap_or_default();
        let column = title
            .split_whitespace()
            .position(|name| name == "PID")
            .ok_or_else(|| {
                Error::new("ps prints no column PID").hint("add one to its options: -o pid,args")
            })?;
        out::line(title)?;
        for line in lines {
            let pid = line
                .split_whitespace()
                .nth(column)
                .and_then(|field| field.parse().ok());
            if pid.is_some_and(|pid: i32| pids.contains(&pid)) {
                out::line(line)?;
            }
        }
        Ok(())
    }
}
