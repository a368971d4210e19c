//! A cell of the matrix: a user in a view of cgroups, with runc and with cvmfs-run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::common::rootless::Driver;
use crate::common::same::{Side, Step};
use crate::common::{Podman, lab};
use crate::table::Group;

/// How many groups run at the same time.
const AT_ONCE: usize = 4;
/// Command lines in a cell that runc can do.
const LEAST: usize = 120;
/// Of those that runc can do, how many cvmfs-run does without the fallback runtime, in percent.
const LEAST_OWN: usize = 95;

/// Whose podman.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// Root's.
    Root,
    /// An ordinary user's.
    Ordinary,
}

impl User {
    fn word(self) -> &'static str {
        match self {
            Self::Root => "rootful",
            Self::Ordinary => "rootless",
        }
    }
}

/// A runtime with the kind of images it gets.
type Kind = (&'static str, &'static str);
const REFERENCE: Kind = ("runc", "whole");
const THIN: Kind = ("cvmfs-run", "thin");
const WHOLE: Kind = ("cvmfs-run", "whole");

/// A group with a runtime, and what came of it.
struct Job<'a> {
    group: &'a Group,
    kind: Kind,
    conf: PathBuf,
    steps: Mutex<Vec<Step>>,
}

/// A user in a view.
pub struct Cell<'a> {
    user: User,
    view: &'static str,
    jobs: Vec<Job<'a>>,
    /// Whether all groups are run.
    all: bool,
}

impl<'a> Cell<'a> {
    /// The cell, with all groups and both kinds of images, or with every other group on one kind.
    pub fn new(user: User, view: &'static str, groups: &'a [Group], all: bool) -> Self {
        let mut jobs = Vec::new();
        // A group that root has in one view the ordinary user has in the other.
        let turn = usize::from((user == User::Root) == (view == "v1"));
        for (n, group) in groups.iter().enumerate() {
            if !all && (n + turn) % 2 != 0 {
                continue;
            }
            let kinds: Vec<Kind> = [THIN, WHOLE]
                .into_iter()
                .enumerate()
                .filter(|(k, _)| all || (n / 2 + k + usize::from(user == User::Root)) % 2 == 0)
                .map(|(_, kind)| kind)
                .filter(|(_, images)| group.is_for(&[user.word(), view, images]))
                .collect();
            if kinds.is_empty() {
                continue;
            }
            for kind in std::iter::once(REFERENCE).chain(kinds) {
                let name = format!("{}-{view}-{}", user.word(), jobs.len());
                jobs.push(Job {
                    group,
                    kind,
                    conf: lab().join("matrix").join(name),
                    steps: Mutex::default(),
                });
            }
        }
        Self {
            user,
            view,
            jobs,
            all,
        }
    }

    fn name(&self) -> String {
        format!("{}, cgroups {}", self.user.word(), self.view)
    }

    /// Each job with its reference.
    fn pairs(&self) -> impl Iterator<Item = (&Job<'a>, &Job<'a>)> {
        let mut reference = None;
        self.jobs.iter().filter_map(move |job| {
            if job.kind == REFERENCE {
                reference = Some(job);
                return None;
            }
            Some((reference.expect("comes first"), job))
        })
    }

    /// Runs once more, one at a time, what came out differently. On a machine with too much to do,
    /// conmon now and then shows podman nothing of what a short-lived container said, whatever the
    /// runtime: it had not yet seen that podman listens.
    fn again(&self) {
        for (runc, ours) in self.pairs() {
            let different = |(_, came): &(Step, Came)| matches!(came, Came::Different(_));
            if let Some((step, Came::Different(how))) = compare_all(runc, ours).find(different) {
                println!(
                    "{}: {}, {}: differed at first: {}\n{how}",
                    self.name(),
                    ours.group.name,
                    ours.kind.1,
                    step.line
                );
                runc.run(self.user);
                ours.run(self.user);
            }
        }
    }

    /// Says what came of the lines; whether all is as it must be. The notes are those of the
    /// fallback runtime.
    pub fn report(&self, notes: &BTreeMap<String, String>, whole_table: bool) -> bool {
        let mut cell = Tally::default();
        let mut images: BTreeMap<&str, Tally> = BTreeMap::new();
        let mut named = BTreeSet::new();
        let mut name = |what: String| {
            if named.insert(what.clone()) {
                println!("{}: {what}", self.name());
            }
        };
        for (runc, ours) in self.pairs() {
            let group = &ours.group.name;
            let fallback = notes.get(&ours.conf.display().to_string());
            if let Some(reasons) = fallback {
                name(format!("{group}: by the fallback runtime, for {reasons}"));
            }
            let kind = ours.kind.1;
            for (step, came) in compare_all(runc, ours) {
                let line = &step.line;
                match &came {
                    Came::Same => {}
                    Came::RuncCannot(why) => {
                        name(format!("{group}: runc cannot: {}: {why}", short(line)));
                    }
                    Came::Different(how) => {
                        name(format!("{group}: DIFFERENT, {kind}: {line}\n{how}"));
                    }
                }
                for tally in [&mut cell, images.entry(kind).or_default()] {
                    tally.add(&step, &came, fallback.is_some());
                }
            }
        }
        for (images, tally) in &images {
            println!("{}, {images} images: {}", self.name(), tally.words());
        }
        println!("{}: {}", self.name(), cell.words());
        let enough = cell.same.len() >= LEAST && cell.own() * 100 >= LEAST_OWN * cell.same.len();
        // A table without a line that needs the fallback runtime would not show that it is seen.
        let seen = !self.all || !cell.fallback.is_empty();
        cell.different.is_empty() && (!whole_table || (enough && seen))
    }
}

/// The beginning of a text, on one line.
fn short(text: &str) -> String {
    const MOST: usize = 110;
    let text = text.replace('\n', " ");
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// What became of command lines; each is counted once.
#[derive(Default)]
struct Tally {
    lines: BTreeSet<String>,
    same: BTreeSet<String>,
    fallback: BTreeSet<String>,
    cannot: BTreeSet<String>,
    different: BTreeSet<String>,
}

impl Tally {
    fn add(&mut self, step: &Step, came: &Came, fallback: bool) {
        let line = || step.line.clone();
        if let Came::Different(_) = came {
            self.different.insert(line());
        }
        if !step.is_podman() {
            return;
        }
        self.lines.insert(line());
        match came {
            Came::RuncCannot(_) => self.cannot.insert(line()),
            Came::Same => self.same.insert(line()),
            Came::Different(_) => false,
        };
        if fallback && matches!(came, Came::Same) {
            self.fallback.insert(line());
        }
    }

    /// How many were done without the fallback runtime.
    fn own(&self) -> usize {
        self.same.len() - self.fallback.len()
    }

    fn words(&self) -> String {
        let share = 100.0 * self.own() as f64 / self.same.len().max(1) as f64;
        format!(
            "{} command lines: {} as runc, {} that runc cannot, {} different; {} by the fallback runtime, {share:.1} % without",
            self.lines.len(),
            self.same.len(),
            self.cannot.len(),
            self.different.len(),
            self.fallback.len()
        )
    }
}

/// What a line came to.
enum Came {
    Same,
    RuncCannot(String),
    Different(String),
}

/// The lines of a job, and what each came to.
fn compare_all(runc: &Job, ours: &Job) -> impl Iterator<Item = (Step, Came)> {
    let steps = |job: &Job| job.steps.lock().expect("done").clone();
    let group = ours.group;
    let pairs = steps(runc).into_iter().zip(steps(ours));
    pairs.map(move |(runc, ours)| {
        let came = compare(group, &runc, &ours);
        (ours, came)
    })
}

fn compare(group: &Group, runc: &Step, ours: &Step) -> Came {
    if !runc.expected {
        let last = |step: &Step| {
            let text = format!("{}{}", step.said.out, step.said.err);
            let last = text.trim_end().lines().last().unwrap_or_default();
            format!("({}) {}", step.said.code, short(last))
        };
        return Came::RuncCannot(format!("{} | cvmfs-run: {}", last(runc), last(ours)));
    }
    let same = runc.said.code == ours.said.code
        && group.neutral(&runc.said.out) == group.neutral(&ours.said.out)
        && group.neutral(&runc.said.err) == group.neutral(&ours.said.err);
    if same {
        return Came::Same;
    }
    let said = |step: &Step| {
        let said = &step.said;
        format!("exit code {}\n{}{}", said.code, said.out, said.err)
    };
    Came::Different(format!(
        "--- runc: {}--- cvmfs-run: {}",
        said(runc),
        said(ours)
    ))
}

/// Runs the jobs of all cells, a few at a time.
pub fn run(cells: &[Cell]) {
    // In turn: they wait for locks of different stores.
    let longest = cells.iter().map(|cell| cell.jobs.len()).max();
    let jobs: Vec<_> = (0..longest.unwrap_or_default())
        .flat_map(|n| {
            cells
                .iter()
                .filter_map(move |c| Some((c.user, c.jobs.get(n)?)))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((user, job)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job.run(*user);
                }
            });
        }
    });
    cells.iter().for_each(Cell::again);
    println!("{} groups in {} s", jobs.len(), start.elapsed().as_secs());
}

impl Job<'_> {
    fn run(&self, user: User) {
        // By the name of podman's configuration the fallback runtime notes whose container it got.
        if !self.conf.exists() {
            std::os::unix::fs::symlink(lab().join("matrix.conf"), &self.conf).expect("a new name");
        }
        let podman = Podman {
            runtime: self.kind.0,
            user: (user == User::Ordinary).then_some(Driver::Native),
            conf: Some(self.conf.clone()),
        };
        let start = Instant::now();
        let mut side = Side::new(&podman, self.kind.1, &self.group.image);
        let steps = self
            .group
            .lines
            .iter()
            .map(|line| side.step(line))
            .collect();
        *self.steps.lock().expect("its only thread") = steps;
        if std::env::var_os("CVMFS_RUN_TEST_TIMES").is_some() {
            println!(
                "{:.1} s: {:?} {:?} {}",
                start.elapsed().as_secs_f32(),
                user,
                self.kind,
                self.group.name
            );
        }
    }
}
