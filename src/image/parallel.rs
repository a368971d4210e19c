//! Many small requests at once: on a network file system each of them waits.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::error::{Error, Result};

/// How many requests run at once. They wait for most of their time, so this is more than a machine
/// has processors; much more would only be a burden on the file system's client.
const THREADS: usize = 8;

/// The results of `work` for `0..count`, in order; the first error by number if there is any.
pub fn each<T: Send>(count: usize, work: impl Fn(usize) -> Result<T> + Sync) -> Result<Vec<T>> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let worker = || {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= count {
                return;
            }
            let result = work(n);
            if result.is_err() {
                // Nothing that was not yet begun is worth its time.
                next.store(count, Ordering::Relaxed);
            }
            if let Ok(mut done) = done.lock() {
                done.push((n, result));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS.min(count) {
            scope.spawn(worker);
        }
    });
    let mut done = done
        .into_inner()
        .map_err(|_| Error::new("a thread ended early"))?;
    done.sort_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_an_error_ends_the_work() {
        assert_eq!(each(100, Ok).unwrap(), (0..100).collect::<Vec<_>>());
        assert!(each(0, Ok).unwrap().is_empty());
        let fails = |n| {
            if n == 3 {
                Err(Error::new("three"))
            } else {
                Ok(n)
            }
        };
        assert_eq!(each(100, fails).unwrap_err().to_string(), "three");
    }
}
