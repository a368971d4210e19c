//! A few threads that do jobs which lead to more jobs, until a deadline.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crate::error::{Context, Error, Result};

/// The threads, for all layers together. Each directory of a cold layer costs one or two round
/// trips, which wait side by side; more would only queue up in the file system's client, and two
/// descriptors for each must fit into the usual limit of 1024.
const THREADS: usize = 16;

/// Runs jobs until they are done or the time is over.
pub(super) struct Pool {
    until: Instant,
    limit: Duration,
}

/// What the threads share.
struct Shared<J> {
    state: Mutex<State<J>>,
    /// Something changed in the state.
    changed: Condvar,
}

struct State<J> {
    /// Jobs to do, each with the layer that it is for. Last in, first out: a scan goes deep first,
    /// which keeps the list short.
    jobs: Vec<(usize, J)>,
    /// The number of jobs of each layer that are not done.
    open: Vec<usize>,
    failed: Option<Error>,
    stop: bool,
}

impl<J> State<J> {
    fn is_done(&self) -> bool {
        self.stop || self.failed.is_some() || self.open.iter().all(|open| *open == 0)
    }
}

/// Locks, also what a thread that panicked left: the panic itself is reported by its join.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// A pool whose jobs must be done at `until`; messages name the `limit`.
    pub fn until(until: Instant, limit: Duration) -> Self {
        Self { until, limit }
    }

    /// Does the jobs `first`, each for the layer of its index in `names`, and those that `work`
    /// gives back, which are for the same layer. The first error ends it all.
    ///
    /// When the time is over, threads that wait in the kernel are left behind: a read from a FUSE
    /// file system whose server does not answer cannot be called off from outside.
    pub fn run<J, W>(
        &self,
        doing: &str,
        names: Vec<String>,
        first: Vec<(usize, J)>,
        work: W,
    ) -> Result<()>
    where
        J: Send + 'static,
        W: Fn(usize, J) -> Result<Vec<J>> + Send + Sync + 'static,
    {
        let mut open = vec![0; names.len()];
        for (layer, _) in &first {
            open[*layer] += 1;
        }
        let state = State {
            jobs: first,
            open,
            failed: None,
            stop: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
        });
        let work = Arc::new(work);
        let mut threads: Vec<JoinHandle<()>> = Vec::with_capacity(THREADS);
        for _ in 0..THREADS {
            let (ours, work) = (Arc::clone(&shared), Arc::clone(&work));
            let spawned = Builder::new()
                .name("whiteouts".into())
                .spawn(move || ours.serve(&*work));
            match spawned.doing(|| format!("cannot start a thread for {doing}")) {
                Ok(thread) => threads.push(thread),
                // One is enough, where the user may not have more.
                Err(_) if !threads.is_empty() => break,
                Err(err) => return Err(err),
            }
        }
        self.wait(doing, &names, &shared)?;
        for thread in threads {
            if thread.join().is_err() {
                return Err(Error::new(format!("a thread panicked in {doing}")));
            }
        }
        lock(&shared.state).failed.take().map_or(Ok(()), Err)
    }

    /// Waits until the threads have nothing more to do.
    fn wait<J>(&self, doing: &str, names: &[String], shared: &Shared<J>) -> Result<()> {
        let mut state = lock(&shared.state);
        while !state.is_done() {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                state.stop = true;
                shared.changed.notify_all();
                return Err(self.late(doing, names, &state.open));
            }
            (state, _) = shared
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn late(&self, doing: &str, names: &[String], open: &[usize]) -> Error {
        let mut late = names
            .iter()
            .zip(open)
            .filter(|(_, open)| **open > 0)
            .map(|(name, _)| name);
        let first = late.next().map_or("?", String::as_str);
        let others = match late.count() {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        let seconds = self.limit.as_secs_f64();
        Error::new(format!(
            "{doing} of layer {first}{others} did not finish in {seconds} s"
        ))
        .hint("see whether the repository's server and proxy answer, or allow a longer time")
    }
}

impl<J> Shared<J> {
    /// What each thread does.
    fn serve(&self, work: &impl Fn(usize, J) -> Result<Vec<J>>) {
        // A panic must not leave the others waiting for this thread's job.
        let _ended = Ended(self);
        while let Some((layer, job)) = self.next() {
            let result = work(layer, job);
            let mut state = lock(&self.state);
            match result {
                Ok(more) => {
                    state.open[layer] += more.len();
                    state.jobs.extend(more.into_iter().map(|job| (layer, job)));
                }
                Err(err) => {
                    state.failed.get_or_insert(err);
                }
            }
            state.open[layer] -= 1;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<(usize, J)> {
        let mut state = lock(&self.state);
        loop {
            if state.is_done() {
                return None;
            }
            match state.jobs.pop() {
                Some(job) => return Some(job),
                None => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

/// Stops all threads when one ends by a panic.
struct Ended<'a, J>(&'a Shared<J>);

impl<J> Drop for Ended<'_, J> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            lock(&self.0.state).stop = true;
        }
        self.0.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn pool(limit: Duration) -> Pool {
        Pool::until(Instant::now() + limit, limit)
    }

    #[test]
    fn jobs_lead_to_jobs_until_none_is_left() {
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        pool(Duration::from_secs(30))
            .run(
                "counting",
                vec!["a".into(), "b".into()],
                vec![(0, 9), (1, 9)],
                move |_, depth| {
                    counter.fetch_add(1, Ordering::Relaxed);
                    Ok(if depth == 0 {
                        vec![]
                    } else {
                        vec![depth - 1; 2]
                    })
                },
            )
            .unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 2 * 1023);
    }

    #[test]
    fn the_first_error_ends_all_jobs() {
        let err = pool(Duration::from_secs(30))
            .run("failing", vec!["a".into()], vec![(0, 0_u64)], |_, n| {
                if n == 1000 {
                    Err(Error::new("no"))
                } else {
                    Ok(vec![n + 1, n + 1])
                }
            })
            .unwrap_err();
        assert_eq!(err.to_string(), "no");
    }

    #[test]
    fn a_job_that_hangs_is_left_behind_at_the_deadline_and_its_layer_named() {
        let started = Instant::now();
        let first = vec![(0, 0), (1, 5), (2, 5)];
        let err = pool(Duration::from_millis(200))
            .run(
                "the scan",
                vec!["a".into(), "b".into(), "c".into()],
                first,
                |_, seconds| {
                    std::thread::sleep(Duration::from_secs(seconds));
                    Ok(vec![])
                },
            )
            .unwrap_err()
            .to_string();
        assert!(started.elapsed() < Duration::from_secs(3));
        assert!(
            err.starts_with("the scan of layer b (and 1 more) did not finish in 0.2 s; "),
            "{err}"
        );
    }

    #[test]
    fn a_panic_in_a_job_is_an_error_and_no_hang() {
        let err = pool(Duration::from_secs(30))
            .run("panicking", vec!["a".into()], vec![(0, ())], |_, ()| {
                panic!("as the test wants")
            })
            .unwrap_err();
        assert_eq!(err.to_string(), "a thread panicked in panicking");
    }
}
