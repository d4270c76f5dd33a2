//! Launchers of `sampler.cu`: the canvas on the device. A step's numbers come through a block of page-locked memory, which the
//! step itself copies first; what it decides stays, but for the two words that say whether the block may end.
//!
//! The host waits once per step, for those words. It could hand over the next step before it knows them, if kernels left a
//! finished canvas alone, but that would save little: replaying a recorded step, an eight-byte copy and the wait for an event
//! are 10 to 30 microseconds of an otherwise idle device by estimate (a launch of a recorded graph 5 to 10, a copy over the
//! link 3 to 5, waking up the rest; to be measured), and 3 % of the fastest step wanted (4.7 ms) are 141.

use super::driver::{Event, Memory, Pinned};
use super::graph::Graph;
use super::head::{self, Found, Tempering};
use super::{Buffer, Cuda, Weight, arguments, embed, gaps, grid};
use crate::backend::{
    CanvasStart, Decision, DeviceSampler, HeadStats, HeadWeights, Replays, StepInput, StepKey, StepNoise,
};
use crate::error::{Error, Result};

/// `StepArguments` of `cuda/sampler.cuh`: ten words.
const ARGUMENTS: usize = 10;
/// Where the temperature is among them.
const TEMPERATURE: usize = 6;
/// Words of `BlockState`.
const STATE: usize = 2;

/// What the device keeps, a number per position each. Those of a decision come first, to be read in one copy.
#[derive(Clone, Copy)]
enum List {
    Canvas,
    Sampled,
    Argmax,
    Entropy,
    LogProb,
    Accepted,
    Changed,
    Unchanged,
    Draft,
    Pinned,
    Uniforms,
    Fresh,
    /// The block's state is behind all lists.
    End,
}

/// Lists of a decision.
const DECISION: usize = List::Draft as usize;

/// The canvas of one sequence.
pub struct Sampler {
    lists: Memory,     // [12, canvas] and the block's state
    arguments: Memory, // of the step
    given: Pinned,     // the same, from the host
    noise: Pinned,     // [2, canvas] uniforms and fresh tokens, where the host gives them
    outcome: Pinned,   // the block's state, and the lists of a decision
    done: Event,
    lap: Option<Event>, // its begin, by the device's clock
    bias: Option<Memory>,
    graph: Option<Graph>, // always there, but while it records
    canvas: usize,
    vocab: usize,
    rows: usize,
    bound: f32,
    confidence: f32,
    stability: u32,
}

/// Bytes that a sampler has on the device.
pub fn sampler_bytes(canvas: usize) -> usize {
    (List::End as usize * canvas + STATE + ARGUMENTS) * size_of::<u32>()
}

impl Sampler {
    /// For canvases of up to `canvas` positions.
    pub fn new(cuda: &Cuda, canvas: usize, vocab: usize) -> Result<Self> {
        grid::sampler(canvas, cuda.device.info.shared)?;
        let (device, words) = (&cuda.device, size_of::<u32>());
        Ok(Sampler {
            lists: Memory::zeroed(device, (List::End as usize * canvas + STATE) * words, "canvas")?,
            arguments: Memory::zeroed(device, ARGUMENTS * words, "canvas")?,
            given: Pinned::new(device, ARGUMENTS * words)?,
            noise: Pinned::new(device, 2 * canvas * words)?,
            outcome: Pinned::new(device, (STATE + DECISION * canvas) * words)?,
            done: Event::new(device)?,
            lap: None,
            bias: None,
            graph: Some(Graph::new(device)?),
            canvas,
            vocab,
            rows: 0,
            bound: 0.0,
            confidence: 0.0,
            stability: 0,
        })
    }

    /// Byte of the device's lists where one begins.
    fn at(&self, list: List) -> usize {
        list as usize * self.canvas * size_of::<u32>()
    }

    fn list(&self, list: List) -> u64 {
        self.lists.address(self.at(list))
    }

    fn put(&mut self, list: List, words: &[u32]) -> Result<()> {
        let at = self.at(list);
        self.lists.write(words, at)
    }

    /// The noise and the decision without the head between them, for tests: `stats` are put where the head leaves its own.
    pub fn decide_alone(&mut self, cuda: &Cuda, input: &StepInput, stats: &HeadStats) -> Result<(bool, Decision)> {
        self.prepare(cuda, input)?;
        self.noise(cuda)?;
        let bits = |list: &[f32]| list.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        self.put(List::Argmax, &stats.argmax)?;
        self.put(List::Sampled, &stats.sampled)?;
        self.put(List::Entropy, &bits(&stats.entropy))?;
        self.put(List::LogProb, &bits(&stats.log_prob))?;
        self.launch_decide(cuda)?;
        let mut decision = Decision::default();
        let finished = self.finished(cuda, Some(&mut decision))?;
        Ok((finished, decision))
    }

    /// The numbers that the last step drew with, for tests: uniforms, fresh tokens.
    pub fn drawn_with(&self) -> Result<(Vec<f32>, Vec<u32>)> {
        let (mut uniforms, mut fresh) = (vec![0.0; self.rows], vec![0; self.rows]);
        self.lists.read(self.at(List::Uniforms), &mut uniforms)?;
        self.lists.read(self.at(List::Fresh), &mut fresh)?;
        Ok((uniforms, fresh))
    }

    fn launch_decide(&self, cuda: &Cuda) -> Result<()> {
        let grid = grid::sampler(self.rows, cuda.device.info.shared)?;
        // SAFETY: (arguments, rows, pinned, fresh, canvas, sampled, argmax, entropy, accepted, changed, unchanged, draft,
        // state), lists of at least `rows` numbers each.
        unsafe {
            cuda.launch(
                "sampler",
                None,
                "sampler_decide",
                grid,
                arguments![
                    self.arguments.address(0),
                    self.rows as i32,
                    self.list(List::Pinned),
                    self.list(List::Fresh),
                    self.list(List::Canvas),
                    self.list(List::Sampled),
                    self.list(List::Argmax),
                    self.list(List::Entropy),
                    self.list(List::Accepted),
                    self.list(List::Changed),
                    self.list(List::Unchanged),
                    self.list(List::Draft),
                    self.list(List::End)
                ],
            )?;
        }
        self.lists.give(self.at(List::End), STATE * size_of::<u32>(), &self.outcome, 0)
    }

    /// What came back.
    fn read(&mut self) -> Decision {
        let (canvas, rows) = (self.canvas, self.rows);
        let words = self.outcome.words();
        let list = |list: List| &words[STATE + list as usize * canvas..][..rows];
        let floats = |l: List| list(l).iter().map(|&w| f32::from_bits(w)).collect();
        let flags = |l: List| list(l).iter().map(|&w| w != 0).collect();
        Decision {
            stats: HeadStats {
                argmax: list(List::Argmax).to_vec(),
                sampled: list(List::Sampled).to_vec(),
                entropy: floats(List::Entropy),
                log_prob: floats(List::LogProb),
                ..Default::default()
            },
            accepted: flags(List::Accepted),
            changed: flags(List::Changed),
            unchanged: list(List::Unchanged).to_vec(),
            canvas: list(List::Canvas).to_vec(),
        }
    }
}

impl DeviceSampler<Cuda> for Sampler {
    fn new(cuda: &Cuda, canvas: usize, vocab: usize) -> Result<Option<Self>> {
        Sampler::new(cuda, canvas, vocab).map(Some)
    }

    fn begin(&mut self, cuda: &Cuda, start: &CanvasStart) -> Result<()> {
        if start.tokens.len() > self.canvas {
            return Err(Error::Internal(format!("a canvas of {}, made for {}", start.tokens.len(), self.canvas)));
        }
        (self.rows, self.bound) = (start.tokens.len(), start.entropy_bound);
        (self.confidence, self.stability) = (start.confidence, start.stability);
        self.put(List::Canvas, start.tokens)?;
        let pinned: Vec<u32> = start.pinned.iter().map(|&p| u32::from(p)).collect();
        self.put(List::Pinned, &pinned)?;
        let bias = head::bias(cuda, start.bias, self.vocab)?;
        if let Some(graph) = self.graph.as_mut().filter(|_| bias.is_some() || self.bias.is_some()) {
            graph.void();
        }
        self.bias = bias;
        Ok(())
    }

    fn prepare(&mut self, _: &Cuda, input: &StepInput) -> Result<()> {
        let (seed, vocab) = match input.noise {
            StepNoise::Philox { seed, vocab } => (seed, vocab),
            StepNoise::Given { uniforms, fresh } => {
                let (n, words) = (self.canvas, self.noise.words());
                words.iter_mut().zip(uniforms).for_each(|(to, u)| *to = u.to_bits());
                words[n..].iter_mut().zip(fresh).for_each(|(to, &t)| *to = t);
                let bytes = 2 * n * size_of::<u32>();
                self.lists.take(&self.noise, bytes, self.at(List::Uniforms))?;
                (0, 0)
            }
        };
        let given = matches!(input.noise, StepNoise::Given { .. });
        let numbers: [u32; ARGUMENTS] = [
            input.block,
            input.step,
            seed as u32,
            (seed >> 32) as u32,
            vocab,
            given.into(),
            input.temperature.to_bits(),
            self.bound.to_bits(),
            self.confidence.to_bits(),
            self.stability,
        ];
        self.given.words().copy_from_slice(&numbers);
        Ok(())
    }

    fn noise(&self, cuda: &Cuda) -> Result<()> {
        self.arguments.take(&self.given, ARGUMENTS * size_of::<u32>(), 0)?;
        let grid = grid::per_element("sampler_noise", self.rows, 128)?;
        let (uniforms, fresh) = (self.list(List::Uniforms), self.list(List::Fresh));
        // SAFETY: (arguments, rows, uniforms, fresh), a number per row in each of the last two.
        unsafe {
            cuda.launch(
                "sampler",
                None,
                "sampler_noise",
                grid,
                arguments![self.arguments.address(0), self.rows as i32, uniforms, fresh],
            )
        }
    }

    fn embed(&self, cuda: &Cuda, table: &Weight, scale: f32, out: &mut Buffer) -> Result<()> {
        embed::rows(cuda, table, self.list(List::Canvas), self.rows, scale, out)
    }

    fn decide(
        &self,
        cuda: &Cuda,
        weights: HeadWeights<Weight>,
        x: &Buffer,
        softcap: Option<f32>,
        soft_scale: f32,
        soft: &mut Buffer,
    ) -> Result<()> {
        let how = Tempering {
            cap: softcap.unwrap_or(0.0),
            bias: self.bias.as_ref().map_or(0, |memory| memory.address(0)),
            temperature: self.arguments.address(TEMPERATURE * size_of::<u32>()),
        };
        let found = Found {
            sampled: self.list(List::Sampled),
            argmax: self.list(List::Argmax),
            entropy: self.list(List::Entropy),
            log_prob: self.list(List::LogProb),
        };
        head::walk(cuda, weights, x, (self.rows, how, soft_scale), self.list(List::Uniforms), soft, found)?;
        self.launch_decide(cuda)
    }

    fn record(&mut self, cuda: &Cuda, key: StepKey, step: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        let Some(mut graph) = self.graph.take_if(|graph| cuda.records() && !graph.holds(key)) else { return Ok(()) };
        let outcome = graph.record(key, || step(self));
        self.graph = Some(graph);
        outcome
    }

    fn replay(&self, cuda: &Cuda, key: StepKey) -> Result<bool> {
        let Some(graph) = &self.graph else { return Ok(false) };
        // Held until the launch, so that no other context makes work space move in between.
        let _scratch = cuda.scratch();
        let holds = graph.holds(key);
        if holds {
            graph.launch()?;
        }
        Ok(holds)
    }

    fn finished(&mut self, _: &Cuda, decision: Option<&mut Decision>) -> Result<bool> {
        let word = size_of::<u32>();
        if decision.is_some() {
            self.lists.give(0, DECISION * self.canvas * word, &self.outcome, STATE * word)?;
        }
        self.done.record()?;
        self.done.wait()?;
        if let Some(decision) = decision {
            *decision = self.read();
        }
        Ok(self.outcome.words()[1] != 0)
    }

    fn lap(&mut self, cuda: &Cuda) -> Result<f64> {
        let now = Event::timed(&cuda.device)?;
        now.record()?;
        let Some(begin) = self.lap.take() else {
            self.lap = Some(now); // without a wait, which would be part of the lap
            return Ok(0.0);
        };
        now.seconds_since(&begin)
    }

    fn replays(
        &mut self,
        cuda: &Cuda,
        key: StepKey,
        n: usize,
        mut step: impl FnMut(&Self) -> Result<()>,
    ) -> Result<Option<Replays>> {
        if !cuda.records() {
            return Ok(None);
        }
        gaps::replays(cuda, key, n, || step(self)).map(Some)
    }
}
