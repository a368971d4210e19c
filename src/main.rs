//! cvmfs-run: parse, log, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser;
use tracing::Level;

use cvmfs_run::cli::{self, Cli, Command};
use cvmfs_run::commands::{self, Context};
use cvmfs_run::error::Result;
use cvmfs_run::{engine, log, out, seal, sys};

fn main() -> ExitCode {
    let cli = Cli::parse();
    sys::expect_children();
    let level = match cli.global.log_level {
        _ if cli.global.debug => Level::DEBUG,
        Some(cli::Level::Debug) => Level::DEBUG,
        Some(cli::Level::Warning) => Level::WARN,
        Some(cli::Level::Error) => Level::ERROR,
        Some(cli::Level::Info) | None => Level::INFO,
    };
    // runc's code for an `exec` that fails before its program begins; engines read it so.
    let failed = match cli.command {
        Some(Command::Exec(_)) => ExitCode::from(255),
        _ => ExitCode::FAILURE,
    };
    let result = log::open(cli.global.log.clone(), cli.global.log_format, level)
        .and_then(|()| dispatch(cli));
    engine::grace::end();
    match result {
        Ok(code) => ExitCode::from(code),
        Err(err) => {
            log::fatal(&err.to_string());
            failed
        }
    }
}

/// Runs the command; what it returns is the exit code of this process.
fn dispatch(cli: Cli) -> Result<u8> {
    if cli.global.version {
        return out::print(commands::features::version()).map(|_| 0);
    }
    let Some(command) = cli.command else {
        use clap::CommandFactory;
        // What runc does without a command.
        let _ = Cli::command().print_help();
        return Ok(0);
    };
    match &command {
        Command::Inside { extras } => return engine::inside::run(extras).map(|()| 0),
        Command::HookAtRoot { root, path, args } => {
            return Err(engine::inside::hook(root, path, args));
        }
        Command::Hold => return engine::userns::hold().map(|()| 0),
        Command::Spec(spec) => return spec.clone().exec().map(|()| 0),
        Command::Create(create) => create.options.enter(&cli.global)?,
        Command::Run(run) => run.options.enter(&cli.global)?,
        Command::Exec(exec) => exec.enter(&cli.global)?,
        _ => {}
    }
    // What enters a container must be out of its reach.
    if let Command::Create(_) | Command::Run(_) | Command::Exec(_) = &command {
        seal::ensure()?;
    }
    let context = Context::new(cli.global)?;
    match command {
        Command::Create(create) => create.exec(&context),
        Command::Delete(delete) => delete.exec(&context).map(|()| 0),
        Command::Events(events) => events.exec(&context).map(|()| 0),
        Command::Exec(exec) => exec.exec(&context),
        Command::Features(features) => features.exec(&context).map(|()| 0),
        Command::Hook(hook) => hook.exec(&context).map(|()| 0),
        Command::Kill(kill) => kill.exec(&context).map(|()| 0),
        Command::List(list) => list.exec(&context).map(|()| 0),
        Command::Pause(pause) => pause.exec(&context).map(|()| 0),
        Command::Ps(ps) => ps.exec(&context).map(|()| 0),
        Command::Resume(resume) => resume.exec(&context).map(|()| 0),
        Command::Run(run) => run.exec(&context),
        Command::Start(start) => start.exec(&context).map(|()| 0),
        Command::State(state) => state.exec(&context).map(|()| 0),
        Command::Update(update) => update.exec(&context).map(|()| 0),
        Command::Checkpoint(checkpoint) => checkpoint.exec(&context).map(|()| 0),
        Command::Restore(restore) => restore.exec(&context),
        Command::Configure(configure) => configure.exec(&context).map(|()| 0),
        Command::Check(check) => check.exec(&context),
        Command::Inside { .. } | Command::HookAtRoot { .. } | Command::Hold | Command::Spec(_) => {
            Ok(0)
        }
    }
}
