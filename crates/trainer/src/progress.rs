//! What a person sees while a run goes on.

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on a terminal's standard error, and one line per event on standard output.
#[derive(Debug, Clone)]
pub struct Reporter {
    bar: ProgressBar,
    quiet: bool,
}

impl Reporter {
    /// Of a run of `steps` steps. Nothing is shown when `quiet`; no bar when standard error is no terminal.
    pub fn new(steps: u64, quiet: bool) -> Self {
        let target = match quiet {
            true => ProgressDrawTarget::hidden(),
            false => ProgressDrawTarget::stderr(),
        };
        let bar = ProgressBar::with_draw_target(Some(steps), target);
        let style =
            ProgressStyle::with_template("{bar:30} {pos}/{len} steps  {per_sec}  eta {eta}  {msg}");
        bar.set_style(style.expect("the template is valid"));
        Self { bar, quiet }
    }

    /// Moves the bar.
    pub fn advance(&self, step: u64, message: String) {
        self.bar.set_position(step);
        self.bar.set_message(message);
    }

    /// The rate starts anew here: steps done earlier, in another process, do not count.
    pub fn resume_at(&self, step: u64) {
        self.bar.set_position(step);
        self.bar.reset_eta();
    }

    /// Prints one event.
    pub fn event(&self, line: &str) {
        if !self.quiet {
            // A closed pipe must not end a training run.
            self.bar.suspend(|| {
                let _ = writeln!(io::stdout(), "{line}");
            });
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
