//! `exec --cgroup`: a cgroup below the container's, in all hierarchies or in one.

use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::state::Cgroup;

use super::hierarchies::Hierarchy;

/// Where a process is to be, by what `--cgroup` was given: `[CONTROLLER[,CONTROLLER…]:]PATH`
/// (pure). Empty where nothing was.
pub fn wanted(
    given: &[String],
    hierarchies: &[Hierarchy],
    cgroup: &Cgroup,
) -> Result<Vec<PathBuf>> {
    let version_1 = hierarchies.iter().any(|h| !h.controllers.is_empty());
    let mut dirs = Vec::new();
    for text in given {
        let (controllers, path) = match text.split_once(':') {
            Some((controllers, path)) => (Some(controllers), path),
            None => (None, text.as_str()),
        };
        let path = below(path)?;
        let dir = |h: &Hierarchy| h.dir(&cgroup.path).join(&path);
        let Some(controllers) = controllers else {
            if given.len() > 1 {
                return Err(Error::new(format!(
                    "--cgroup {text} names no controller, and is not the only one"
                )));
            }
            return Ok(hierarchies.iter().map(dir).collect());
        };
        if !version_1 {
            return Err(Error::new(format!(
                "--cgroup {text}: cgroups of version 2 are not named by controller"
            ))
            .hint("give the path alone"));
        }
        for controller in controllers.split(',') {
            let hierarchy = hierarchies
                .iter()
                .find(|h| h.controllers.iter().any(|c| c == controller));
            let hierarchy = hierarchy.ok_or_else(|| {
                Error::new(format!(
                    "unknown controller {controller} in --cgroup {text}"
                ))
            })?;
            dirs.push(dir(hierarchy));
        }
    }
    dirs.dedup();
    Ok(dirs)
}

/// A path that stays below the container's cgroup.
fn below(path: &str) -> Result<PathBuf> {
    let mut below = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::RootDir | Component::CurDir => {}
            _ => return Err(Error::new(format!("{path} is not a sub cgroup path"))),
        }
    }
    Ok(below)
}

/// Moves a process that has not begun yet.
pub fn enter(dirs: &[PathBuf], pid: i32) -> Result<()> {
    for dir in dirs {
        let procs = dir.join("cgroup.procs");
        std::fs::write(&procs, pid.to_string())
            .doing(|| format!("error adding pid {pid} to cgroup {}", procs.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_below_the_containers_is_named_by_controller_or_for_all() {
        let hierarchy = |point: &str, controllers: &[&str]| Hierarchy {
            point: point.into(),
            controllers: controllers.iter().map(|c| (*c).to_owned()).collect(),
        };
        let all = [
            hierarchy("/c/cpu", &["cpu", "cpuacct"]),
            hierarchy("/c/memory", &["memory"]),
        ];
        let cgroup = Cgroup {
            path: "/a".into(),
            ..Cgroup::default()
        };
        let find = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|g| (*g).to_owned()).collect();
            wanted(&given, &all, &cgroup).map_err(|err| err.to_string())
        };
        let paths = |list: &[&str]| Ok(list.iter().map(PathBuf::from).collect::<Vec<_>>());
        assert_eq!(find(&[]), paths(&[]));
        assert_eq!(find(&["/sub"]), paths(&["/c/cpu/a/sub", "/c/memory/a/sub"]));
        assert_eq!(
            find(&["cpu,cpuacct:x", "memory:y"]),
            paths(&["/c/cpu/a/x", "/c/memory/a/y"])
        );
        assert!(
            find(&[".."])
                .unwrap_err()
                .contains("is not a sub cgroup path")
        );
        assert!(
            find(&["what:/"])
                .unwrap_err()
                .contains("unknown controller")
        );
        assert!(find(&["a", "b"]).is_err());
        let unified = [hierarchy("/c", &[])];
        assert!(wanted(&["cpu:x".into()], &unified, &cgroup).is_err());
    }
}
