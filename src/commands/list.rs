//! `list`: all containers.

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::error::Result;
use crate::out;
use crate::state;

use super::Context;

/// Print all containers
#[derive(Clone, Debug, Args)]
pub struct List {
    /// As a table or as JSON
    #[arg(short, long, value_enum, default_value = "table")]
    pub format: Format,
    /// Their names alone
    #[arg(short, long)]
    pub quiet: bool,
}

/// How containers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A line each
    Table,
    /// A list of states
    Json,
}

impl List {
    /// Prints the containers.
    pub fn exec(self, context: &Context) -> Result<()> {
        let mut rows = Vec::new();
        for id in state::list(&context.root)? {
            if self.quiet {
                out::line(id)?;
                continue;
            }
            // One that is deleted meanwhile is no longer to be listed.
            let Ok((dir, state)) = state::load(&context.root, &id) else {
                continue;
            };
            rows.push(super::state::to_json(&dir, &state));
        }
        if self.quiet {
            return Ok(());
        }
        if self.format == Format::Json {
            out::line(json!(rows))?;
            return Ok(());
        }
        let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
        let mut table = vec![titles.map(str::to_owned)];
        for row in &rows {
            let text = |key: &str| match &row[key] {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            table.push(["id", "pid", "status", "bundle", "created", "owner"].map(text));
        }
        let widths: Vec<usize> = (0..titles.len())
            .map(|column| {
                table
                    .iter()
                    .map(|row| row[column].len())
                    .max()
                    .unwrap_or_default()
            })
            .collect();
        for row in table {
            let cells: Vec<String> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            out::line(cells.join("   ").trim_end())?;
        }
        Ok(())
    }
}
