//! What starting kernels costs a recorded step, for `dgemma bench`. No clock can tell inside of a graph where one kernel has
//! ended and the next has begun without making that longer. So the step is recorded a second time, with a kernel that does
//! nothing behind each of its kernels: both do the same work, and what the second takes longer is what so many further starts
//! cost between these very kernels. It is a bound from above where a device prepares the start after next less well behind a
//! kernel that ends at once.
//!
//! Replays are put behind each other, so that the device never waits for the host, and timed by events on either side, of
//! which the first comes only when a replay before it has ended. Both records take turns, since clocks change.

use super::Cuda;
use super::driver::{Event, Grid};
use super::graph::Graph;
use super::units::Unit;
use crate::backend::{Replays, StepKey};
use crate::error::{Error, Result};

/// Turns, of which the median counts.
const TURNS: usize = 3;
const NOTHING: (Unit, &str) = (Unit { file: "peak", format: None }, "peak_nothing");

/// Starts the empty kernel.
pub fn launch_nothing(cuda: &Cuda) -> Result<()> {
    let function = cuda.kernels.get(NOTHING.0, NOTHING.1)?;
    // SAFETY: it takes nothing and touches nothing.
    unsafe { cuda.device.launch(function, Grid { blocks: [1, 1, 1], threads: 32, shared: 0 }, &mut []) }
}

/// The time of `step`, recorded as `key`, over `n` replays behind each other, without and with empty kernels.
pub fn replays(cuda: &Cuda, key: StepKey, n: usize, mut step: impl FnMut() -> Result<()>) -> Result<Replays> {
    cuda.kernels.get(NOTHING.0, NOTHING.1)?; // code cannot be loaded while a step is recorded
    let (mut plain, mut padded) = (Graph::new(&cuda.device)?, Graph::new(&cuda.device)?);
    plain.record(key, &mut step)?;
    padded.record_padded(key, &mut step)?;
    let _scratch = cuda.scratch(); // no other context makes work space move from here on
    if !(plain.holds(key) && padded.holds(key)) {
        return Err(Error::Internal("a step could not be recorded".into()));
    }
    let clocks = (Event::timed(&cuda.device)?, Event::timed(&cuda.device)?);
    let mut seconds = [Vec::new(), Vec::new()];
    for _ in 0..TURNS {
        for (graph, seconds) in [&plain, &padded].into_iter().zip(&mut seconds) {
            seconds.push(seconds_each(graph, n, &clocks)?);
        }
    }
    let [seconds, padded_seconds] = seconds.map(median);
    Ok(Replays { nodes: plain.nodes(), seconds, padding: padded.nodes() - plain.nodes(), padded_seconds })
}

fn seconds_each(graph: &Graph, n: usize, (begin, end): &(Event, Event)) -> Result<f64> {
    graph.launch()?;
    begin.record()?;
    (0..n).try_for_each(|_| graph.launch())?;
    end.record()?;
    Ok(end.seconds_since(begin)? / n.max(1) as f64)
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}
