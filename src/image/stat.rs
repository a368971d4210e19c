//! `cvmfs-image stat`: what was fetched for a running container, as far as anybody can tell.

mod counters;
mod subject;

pub use subject::named;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::beneath::{Dir, os};
use super::find::Places;
use super::name::Name;
use super::parallel;
use super::progress::{Progress, Unit};
use super::repository::Repository;
use super::scan::{self, Kind};
use super::{human, say};
use crate::error::{Context, Result, one_line};
use counters::{Counters, is_cached};
use subject::Subject;

/// Show what was fetched for a running container
///
/// The figures are those of the client that has mounted the repository: it counts what everybody on
/// this host has fetched since then, and cannot tell one container from another. On a host that does
/// nothing else they are the container's; otherwise --interval shows what comes while it works, and
/// --files how much of this image lies in the client's cache, whoever fetched it.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  Since the repository was mounted, beside the image's size:
    cvmfs-image stat mycontainer

  What comes every 5 seconds, until it is interrupted, and twice:
    cvmfs-image stat mycontainer --interval 5
    cvmfs-image stat mycontainer --interval 5 --count 2

  How much of the image is on this host:
    cvmfs-image stat mycontainer --files

FIGURES
  `downloads` are objects: files, the parts of large ones, and the catalogs that list them. Bytes
  received are compressed, and so is the image's size in brackets. A layer in a plain directory is
  not fetched.")]
pub struct Stat {
    /// The container, by its name in podman or by its ID
    #[arg(value_name = "CONTAINER")]
    container: String,

    #[command(flatten)]
    places: Places,

    /// Then show what came in each so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86400))]
    interval: Option<u64>,

    /// How often [default: until it is interrupted]
    #[arg(long, value_name = "N", requires = "interval")]
    count: Option<u64>,

    /// Ask the client of each file of the image whether it lies in its cache
    #[arg(long)]
    files: bool,

    /// Write JSON, an object a line
    #[arg(long)]
    json: bool,
}

/// One repository, or a plain directory, that has layers of the image.
struct Source {
    root: PathBuf,
    counters: Option<Counters>,
}

/// How much of an image lies in the client's cache.
#[derive(Default)]
struct Cached {
    files: u64,
    bytes: u64,
    of_files: u64,
    of_bytes: u64,
}

impl Stat {
    /// Shows it.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let subject = Subject::find(&self.container, &self.places)?;
        let layers = subject.image.layers.iter();
        let dirs: Vec<Option<Dir>> = layers
            .map(|wanted| {
                wanted
                    .open()
                    .doing(|| format!("cannot open layer {}", wanted.name))
            })
            .collect::<Result<_>>()?;
        let roots: BTreeSet<PathBuf> = (subject.image.layers.iter().zip(&dirs))
            .filter_map(|(wanted, dir)| Some((wanted, dir.as_ref()?.shown(""))))
            .map(|(wanted, path)| wanted.repository(&path))
            .collect();
        let mut sources = Vec::new();
        for root in roots {
            let doing = || format!("cannot ask the client of {}", root.display());
            let counters = Counters::read(&root).doing(doing)?;
            sources.push(Source { root, counters });
        }
        let size = subject
            .reference
            .as_deref()
            .and_then(|name| size(name, &sources));
        let cached = match self.files {
            true => cached(&dirs)?,
            false => None,
        };
        let mut notes = subject.image.notes.clone();
        if self.files && cached.is_none() {
            notes.push("the client does not tell which files lie in its cache".to_owned());
        }
        let lines = match self.json {
            true => vec![as_json(&subject, &sources, size, cached.as_ref()).to_string()],
            false => as_lines(&subject, &sources, size, cached.as_ref()),
        };
        for line in lines {
            if !say(out, &one_line(&line))? {
                return Ok(notes);
            }
        }
        if let Some(seconds) = self.interval {
            self.watch(seconds, sources, out)?;
        }
        Ok(notes)
    }

    /// Shows what comes in each interval.
    fn watch(&self, seconds: u64, mut sources: Vec<Source>, out: &mut dyn Write) -> Result<()> {
        // What this has asked itself so far is none of what comes.
        for source in &mut sources {
            let doing = || format!("cannot ask the client of {}", source.root.display());
            source.counters = Counters::read(&source.root).doing(doing)?;
        }
        let mut left = self.count;
        while left != Some(0) {
            std::thread::sleep(Duration::from_secs(seconds));
            for source in &mut sources {
                let doing = || format!("cannot ask the client of {}", source.root.display());
                let now = Counters::read(&source.root).doing(doing)?;
                let (Some(now), Some(before)) = (now, &source.counters) else {
                    continue;
                };
                let since = now.since(before);
                let line = match (self.json, &since) {
                    (true, _) => json!({
                        "repository": source.root.display().to_string(),
                        "seconds": seconds,
                        "fetched": since.as_ref().map(Counters::json),
                    })
                    .to_string(),
                    (false, None) => format!("{}: mounted anew", source.root.display()),
                    (false, Some(since)) => format!(
                        "{}: in {seconds} s {}",
                        source.root.display(),
                        fetched(since)
                    ),
                };
                source.counters = Some(now);
                if !say(out, &one_line(&line))? || out.flush().is_err() {
                    return Ok(());
                }
            }
            left = left.map(|left| left - 1);
        }
        Ok(())
    }
}

/// The compressed size of an image, if one of the repositories has its manifest.
fn size(name: &str, sources: &[Source]) -> Option<u64> {
    let name = Name::parse(name).ok()?;
    sources.iter().find_map(|source| {
        let text = source.root.to_str()?;
        let repository = Repository::open(Path::new("/"), text).ok()?;
        repository.manifest(&name).ok()??.size()
    })
}

/// Asks of each file whether the client has it; `None` where it does not tell.
fn cached(dirs: &[Option<Dir>]) -> Result<Option<Cached>> {
    let progress = Progress::new("asking", 0, Unit::Things);
    let mut all = Cached::default();
    let mut told = false;
    for dir in dirs.iter().flatten() {
        let scan = scan::scan(dir)?;
        let files = scan.entries.iter().filter(|entry| entry.kind == Kind::File);
        let files: Vec<&[u8]> = files.map(|entry| entry.path.as_slice()).collect();
        let answers = parallel::each(files.len(), |n| {
            progress.add(1);
            let doing = || format!("cannot ask for {}", dir.shown(os(files[n])).display());
            let ask = || -> std::io::Result<_> {
                let fd = dir.look(os(files[n]))?;
                let size = u64::try_from(rustix::fs::fstat(&fd)?.st_size).unwrap_or_default();
                Ok((size, is_cached(&fd)?))
            };
            ask().doing(doing)
        })?;
        for (size, cached) in answers {
            told |= cached.is_some();
            all.of_files += 1;
            all.of_bytes += size;
            if cached == Some(true) {
                all.files += 1;
                all.bytes += size;
            }
        }
    }
    Ok(told.then_some(all))
}

fn fetched(counters: &Counters) -> String {
    let number = |number: Option<u64>| number.map_or("?".to_owned(), |n| n.to_string());
    let received = counters.received.map_or("?".to_owned(), human);
    let mut text = format!(
        "downloads {}, received {received}, opens {}",
        number(counters.downloads),
        number(counters.opens)
    );
    if let Some(errors) = counters.errors.filter(|errors| *errors > 0) {
        text.push_str(&format!(", errors {errors}"));
    }
    text
}

fn as_lines(
    subject: &Subject,
    sources: &[Source],
    size: Option<u64>,
    cached: Option<&Cached>,
) -> Vec<String> {
    let mut image = match &subject.reference {
        Some(reference) => format!("{reference}, layers {}", subject.image.layers.len()),
        None => format!("layers {}", subject.image.layers.len()),
    };
    if let Some(size) = size {
        image.push_str(&format!(", {} compressed", human(size)));
    }
    let mut lines = vec![
        format!("Container    {}, created {}", subject.id, subject.created),
        format!("Image        {image}"),
    ];
    for source in sources {
        let root = source.root.display();
        let Some(counters) = &source.counters else {
            lines.push(format!("Directory    {root}: nothing is fetched"));
            continue;
        };
        let minutes = counters
            .minutes
            .map_or("some".to_owned(), |m| m.to_string());
        lines.push(format!(
            "Repository   {root}, mounted for {minutes} minutes"
        ));
        let mut text = fetched(counters);
        if let (Some(received), Some(size)) = (counters.received, size)
            && size > 0
        {
            let percent = 100.0 * received as f64 / size as f64;
            text.push_str(&format!(" ({percent:.1} % of the image's size)"));
        }
        lines.push(format!("  all users  {text}"));
    }
    if let Some(cached) = cached {
        lines.push(format!(
            "In cache     files {} of {}, {} of {} (unpacked)",
            cached.files,
            cached.of_files,
            human(cached.bytes),
            human(cached.of_bytes)
        ));
    }
    lines
}

fn as_json(
    subject: &Subject,
    sources: &[Source],
    size: Option<u64>,
    cached: Option<&Cached>,
) -> Value {
    let sources: Vec<Value> = sources
        .iter()
        .map(|source| {
            json!({
                "root": source.root.display().to_string(),
                // Of everybody on this host, since it was mounted.
                "client": source.counters.as_ref().map(Counters::json),
            })
        })
        .collect();
    json!({
        "id": subject.id,
        "created": subject.created,
        "image": subject.reference,
        "layers": subject.image.layers.len(),
        "size": size,
        "repositories": sources,
        "cached": cached.map(|cached| json!({
            "files": cached.files,
            "bytes": cached.bytes,
            "ofFiles": cached.of_files,
            "ofBytes": cached.of_bytes,
        })),
    })
}
