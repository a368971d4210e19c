//! A command line's definition as a manual page (man(7)).

use clap::{Arg, ArgAction, Command};
use cvmfs_run::engine::fallback::Reason;

/// A command without what is hidden, ready to be looked at.
pub fn visible(name: &'static str, command: Command) -> Command {
    let mut rebuilt = Command::new(name)
        .args(
            command
                .get_arguments()
                .filter(|a| !a.is_hide_set())
                .cloned(),
        )
        .disable_version_flag(command.is_disable_version_flag_set())
        .subcommands(
            command
                .get_subcommands()
                .filter(|sub| !sub.is_hide_set())
                .cloned(),
        );
    if let Some(about) = command.get_about() {
        rebuilt = rebuilt.about(about.clone());
    }
    if command.get_version().is_some() {
        rebuilt = rebuilt.version(env!("CARGO_PKG_VERSION"));
    }
    rebuilt.build();
    rebuilt
}

/// Text as roff shows it.
pub fn escape(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('…', "\\&...");
    match text.starts_with(['.', '\'']) {
        true => format!("\\&{text}"),
        false => text,
    }
}

/// A sentence: what stands in backquotes is bold.
fn sentence(text: &str) -> String {
    let mut bold = false;
    let parts = escape(text)
        .split('`')
        .map(|part| {
            let shown = match bold {
                true => format!("\\fB{part}\\fR"),
                false => part.to_owned(),
            };
            bold = !bold;
            shown
        })
        .collect::<String>();
    parts.trim().to_owned()
}

/// The options and arguments of one command.
pub fn options(command: &Command) -> String {
    let own = |argument: &&Arg| !argument.is_hide_set() && argument.get_id() != "help";
    let (positional, named): (Vec<&Arg>, Vec<&Arg>) = command
        .get_arguments()
        .filter(own)
        .partition(|argument| argument.is_positional());
    positional.into_iter().chain(named).map(option).collect()
}

fn option(argument: &Arg) -> String {
    let mut names = Vec::new();
    names.extend(
        argument
            .get_short()
            .map(|short| format!("\\fB\\-{short}\\fR")),
    );
    names.extend(
        argument
            .get_long()
            .map(|long| format!("\\fB\\-\\-{}\\fR", escape(long))),
    );
    let mut head = names.join(", ");
    if !matches!(
        argument.get_action(),
        ArgAction::SetTrue | ArgAction::SetFalse | ArgAction::Count
    ) {
        let values = argument.get_value_names().unwrap_or_default();
        let values: Vec<String> = values
            .iter()
            .map(|v| format!("\\fI{}\\fR", escape(v)))
            .collect();
        head = format!("{head} {}", values.join(" ")).trim().to_owned();
    }
    let help = argument.get_long_help().or(argument.get_help());
    let mut text = sentence(&help.map(ToString::to_string).unwrap_or_default());
    let values: Vec<_> = argument
        .get_possible_values()
        .into_iter()
        .filter(|value| !value.is_hide_set())
        .collect();
    let takes = argument.get_action().takes_values();
    if takes && !values.is_empty() {
        let values: Vec<String> = values
            .iter()
            .map(|value| {
                let help = value
                    .get_help()
                    .map(|help| format!(" ({})", sentence(&help.to_string())));
                format!(
                    "\\fB{}\\fR{}",
                    escape(value.get_name()),
                    help.unwrap_or_default()
                )
            })
            .collect();
        text = format!("{text}: {}", values.join(", "));
    }
    let default = argument.get_default_values().first();
    if let Some(default) = default.filter(|_| takes) {
        text = format!("{text} [default: {}]", escape(&default.to_string_lossy()));
    }
    format!(".TP\n{head}\n{text}\n")
}

/// All commands, each with its synopsis, what it does, and its options.
pub fn commands(command: &Command) -> String {
    command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
        .map(|sub| {
            let usage = sub.clone().render_usage().to_string();
            let usage = usage.trim_start_matches("Usage: ").replace('\n', " ");
            let about = sub.get_long_about().or(sub.get_about());
            let about = about.map(ToString::to_string).unwrap_or_default();
            let after = sub.get_after_long_help().map(ToString::to_string);
            format!(
                ".SS {}\n{}{}{}",
                escape(sub.get_name()),
                paragraphs(&about, &usage),
                options(sub),
                indented(&after.unwrap_or_default())
            )
        })
        .collect()
}

/// A synopsis, and what follows it, blank lines between paragraphs.
fn paragraphs(text: &str, usage: &str) -> String {
    let mut page = format!(".B {}\n", escape(usage));
    for paragraph in text.split("\n\n") {
        page.push_str(&format!(
            ".PP\n{}\n",
            end(&sentence(&paragraph.replace('\n', " ")))
        ));
    }
    page
}

/// A summary has no full stop, and a paragraph of a page has.
fn end(text: &str) -> String {
    match text.ends_with(['.', ':', '?']) {
        true => text.to_owned(),
        false => format!("{text}."),
    }
}

/// What stands after the options: headings at the margin, text at two spaces, and what is to be
/// typed at four.
fn indented(text: &str) -> String {
    let mut page = String::new();
    let mut typed = false;
    for line in text.lines() {
        let code = line.starts_with("    ");
        if code != typed {
            page.push_str(if code {
                ".PP\n.nf\n.RS\n"
            } else {
                ".RE\n.fi\n"
            });
            typed = code;
        }
        match line.trim() {
            "" => page.push_str(".PP\n"),
            text if code => page.push_str(&format!("{}\n", escape(text))),
            text if !line.starts_with(' ') => {
                page.push_str(&format!(".PP\n.B {}\n.PP\n", escape(&heading(text))));
            }
            text => page.push_str(&format!("{}\n", sentence(text))),
        }
    }
    if typed {
        page.push_str(".RE\n.fi\n");
    }
    // Empty paragraphs are what groff warns of.
    while page.contains(".PP\n.PP\n") {
        page = page.replace(".PP\n.PP\n", ".PP\n");
    }
    page
}

/// `OWNERS AND MODES` as a heading below a section.
fn heading(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(String::from).unwrap_or_default();
    first + &letters.as_str().to_lowercase()
}

/// The features for which there is a fallback runtime.
pub fn reasons<'a>(reasons: impl Iterator<Item = &'a Reason>) -> String {
    reasons
        .map(|reason| {
            format!(
                ".TP\n{}\n{}.\n",
                sentence(reason.name),
                sentence(reason.why)
            )
        })
        .collect()
}
