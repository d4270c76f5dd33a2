//! Where the time of passes goes. Every operation of a pass belongs to one phase, so the phases sum to the passes.

use crate::backend::ExpertLoad;
use std::ops::{Index, Sub};
use std::time::{Duration, Instant};

/// A part of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Products with the query, key, value and output matrices.
    Projections,
    /// Scores, softmax, weighted values; rotation and the cache.
    Attention,
    /// The dense branch, and the self-conditioning network.
    Dense,
    /// The router's product and choice.
    Router,
    /// The experts.
    Experts,
    /// The output head without the soft embedding: logits, statistics, draws.
    Head,
    /// The soft embedding that conditions the next step.
    SoftEmbedding,
    /// Input embeddings and norms.
    Other,
}

impl Phase {
    /// All of them, in the order of a pass.
    pub const ALL: [Phase; 8] = [
        Phase::Projections,
        Phase::Attention,
        Phase::Dense,
        Phase::Router,
        Phase::Experts,
        Phase::Head,
        Phase::SoftEmbedding,
        Phase::Other,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Projections => "attention projections",
            Phase::Attention => "attention",
            Phase::Dense => "dense",
            Phase::Router => "router",
            Phase::Experts => "experts",
            Phase::Head => "head",
            Phase::SoftEmbedding => "soft embedding",
            Phase::Other => "other",
        }
    }
}

/// Time spent on something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// On the clock.
    pub wall: Duration,
    /// By all threads of the process together; zero unless it was asked for.
    pub cpu: Duration,
}

/// Where the time of all passes went, prompt and canvas rows together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    spent: [Spent; Phase::ALL.len()],
    /// Layers passed.
    pub layers: u64,
    /// Experts that had at least one row, summed over these layers.
    pub experts_touched: u64,
    /// Rows of the expert with most rows, summed over these layers.
    pub largest_expert: u64,
    /// (row, token) pairs of which soft embeddings were made.
    pub soft_terms: u64,
}

impl Phases {
    /// One layer's routing.
    pub(super) fn note_experts(&mut self, load: ExpertLoad) {
        self.layers += 1;
        self.experts_touched += load.touched as u64;
        self.largest_expert += load.largest as u64;
    }

    /// All phases together.
    pub fn total(&self) -> Spent {
        let sum = |f: fn(&Spent) -> Duration| self.spent.iter().map(f).sum();
        Spent { wall: sum(|s| s.wall), cpu: sum(|s| s.cpu) }
    }
}

impl Index<Phase> for Phases {
    type Output = Spent;

    fn index(&self, phase: Phase) -> &Spent {
        &self.spent[phase as usize]
    }
}

/// What happened between two readings.
impl Sub for Phases {
    type Output = Phases;

    fn sub(self, before: Phases) -> Phases {
        let mut spent = self.spent;
        for (now, before) in spent.iter_mut().zip(&before.spent) {
            (now.wall, now.cpu) = (now.wall - before.wall, now.cpu - before.cpu);
        }
        Phases {
            spent,
            layers: self.layers - before.layers,
            experts_touched: self.experts_touched - before.experts_touched,
            largest_expert: self.largest_expert - before.largest_expert,
            soft_terms: self.soft_terms - before.soft_terms,
        }
    }
}

/// Charges time to phases: each lap everything since the one before.
pub struct Stopwatch {
    /// The sums so far.
    pub phases: Phases,
    /// Whether to read the processor clock as well. That is a system call: some 0.3 us, 2 us in some virtual machines.
    pub cpu: bool,
    /// What to wait for before each lap, if anything: on a device that works beside the host, phases end with their work only
    /// then. It makes passes longer.
    pub wait: Option<Box<dyn Fn() + Send>>,
    last: (Instant, Duration),
}

impl Stopwatch {
    /// Nothing charged yet, wall time only.
    pub fn new() -> Self {
        Stopwatch { phases: Phases::default(), cpu: false, wait: None, last: (Instant::now(), Duration::ZERO) }
    }

    /// A pass begins: what was before belongs to no phase.
    pub fn start(&mut self) {
        self.wait.iter().for_each(|wait| wait());
        self.last = self.now();
    }

    /// Charges the time since the last lap to `phase`.
    pub fn lap(&mut self, phase: Phase) {
        self.wait.iter().for_each(|wait| wait());
        let (now, last) = (self.now(), self.last);
        let spent = &mut self.phases.spent[phase as usize];
        spent.wall += now.0 - last.0;
        spent.cpu += now.1.saturating_sub(last.1);
        self.last = now;
    }

    /// A lap of the head, of which `soft` went into the soft embedding. Processor time is divided like wall time: both
    /// parts occupy all threads.
    pub fn lap_head(&mut self, soft: Duration) {
        let before = self.phases[Phase::Head];
        self.lap(Phase::Head);
        let spent = &mut self.phases.spent;
        let (wall, cpu) =
            (spent[Phase::Head as usize].wall - before.wall, spent[Phase::Head as usize].cpu - before.cpu);
        let soft = soft.min(wall);
        let soft_cpu = cpu.mul_f64(soft.as_secs_f64() / wall.as_secs_f64().max(1e-9)).min(cpu);
        for (phase, add) in [(Phase::Head, false), (Phase::SoftEmbedding, true)] {
            let spent = &mut spent[phase as usize];
            let change = |time: Duration, by| if add { time + by } else { time - by };
            (spent.wall, spent.cpu) = (change(spent.wall, soft), change(spent.cpu, soft_cpu));
        }
    }

    fn now(&self) -> (Instant, Duration) {
        (Instant::now(), if self.cpu { process_cpu_time() } else { Duration::ZERO })
    }
}

/// Processor time of all threads of this process so far; zero where the system has no such clock.
#[cfg(not(unix))]
pub fn process_cpu_time() -> Duration {
    Duration::ZERO
}

/// Processor time of all threads of this process so far.
#[cfg(unix)]
pub fn process_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec; the clock exists on every system that has this call.
    if unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) } != 0 {
        return Duration::ZERO;
    }
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every lap goes to one phase, the head's to two, and nothing is lost.
    #[test]
    fn laps_sum_to_the_time_that_passed() {
        let mut watch = Stopwatch::new();
        watch.cpu = true;
        let begin = Instant::now();
        watch.start();
        for phase in [Phase::Dense, Phase::Experts, Phase::Dense] {
            std::thread::sleep(Duration::from_millis(2));
            watch.lap(phase);
        }
        std::thread::sleep(Duration::from_millis(4));
        watch.lap_head(Duration::from_millis(1));
        let (all, phases) = (begin.elapsed(), watch.phases);
        assert_eq!(phases[Phase::SoftEmbedding].wall, Duration::from_millis(1));
        assert!(phases[Phase::Head].wall >= Duration::from_millis(3));
        assert!(phases[Phase::Dense].wall >= Duration::from_millis(4));
        assert!(phases.total().wall >= Duration::from_millis(10) && phases.total().wall <= all);
        assert_eq!(phases - phases, Phases::default());
    }
}
