//! `configure`: tell an engine of this runtime, by a file of its own.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::{Error, Result};
use crate::site::owned::{self, Owner};
use crate::site::{DropIn, Engine, Place, Wanted, containerd, docker, program};

use super::{Context, say};

/// Tell podman, Docker, containerd or Slurm of this runtime, or take that back
///
/// Writes one file, which is known again by its first line (Docker's daemon.json, which has no
/// comments, by its whole text). A file of somebody else's is never changed: what it would need is
/// printed, and the command fails.
#[derive(Clone, Debug, Args)]
pub struct Configure {
    /// The engine
    #[arg(value_enum)]
    pub engine: Engine,
    /// Print the file that would be written, and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// For the calling user's containers alone
    #[arg(long)]
    pub user: bool,
    /// Remove the file, if it is as it was written
    #[arg(long)]
    pub remove: bool,
    /// Have it run containers that ask for no runtime
    #[arg(long, conflicts_with = "remove")]
    pub default: bool,
    /// The path of cvmfs-run on the host [default: that of this program]
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// Write below this directory, for the image of a host that is being made
    #[arg(long, value_name = "DIR", conflicts_with = "user")]
    pub destdir: Option<PathBuf>,
}

impl Configure {
    /// Writes, shows or removes the file.
    pub fn exec(self, context: &Context) -> Result<()> {
        let place = self.place(context)?;
        if self.remove {
            return self.take_back(&place);
        }
        if self.default && self.engine == Engine::Slurm {
            return Err(Error::new("Slurm has one runtime, which is the default")
                .hint("leave --default out"));
        }
        let wanted = Wanted {
            program: match self.program.clone() {
                Some(program) => program,
                None => program::installed()?,
            },
            default: self.default,
            systemd: context.systemd(),
        };
        let drop_in = self.engine.drop_in(&place, &wanted)?;
        let existing = owned::read(&drop_in.path)?;
        match existing
            .as_deref()
            .map(|text| (text, self.engine.owner(text)))
        {
            Some((_, Owner::Changed)) => return Err(changed(&drop_in.path)),
            Some((text, Owner::Other)) => return self.others(text, &drop_in, &wanted),
            Some((_, Owner::Ours)) | None => {}
        }
        if self.engine == Engine::Containerd {
            spare_cri(&drop_in)?;
        }
        let path = drop_in.path.display();
        if self.dry_run {
            say(&format!("# {path}\n{}", drop_in.text));
            return Ok(());
        }
        if existing.as_deref() == Some(drop_in.text.as_str()) {
            say(&format!("{path} is as it should be\n"));
        } else {
            owned::write(&drop_in.path, &drop_in.text)?;
            say(&format!("wrote {path}\n"));
        }
        remains(&drop_in, self.engine)
            .iter()
            .for_each(|line| say(&format!("{line}\n")));
        Ok(())
    }

    fn place(&self, context: &Context) -> Result<Place> {
        if !self.user {
            let below = self.destdir.clone().unwrap_or_else(|| PathBuf::from("/"));
            let below = std::path::absolute(&below)
                .map_err(|err| Error::caused("cannot use --destdir", err))?;
            return Ok(Place::Host(below));
        }
        let settings = context.host.user_config_dir();
        settings.map(Place::User).ok_or_else(|| {
            Error::new("root has no settings of a user's, or no home is known")
                .hint("leave --user out for the host's settings, or set HOME")
        })
    }

    fn take_back(&self, place: &Place) -> Result<()> {
        let path = self.engine.path(place)?;
        let Some(text) = owned::read(&path)? else {
            say(&format!("{} is not there\n", path.display()));
            return Ok(());
        };
        match self.engine.owner(&text) {
            Owner::Changed => Err(changed(&path)),
            Owner::Other => Err(
                Error::new(format!("{} is not cvmfs-run's own", path.display()))
                    .hint("take cvmfs-run out of it by hand"),
            ),
            Owner::Ours if self.dry_run => {
                say(&format!("would remove {}\n", path.display()));
                Ok(())
            }
            Owner::Ours => {
                owned::remove(&path)?;
                say(&format!("removed {}\n", path.display()));
                Ok(())
            }
        }
    }

    /// Another's file: what it needs is printed, for him to put in.
    fn others(&self, text: &str, drop_in: &DropIn, wanted: &Wanted) -> Result<()> {
        let path = drop_in.path.display();
        let needed = match self.engine {
            Engine::Docker if docker::has(text, wanted) => {
                say(&format!("{path} names cvmfs-run already\n"));
                return Ok(());
            }
            Engine::Docker => docker::merged(text, wanted)
                .map_err(|err| Error::caused(format!("cannot use {path}"), err))?,
            _ => drop_in.text.clone(),
        };
        say(&needed);
        Err(
            Error::new(format!("{path} is not cvmfs-run's own, and stays as it is"))
                .hint("put what is printed above in its place, or into it"),
        )
    }
}

fn changed(path: &Path) -> Error {
    Error::new(format!(
        "{} was changed since cvmfs-run wrote it, and stays as it is",
        path.display()
    ))
    .hint("move it away, or remove its first line to keep it as your own")
}

/// Refuses a drop-in that would undo what the site has set for containerd's CRI plugin.
fn spare_cri(drop_in: &DropIn) -> Result<()> {
    let siblings = drop_in
        .path
        .parent()
        .and_then(|dir| std::fs::read_dir(dir).ok());
    let mut files: Vec<PathBuf> = siblings
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "toml") && *path != drop_in.path)
        .collect();
    files.sort();
    files.insert(0, containerd::main_file(&drop_in.path));
    for file in files {
        let Some(text) = owned::read(&file)? else {
            continue;
        };
        let sets = containerd::sets_cri(&text)
            .map_err(|err| Error::caused(format!("cannot use {}", file.display()), err))?;
        if sets {
            say(&drop_in.text);
            return Err(Error::new(format!(
                "{} has settings of the CRI plugin, which containerd 1 would forget for those of a drop-in",
                file.display()
            ))
            .hint("add the sections that are printed above to that file"));
        }
    }
    Ok(())
}

/// What remains to be done; the import is left out where there is one.
fn remains(drop_in: &DropIn, engine: Engine) -> Vec<String> {
    let mut next = drop_in.next.clone();
    if engine == Engine::Containerd {
        let text = owned::read(&containerd::main_file(&drop_in.path))
            .ok()
            .flatten();
        if text.is_some_and(|text| containerd::imports(&text, &drop_in.path)) {
            next.remove(0);
        }
    }
    next
}
