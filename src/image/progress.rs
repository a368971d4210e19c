//! How far a long piece of work is: a bar on standard error, for who sits before it.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What takes less than this shows nothing.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Anything else.
    Things,
}

/// A bar that is gone when it goes out of scope. Any number of threads may add to it.
pub struct Progress {
    bar: ProgressBar,
    begun: Instant,
    shown: OnceLock<()>,
}

impl Progress {
    /// Begins to count; a `total` of 0 is not known.
    pub fn new(what: &'static str, total: u64, unit: Unit) -> Self {
        let bar = match total {
            0 => ProgressBar::no_length(),
            total => ProgressBar::new(total),
        };
        let template = match (unit, total) {
            (Unit::Bytes, 0) => "{msg} {decimal_bytes} {decimal_bytes_per_sec}",
            (Unit::Bytes, _) => "{msg} [{bar:40}] {decimal_bytes}/{decimal_total_bytes} {eta}",
            (Unit::Things, 0) => "{msg} {pos}",
            (Unit::Things, _) => "{msg} [{bar:40}] {pos}/{len} {eta}",
        };
        bar.set_draw_target(ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            bar: bar.with_message(what),
            begun: Instant::now(),
            shown: OnceLock::new(),
        }
    }

    /// So much more is done.
    pub fn add(&self, more: u64) {
        self.bar.inc(more);
        if self.begun.elapsed() > PATIENCE {
            self.shown.get_or_init(|| {
                if std::io::stderr().is_terminal() {
                    self.bar.set_draw_target(ProgressDrawTarget::stderr());
                }
            });
        }
    }

    /// What is being done now.
    pub fn say(&self, what: String) {
        self.bar.set_message(what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_template_is_one_and_counts() {
        for (total, unit) in [
            (0, Unit::Bytes),
            (9, Unit::Bytes),
            (0, Unit::Things),
            (9, Unit::Things),
        ] {
            let progress = Progress::new("x", total, unit);
            progress.add(4);
            progress.add(3);
            assert_eq!(progress.bar.position(), 7);
            assert!(progress.bar.is_hidden(), "half a second is not over");
        }
    }
}
