//! Progress bars on stderr, with throughput and remaining time; nothing where stderr is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// Of so many bytes to be written.
pub fn of_bytes(bytes: u64) -> ProgressBar {
    bar(bytes, "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}")
}

/// Of so many samples to be run.
pub fn of_samples(samples: usize) -> ProgressBar {
    bar(samples as u64, "{wide_bar} {pos}/{len} {per_sec} {eta}")
}

fn bar(length: u64, template: &str) -> ProgressBar {
    // The templates are constants; were one wrong, the default style would do.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length).with_style(style)
}
