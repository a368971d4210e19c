//! The command line for a fallback runtime: flags that only the other of crun and runc has.
//!
//! A flag that says nothing new there is left out; any other is handed on, and the runtime says
//! itself what it does not know.

use std::path::Path;

/// A flag of a command.
struct Flag {
    command: &'static str,
    /// Its long and short form.
    names: [&'static str; 2],
    /// The value with which it may be left out; `None` for a flag without value, which always may.
    value: Option<&'static str>,
}

const fn flag(
    command: &'static str,
    names: [&'static str; 2],
    value: Option<&'static str>,
) -> Flag {
    Flag {
        command,
        names,
        value,
    }
}

/// crun's flags that runc lacks: the default name of the configuration, and a subreaper that
/// runc's `create` never makes.
const NOT_RUNCS: [Flag; 3] = [
    flag("create", ["--config", "-f"], Some("config.json")),
    flag("run", ["--config", "-f"], Some("config.json")),
    flag("create", ["--no-subreaper", ""], None),
];

/// `arguments` (the command first) as `program` takes them (pure).
pub fn translate(program: &Path, arguments: &[String]) -> Vec<String> {
    let runc = program.file_name().is_some_and(|name| name == "runc");
    let flags: &[Flag] = if runc { &NOT_RUNCS } else { &[] };
    let Some(command) = arguments.first() else {
        return Vec::new();
    };
    let flags: Vec<&Flag> = flags.iter().filter(|f| f.command == command).collect();
    let mut left = Vec::new();
    let mut rest = arguments.iter().peekable();
    while let Some(argument) = rest.next() {
        let (name, attached) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        match flags.iter().find(|flag| flag.names.contains(&name)) {
            None => left.push(argument.clone()),
            Some(Flag { value: None, .. }) => {}
            Some(Flag { value, .. }) if attached == *value => {}
            Some(Flag { value, .. })
                if attached.is_none() && rest.peek().map(|next| next.as_str()) == *value =>
            {
                rest.next();
            }
            Some(_) => left.push(argument.clone()),
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_that_says_nothing_new_is_not_handed_to_a_runtime_without_it() {
        for (program, given, taken) in [
            ("runc", "run --config config.json -d x", "run -d x"),
            ("runc", "run --config=config.json x", "run x"),
            ("runc", "run -f other.json x", "run -f other.json x"),
            ("runc", "create -f config.json --no-subreaper x", "create x"),
            ("runc", "run --no-subreaper x", "run --no-subreaper x"),
            ("runc", "delete -f x", "delete -f x"),
            (
                "crun",
                "run --config config.json x",
                "run --config config.json x",
            ),
        ] {
            let given: Vec<String> = given.split(' ').map(str::to_owned).collect();
            let program = Path::new("/usr/bin").join(program);
            assert_eq!(translate(&program, &given).join(" "), taken);
        }
    }
}
