//! `cvmfs-image verify`: whether the layers that an image names are there, whole and unchanged.

mod compare;
mod layer;
mod truth;

use std::io::Write;

use serde_json::{Value, json};

use super::find::Places;
use super::progress::{Progress, Unit};
use super::wanted::{Image, Wanted};
use super::{human, say};
use crate::error::{Context, Result, one_line};
use layer::Outcome;
use truth::Truth;

/// How many problems of a layer are shown to people; --json has more.
const SHOWN: usize = 20;

/// Verify that the layers of an image are there, readable, and what they should be
///
/// Each file of each layer is read to its end. A client of CernVM-FS checks what it fetches against
/// the repository's signed catalogs, so a file that was changed or cut off there fails to be read;
/// a layer in a plain directory has no such guard. What DUCC noted of a layer's digests must agree
/// with the image, and so must the deleted files that a thin image lists. Owners, times and extended
/// attributes are not compared: a repository does not keep them.
///
/// The diffID is a digest of the layer's tar, which cannot be made again from its files: only
/// --against tells whether they are the image's own.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
EXAMPLES
  An image of the repositories, and a thin image that podman has:
    cvmfs-image verify science/python:3.11
    cvmfs-image verify containers-storage:docker.io/science/python:3.11

  Against the true image: path, type, mode, size, link target and contents of every entry:
    cvmfs-image verify science/python:3.11 --against docker://docker.io/science/python:3.11
    cvmfs-image verify demo --repository /srv/layers --against oci:images:demo

  For programs:
    cvmfs-image verify science/python:3.11 --json | jq -r '.layers[] | select(.state != \"ok\")'

EXIT STATUS
  1 if a layer is missing or broken; each is named with the files that are wrong. What this user may
  not read is told in a note and is no failure: run it as root to verify all.")]
pub struct Verify {
    /// The image: [REGISTRY/]REPOSITORY[:TAG] in the repositories, or a thin image as
    /// containers-storage:NAME in podman's store or oci:DIR[:TAG] in a layout
    #[arg(value_name = "IMAGE")]
    image: String,

    #[command(flatten)]
    places: Places,

    /// The true image, as skopeo would be told; what is no oci:DIR[:TAG] is fetched whole into a
    /// temporary directory
    #[arg(long, value_name = "IMAGE")]
    against: Option<String>,

    /// Write JSON
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Verifies it.
    pub fn exec(&self, out: &mut dyn Write) -> Result<Vec<String>> {
        let image = Image::find(&self.image, &self.places)?;
        let truth = self.against.as_deref().map(Truth::open).transpose()?;
        let progress = Progress::new("reading", 0, Unit::Bytes);
        let mut outcomes = Vec::new();
        for wanted in &image.layers {
            let entries = match &truth {
                None => None,
                Some(truth) => {
                    truth.entries(wanted.digest.as_ref(), wanted.diff_id.as_ref(), &progress)?
                }
            };
            let mut outcome = layer::check(wanted, entries.as_ref(), &progress);
            if truth.is_some() && entries.is_none() {
                let what = "the true image has no such layer".to_owned();
                outcome.problems.push((None, what));
            }
            outcomes.push(outcome);
        }
        drop(progress);
        match self.json {
            true => {
                let text = serde_json::to_string_pretty(&as_json(&image, &outcomes));
                say(out, &text.doing(|| "cannot write the answer")?)?;
            }
            false => {
                for line in as_lines(&image, &outcomes) {
                    if !say(out, &one_line(&line))? {
                        break;
                    }
                }
            }
        }
        let broken = outcomes.iter().filter(|o| !o.problems.is_empty()).count();
        if broken > 0 {
            return Err(layer::broken(&image.name, broken, outcomes.len()));
        }
        Ok(self.notes(image, &outcomes))
    }

    /// What was not verified.
    fn notes(&self, image: Image, outcomes: &[Outcome]) -> Vec<String> {
        let mut notes = image.notes;
        let closed: u64 = outcomes.iter().map(|outcome| outcome.closed).sum();
        if closed > 0 {
            notes.push(format!(
                "{closed} files and directories were not verified, for this user may not read them"
            ));
        }
        if self.against.is_none() {
            notes.push(
                "what the files hold was checked by the client alone, if at all, and not against \
                 the true image: give --against for that"
                    .to_owned(),
            );
        }
        notes
    }
}

fn as_json(image: &Image, outcomes: &[Outcome]) -> Value {
    let layer = |(wanted, outcome): (&Wanted, &Outcome)| {
        let problems: Vec<Value> = (outcome.problems.iter())
            .map(|(path, what)| json!({"path": path, "problem": what}))
            .collect();
        json!({
            "layer": wanted.name,
            "diffID": wanted.diff_id.as_ref().map(ToString::to_string),
            "path": outcome.path,
            "state": outcome.state(),
            "checked": outcome.checked,
            "entries": outcome.entries,
            "bytes": outcome.bytes,
            "unreadable": outcome.closed,
            "problems": problems,
            "moreProblems": outcome.more,
        })
    };
    let layers = image.layers.iter().zip(outcomes).map(layer);
    json!({
        "image": image.name,
        "ok": outcomes.iter().all(|outcome| outcome.problems.is_empty()),
        "layers": layers.collect::<Vec<_>>(),
    })
}

fn as_lines(image: &Image, outcomes: &[Outcome]) -> Vec<String> {
    let mut lines = vec![format!("{}: layers {}", image.name, outcomes.len())];
    for (wanted, outcome) in image.layers.iter().zip(outcomes) {
        let (name, state) = (&wanted.name, outcome.state());
        let how = match outcome.checked.contains(&"tar") {
            true => "compared",
            false => "read",
        };
        lines.push(match outcome.path.is_some() {
            false => format!("  {name} {state}"),
            true => format!(
                "  {name} {state}, entries {}, {} {how}",
                outcome.entries,
                human(outcome.bytes)
            ),
        });
        for (path, what) in outcome.problems.iter().take(SHOWN) {
            lines.push(match path {
                Some(path) => format!("    {path}: {what}"),
                None => format!("    {what}"),
            });
        }
        let more = outcome.problems.len().saturating_sub(SHOWN) + outcome.more;
        if more > 0 {
            lines.push(format!("    and {more} more"));
        }
    }
    lines
}
