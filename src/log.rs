//! What is written where: one line an event, in the form that engines parse.
//!
//! conmon, containerd and Docker read the file given by `--log` for lines in the form of logrus
//! (`{"level":"error","msg":"…","time":"…"}`) and show the last one to the user.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use crate::error::{Context, Result, one_line, without_numbers};

/// How a line is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `time="…" level=error msg="…"`
    #[default]
    Text,
    /// `{"level":"error","msg":"…","time":"…"}`
    Json,
}

/// Where a process logs to.
struct Log {
    /// The file of `--log`; standard error when there is none.
    file: Option<Mutex<File>>,
    format: Format,
    level: Level,
    /// What libcontainer's child processes said went wrong; they share this file with us.
    diary: Option<File>,
}

static LOG: OnceLock<Log> = OnceLock::new();

/// Whether this process has closed the log's files.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Opens the log. Called once, before anything that may fail.
pub fn open(path: Option<PathBuf>, format: Format, level: Level) -> Result<()> {
    let file = path
        .map(|path| {
            File::options()
                .append(true)
                .create(true)
                .open(&path)
                .doing(|| format!("cannot open log {}", path.display()))
        })
        .transpose()?;
    let diary = rustix::fs::memfd_create("diary", rustix::fs::MemfdFlags::CLOEXEC).ok();
    let log = Log {
        file: file.map(Mutex::new),
        format,
        level,
        diary: diary.map(File::from),
    };
    if LOG.set(log).is_ok() {
        // Fails only where a subscriber is set already, which is ours.
        let _ = tracing::subscriber::set_global_default(Lines);
    }
    Ok(())
}

/// Reports the error that ends this process: to the log, and to standard error for a person.
pub fn fatal(message: &str) {
    let message = one_line(message);
    match LOG.get() {
        Some(log) if log.file.is_some() => {
            log.line(Level::ERROR, &message);
            eprintln!("cvmfs-run: {message}");
        }
        Some(Log {
            format: Format::Json,
            ..
        }) => LOG.get().unwrap().line(Level::ERROR, &message),
        _ => eprintln!("cvmfs-run: {message}"),
    }
}

/// From now on this process has only standard error to log to: its other files are closed next.
pub fn to_standard_error() {
    CLOSED.store(true, Ordering::Relaxed);
}

/// What the engine's child processes reported since the last call: the deepest cause first.
pub fn diary() -> Vec<String> {
    let Some(mut diary) = LOG.get().and_then(|log| log.diary.as_ref()) else {
        return Vec::new();
    };
    let mut text = String::new();
    if diary.seek(SeekFrom::Start(0)).is_ok() {
        let _ = diary.read_to_string(&mut text);
        let _ = diary
            .set_len(0)
            .and_then(|()| diary.seek(SeekFrom::Start(0)).map(drop));
    }
    text.lines().map(str::to_owned).collect()
}

impl Log {
    fn line(&self, level: Level, message: &str) {
        let time = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let level = match level {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            _ => "debug",
        };
        let line = match self.format {
            Format::Json => {
                serde_json::json!({"level": level, "msg": message, "time": time}).to_string()
            }
            Format::Text => format!("time=\"{time}\" level={level} msg={message:?}"),
        };
        // A log that cannot be written must not fail the container.
        let closed = CLOSED.load(Ordering::Relaxed);
        let _ = match &self.file {
            Some(file) if !closed => match file.lock() {
                Ok(mut file) => file.write_all(format!("{line}\n").as_bytes()),
                Err(_) => Ok(()),
            },
            // What was meant for a file does not go elsewhere, but for a failure.
            Some(_) if level != "error" => Ok(()),
            _ => std::io::stderr().write_all(format!("{line}\n").as_bytes()),
        };
    }
}

/// Writes tracing's events as lines. Spans carry nothing here.
struct Lines;

/// libcontainer and libcgroups speak of their inner steps; their errors reach the user through
/// the error they return, so only `--debug` shows their lines.
fn foreign(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("cvmfs_run")
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let Some(log) = LOG.get() else { return false };
        if !metadata.is_event() {
            return false;
        }
        if foreign(metadata) {
            return *metadata.level() == Level::ERROR || log.level >= Level::DEBUG;
        }
        *metadata.level() <= log.level
    }

    fn event(&self, event: &Event<'_>) {
        let Some(log) = LOG.get() else { return };
        let mut text = Text::default();
        event.record(&mut text);
        let message = one_line(&without_numbers(&(text.message + &text.fields)));
        if foreign(event.metadata()) {
            if *event.metadata().level() == Level::ERROR
                && !CLOSED.load(Ordering::Relaxed)
                && let Some(mut diary) = log.diary.as_ref()
            {
                let _ = diary.write_all(format!("{message}\n").as_bytes());
            }
            if log.level < Level::DEBUG {
                return;
            }
        }
        log.line(*event.metadata().level(), &message);
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}
