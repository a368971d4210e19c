//! The repositories: every directory of the trusted roots, asked at once within the time limit.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::config::Config;

use super::{Line, Verdict};

/// What a thread that only lists a directory needs of stack.
const STACK: usize = 64 << 10;

/// What a directory answered.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    /// Nothing in time.
    Silent,
    /// An error.
    Refused(String),
    /// It is empty: nothing is mounted there, or it is not published yet.
    Empty,
    /// It has layers in the layout that digests are looked up in.
    Layers,
    /// It is something else that paths may lead to.
    Other,
}

/// A line for each root, and for each repository in it.
pub fn lines(config: &Config) -> Vec<Line> {
    let deadline = Instant::now() + config.timeout;
    let mut lines = Vec::new();
    let mut repositories: Vec<PathBuf> = Vec::new();
    // Those that a root shows.
    let mut known: BTreeSet<PathBuf> = BTreeSet::new();
    for (root, listed) in ask(&config.roots, deadline, names) {
        match listed {
            Some(Ok(names)) => {
                // Repositories that are mounted when they are first entered have no name until then.
                known.extend(names.iter().map(|name| root.join(name)));
                let named = config.repositories.iter().cloned();
                let mut names: Vec<String> = names.into_iter().chain(named).collect();
                names.sort();
                names.dedup();
                if names.is_empty() {
                    lines.push(empty(&root));
                }
                repositories.extend(names.into_iter().map(|name| root.join(name)));
            }
            Some(Err(why)) => lines.push(Line::fail(
                root.display().to_string(),
                why,
                "install and mount a CernVM-FS client, or set roots in cvmfs-run.toml",
            )),
            None => lines.push(judge(&root, &Answer::Silent, config.timeout)),
        }
    }
    let answers: BTreeMap<PathBuf, Answer> = ask(&repositories, deadline, look)
        .into_iter()
        .map(|(path, answer)| (path, answer.unwrap_or(Answer::Silent)))
        .collect();
    for (repository, answer) in &answers {
        let name = repository.file_name().unwrap_or_default();
        let configured = config
            .repositories
            .iter()
            .any(|known| name == known.as_str());
        let elsewhere = answers.iter().any(|(path, answer)| {
            path.file_name() == Some(name) && matches!(answer, Answer::Layers | Answer::Other)
        });
        let line = judge(repository, answer, config.timeout);
        // Which of the roots a name of the settings lies in is not said anywhere.
        let absent = configured && elsewhere && !known.contains(repository);
        if line.verdict != Verdict::Fail || !absent {
            lines.push(line);
        }
    }
    lines
}

fn empty(root: &Path) -> Line {
    Line::warn(
        root.display().to_string(),
        "nothing is mounted in it",
        "mount a repository (cvmfs_config probe NAME), or name those that are mounted on demand in repositories of cvmfs-run.toml",
    )
}

/// Puts the same question to all directories at once; `None` for one that does not answer in time.
///
/// A thread that still waits for its answer ends with the process.
fn ask<T: Send + 'static>(
    directories: &[PathBuf],
    deadline: Instant,
    question: fn(&Path) -> T,
) -> BTreeMap<PathBuf, Option<T>> {
    let mut answers: BTreeMap<PathBuf, Option<T>> = BTreeMap::new();
    let (sender, receiver) = mpsc::channel();
    for directory in directories {
        answers.insert(directory.clone(), None);
        let (sender, directory) = (sender.clone(), directory.clone());
        let work = move || {
            let answer = question(&directory);
            // The receiver is gone only when the time limit has passed.
            let _ = sender.send((directory, answer));
        };
        // Without a thread there is no answer, which is what is reported.
        let _ = std::thread::Builder::new().stack_size(STACK).spawn(work);
    }
    drop(sender);
    while let Ok((directory, answer)) =
        receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
    {
        answers.insert(directory, Some(answer));
    }
    answers
}

/// The directories in a root.
fn names(root: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(root).map_err(|err| err.to_string())?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|err| err.to_string())?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a link leads to is what is asked; a mount that is broken is still a directory here.
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file && !name.starts_with('.') {
            names.push(name);
        }
    }
    Ok(names)
}

fn look(repository: &Path) -> Answer {
    let refused = |err: std::io::Error| Answer::Refused(err.to_string());
    match std::fs::read_dir(repository).map(|mut entries| entries.next()) {
        Err(err) => refused(err),
        Ok(Some(Err(err))) => refused(err),
        Ok(None) => Answer::Empty,
        Ok(Some(Ok(_))) => match std::fs::read_dir(repository.join(".layers")) {
            Ok(_) => Answer::Layers,
            Err(_) => Answer::Other,
        },
    }
}

/// What an answer comes to (pure).
fn judge(directory: &Path, answer: &Answer, timeout: Duration) -> Line {
    let what = directory.display().to_string();
    let name = directory.file_name().unwrap_or_default().to_string_lossy();
    match answer {
        Answer::Silent => Line::fail(
            what,
            format!("did not answer in {} s", timeout.as_secs()),
            format!(
                "check the server and proxies (cvmfs_config stat {name}), or raise timeout in cvmfs-run.toml"
            ),
        ),
        Answer::Refused(why) => Line::fail(
            what,
            why,
            format!(
                "mount it again (cvmfs_config probe {name}; a dead mount: umount -l {})",
                directory.display()
            ),
        ),
        Answer::Empty => Line::warn(
            what,
            "empty",
            format!("mount it (cvmfs_config probe {name}), or remove the directory"),
        ),
        Answer::Layers => Line::ok(what, "answers, and has layers"),
        Answer::Other => Line::ok(
            what,
            "answers; it has no .layers, so only paths lead to its images",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_that_is_named_counts_in_whichever_root_it_is() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(one.path().join("named/.layers")).unwrap();
        std::os::unix::fs::symlink("/no/such", one.path().join("broken")).unwrap();
        let verdicts = |repositories: &[&str]| {
            let config = Config {
                roots: vec![one.path().to_owned(), other.path().to_owned()],
                repositories: repositories.iter().map(|name| (*name).into()).collect(),
                ..Config::default()
            };
            let lines = lines(&config).into_iter();
            let (mut below, mut beside) = (Vec::new(), Vec::new());
            for line in lines {
                match Path::new(&line.what).parent() {
                    Some(root) if root == one.path() => below.push((line.what, line.verdict)),
                    Some(root) if root == other.path() => beside.push(line.verdict),
                    _ => {}
                }
            }
            below.sort_by(|a, b| a.0.cmp(&b.0));
            let below = below.into_iter().map(|(_, verdict)| verdict);
            below.chain(beside).collect::<Vec<_>>()
        };
        // In the other root there is none, which is no failure; a broken one is, named or not.
        assert_eq!(verdicts(&["named"]), [Verdict::Fail, Verdict::Ok]);
        let broken = [Verdict::Fail, Verdict::Ok, Verdict::Fail];
        assert_eq!(verdicts(&["broken"]), broken);
        // One that is nowhere is missed in each.
        let nowhere = verdicts(&["nowhere"]);
        let expected = [Verdict::Fail, Verdict::Ok, Verdict::Fail, Verdict::Fail];
        assert_eq!(nowhere, expected);
    }

    #[test]
    fn directories_are_known_by_what_is_in_them() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        make("unpacked/.layers/aa");
        make("software/lib");
        make("empty");
        make(".hidden");
        std::fs::write(dir.path().join("file"), "").unwrap();
        let config = Config {
            roots: vec![dir.path().to_owned()],
            repositories: vec!["not.mounted".into()],
            ..Config::default()
        };
        let lines = lines(&config);
        let found: Vec<_> = lines
            .iter()
            .map(|line| {
                let name = Path::new(&line.what).file_name().unwrap().to_string_lossy();
                (name.into_owned(), line.verdict)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("empty".to_owned(), Verdict::Warn),
                ("not.mounted".to_owned(), Verdict::Fail),
                ("software".to_owned(), Verdict::Ok),
                ("unpacked".to_owned(), Verdict::Ok)
            ]
        );
    }

    #[test]
    fn one_that_does_not_answer_holds_nobody_up() {
        let silent: fn(&Path) -> () = |path| {
            if path == Path::new("/silent") {
                loop {
                    std::thread::park();
                }
            }
        };
        let directories = [PathBuf::from("/silent"), PathBuf::from("/quick")];
        let deadline = Instant::now() + Duration::from_secs(2);
        let answers = ask(&directories, deadline, silent);
        assert_eq!(answers[Path::new("/quick")], Some(()));
        assert_eq!(answers[Path::new("/silent")], None);
        let line = judge(
            Path::new("/silent"),
            &Answer::Silent,
            Duration::from_secs(2),
        );
        assert_eq!(line.verdict, Verdict::Fail);
    }

    #[test]
    fn a_root_without_anything_mounted_is_a_warning_and_a_missing_one_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let with = |root: PathBuf| {
            let config = Config {
                roots: vec![root],
                ..Config::default()
            };
            lines(&config)[0].verdict
        };
        assert_eq!(with(dir.path().to_owned()), Verdict::Warn);
        assert_eq!(with(dir.path().join("nowhere")), Verdict::Fail);
    }
}
