//! A model at work on one sequence: weights, activations and K/V together, behind an interface that does not name the
//! backend. Everything above this file is written once for all devices.

use super::config::Config;
use super::forward::{self, CanvasIds, Pass};
use super::kv_bytes::KvBytes;
use super::kv_cache::{self, KvCache};
use super::phases::{Phase, Phases};
use super::state::{self, State};
use super::weights::Weights;
use crate::backend::{
    Backend, CanvasStart, Decision, DeviceSampler, HeadParams, HeadStats, HeadWeights, KvType, Replays, StepInput,
    StepKey, no_sampler,
};
use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One layer's cached prompt rows, read back: `[heads, positions, head_dim]` each.
#[derive(Clone, Debug)]
pub struct KvRows {
    /// Rotated keys.
    pub k: Vec<f32>,
    /// Normed values.
    pub v: Vec<f32>,
    /// First position; a sliding layer keeps the last window - 1.
    pub first: usize,
    /// Positions.
    pub positions: usize,
}

/// The operations of one sequence. Positions and ids are checked by the caller (`engine`).
pub trait Runner: Send {
    /// The network's shape.
    fn config(&self) -> &Config;
    /// Encodes prompt rows at `start..` and keeps their K/V; at most the chunk size that the runner was made for.
    /// `hidden` receives `[rows, hidden]` after the final norm.
    fn encode(&mut self, ids: &[u32], start: usize, cancel: &AtomicBool, hidden: Option<&mut [f32]>) -> Result<()>;
    /// One denoising pass over a canvas at `start..`. `pending`: prompt rows right before it, at most a chunk, to be encoded
    /// in the same pass, which is cheaper than one of their own and gives the same. `self_condition`: use the soft embedding that the last
    /// [`Runner::denoise`] or [`Runner::condition_on`] left. Leaves a new one; on failure the old one stays. A canvas may be
    /// shorter than the model's.
    fn denoise(
        &mut self,
        pending: &[u32],
        canvas: &[u32],
        start: usize,
        self_condition: bool,
        head: &HeadParams,
        stats: &mut HeadStats,
    ) -> Result<()>;
    /// Whether the canvas lives on the device, which decides by itself: then [`Runner::begin`] and [`Runner::step`] take the
    /// place of [`Runner::denoise`].
    fn samples(&self) -> bool;
    /// Puts a block's canvas in place of the one before.
    fn begin(&mut self, canvas: &CanvasStart) -> Result<()>;
    /// One denoising step at `start..`, all of it on the device; whether the block may end. `pending` as in
    /// [`Runner::denoise`]; only the block's first step may have any, and it alone is not conditioned. `more`: there will be
    /// another step unless the block ends. `cancel` is looked at before the step, not within it: a step takes milliseconds.
    fn step(
        &mut self,
        pending: &[u32],
        start: usize,
        input: &StepInput,
        more: bool,
        cancel: &AtomicBool,
        decision: Option<&mut Decision>,
    ) -> Result<bool>;
    /// What the last [`Runner::step`] decided.
    fn decision(&mut self, out: &mut Decision) -> Result<()>;
    /// Begins a lap of the device's clock and says 0, or ends the one that was begun and says its seconds; 0 as well where
    /// there is no such clock.
    fn lap(&mut self) -> Result<f64>;
    /// The last [`Runner::step`] `n` times over, timed; the canvas and the soft embedding mean nothing afterwards. `None`
    /// where steps are not recorded.
    fn replays(&mut self, start: usize, n: usize) -> Result<Option<Replays>>;
    /// The same pass, but only its soft-capped logits `[rows, vocab]` at temperature 1. The soft embedding stays.
    fn logits(
        &mut self,
        canvas: &[u32],
        start: usize,
        self_condition: bool,
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()>;
    /// The same pass without its head; [`Runner::row_logits`] and [`Runner::log_probs`] then read what it left.
    fn pass(&mut self, canvas: &[u32], start: usize, self_condition: bool, cancel: &AtomicBool) -> Result<()>;
    /// Log-probabilities at temperature 1 of `wanted` = (index into `rows`, token) after the last canvas pass; `rows` are
    /// canvas positions, each once.
    fn log_probs(
        &mut self,
        rows: &[usize],
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()>;
    /// Soft-capped logits `[rows, vocab]` at temperature 1 of some rows of the last canvas pass, at most as many as it had.
    fn row_logits(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()>;
    /// Makes the soft embedding from logits `[rows, vocab]` (already divided by their temperature).
    fn condition_on(&mut self, logits: &[f32], rows: usize) -> Result<()>;
    /// Whether rows at position `n` would still find the K/V they see, everything from `n` on being forgotten.
    fn can_resume_at(&self, n: usize) -> bool;
    /// Forgets all K/V.
    fn reset(&mut self);
    /// Reads back layer `layer`'s K/V of a context of `len` positions.
    fn kv(&self, layer: usize, len: usize) -> Result<KvRows>;
    /// The first position that layer `layer` still holds of a context of `len` positions.
    fn first_held(&self, layer: usize, len: usize) -> usize;
    /// All that layer `layer` still holds of a context of `len` positions, as stored.
    fn export(&self, layer: usize, len: usize) -> Result<KvBytes<'static>>;
    /// Puts such rows in place; [`Runner::reset`] comes first.
    fn import(&mut self, layer: usize, rows: &KvBytes) -> Result<()>;
    /// Puts random numbers in place of the K/V of positions `0..len`; [`Runner::reset`] comes first.
    fn fill(&mut self, len: usize) -> Result<()>;
    /// A runner of the same sizes without K/V, on the same weights.
    fn sibling(&self) -> Result<Box<dyn Runner>>;
    /// Where the time went so far.
    fn phases(&self) -> Phases;
    /// Starts that count from zero.
    fn reset_phases(&mut self);
    /// Counts processor time as well from now on.
    fn measure_cpu_time(&mut self);
    /// Whether phases are to wait for the device's work from now on, and experts to be counted there; nothing changes where
    /// operations are done when they return.
    fn wait_for_phases(&mut self, on: bool);
    /// Bytes of (K/V, activations). What a step needs beside them for its time is not counted.
    fn memory(&self) -> (usize, usize);
}

/// A [`Runner`] on backend `B`.
pub struct Session<B: Backend> {
    backend: Arc<B>,
    weights: Arc<Weights<B>>,
    state: State<B>,
    kv: KvCache<B>,
    sampler: Option<B::Sampler>,
    /// Positions of the canvas that the sampler has.
    rows: usize,
    sizes: SessionSizes,
}

/// How large to make a session.
#[derive(Clone, Copy, Debug)]
pub struct SessionSizes {
    /// Positions of the context.
    pub context: usize,
    /// Prompt rows encoded at a time, at most.
    pub chunk: usize,
    /// Number type of keys and values.
    pub kv: KvType,
}

impl SessionSizes {
    /// Rows of the longest pass on backend `B`.
    pub fn rows<B: Backend>(&self, config: &Config) -> usize {
        if B::SHARES_PASSES { self.chunk + config.canvas } else { self.chunk.max(config.canvas) }
    }

    /// Bytes of cached keys and values.
    pub fn kv_bytes(&self, config: &Config) -> usize {
        kv_cache::bytes(config, self.context, self.chunk, self.kv)
    }

    /// Bytes of activations on backend `B`, without those of the experts.
    pub fn activation_bytes<B: Backend>(&self, config: &Config) -> usize {
        state::buffer_bytes(config, self.rows::<B>(config))
    }
}

impl<B: Backend> Session<B> {
    /// All buffers, once and for all.
    pub fn new(backend: Arc<B>, weights: Arc<Weights<B>>, sizes: SessionSizes) -> Result<Self> {
        let config = &weights.config;
        let state = State::new(&*backend, config, sizes.rows::<B>(config))?;
        let kv = KvCache::new(&*backend, config, sizes.context, sizes.chunk, sizes.kv)?;
        let sampler = B::Sampler::new(&*backend, config.canvas, config.vocab)?;
        Ok(Session { backend, weights, state, kv, sampler, rows: 0, sizes })
    }
}

impl<B: Backend> Runner for Session<B> {
    fn config(&self) -> &Config {
        &self.weights.config
    }

    fn encode(&mut self, ids: &[u32], start: usize, cancel: &AtomicBool, hidden: Option<&mut [f32]>) -> Result<()> {
        let Session { backend, weights, state, kv, .. } = self;
        debug_assert!(ids.len() <= state.rows);
        backend.run(|| {
            let pass = Pass {
                prompt: ids,
                canvas: CanvasIds::Host(&[]),
                start,
                self_condition: false,
                hidden: hidden.is_some(),
                cancel,
            };
            forward::run(&**backend, weights, state, kv, &pass)?;
            let Some(hidden) = hidden else { return Ok(()) };
            forward::finish(&**backend, weights, state, ids.len())?;
            backend.read(&state.normed, 0, hidden)
        })
    }

    fn denoise(
        &mut self,
        pending: &[u32],
        canvas: &[u32],
        start: usize,
        self_condition: bool,
        head: &HeadParams,
        stats: &mut HeadStats,
    ) -> Result<()> {
        let mut start = start - pending.len();
        let mut prompt = pending;
        if !B::SHARES_PASSES && !pending.is_empty() {
            self.encode(pending, start, head.cancel, None)?;
            (start, prompt) = (start + pending.len(), &[]);
        }
        let Session { backend, weights, state, kv, .. } = self;
        backend.run(|| {
            let pass = Pass {
                prompt,
                canvas: CanvasIds::Host(canvas),
                start,
                self_condition,
                hidden: false,
                cancel: head.cancel,
            };
            forward::run(&**backend, weights, state, kv, &pass)?;
            forward::finish(&**backend, weights, state, canvas.len())?;
            let embedding = &weights.embedding;
            let matrices = HeadWeights { table: weights.head.as_ref().unwrap_or(embedding), embedding };
            let likely = if self_condition { &state.likely[..] } else { &[] };
            let head = HeadParams { likely, ..*head };
            backend.head(matrices, &state.normed, canvas.len(), &head, &mut state.next_soft, stats)?;
            state.likely.clone_from(&stats.argmax);
            state.watch.lap_head(stats.soft_time);
            state.watch.phases.soft_terms += stats.soft_terms;
            std::mem::swap(&mut state.soft, &mut state.next_soft);
            Ok(())
        })
    }

    fn samples(&self) -> bool {
        self.sampler.is_some()
    }

    fn begin(&mut self, canvas: &CanvasStart) -> Result<()> {
        self.rows = canvas.tokens.len();
        self.sampler.as_mut().ok_or_else(no_sampler)?.begin(&self.backend, canvas)
    }

    fn step(
        &mut self,
        pending: &[u32],
        start: usize,
        input: &StepInput,
        more: bool,
        cancel: &AtomicBool,
        decision: Option<&mut Decision>,
    ) -> Result<bool> {
        let (mut first, mut prompt) = (start - pending.len(), pending);
        if !B::SHARES_PASSES && !pending.is_empty() {
            self.encode(pending, first, cancel, None)?;
            (first, prompt) = (start, &[]);
        }
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        let Session { backend, weights, state, kv, sampler, rows, .. } = self;
        let (sampler, key) = (sampler.as_mut().ok_or_else(no_sampler)?, StepKey { start, rows: *rows });
        backend.run(|| {
            state.watch.start();
            sampler.prepare(backend, input)?;
            // Where each phase is to be waited for, the host must be there between them.
            let waits = state.watch.wait.is_some();
            if input.step == 0 || waits || !sampler.replay(backend, key)? {
                sampled_step(&**backend, weights, state, kv, (sampler, key), prompt, first, input.step > 0)?;
            }
            if more && !waits {
                // The device is busy meanwhile. What is only recorded belongs to no phase.
                let phases = state.watch.phases;
                let step = |sampler: &_| sampled_step(&**backend, weights, state, kv, (sampler, key), &[], start, true);
                sampler.record(backend, key, step)?;
                state.watch.phases = phases;
            }
            let finished = sampler.finished(backend, decision)?;
            state.watch.lap(Phase::Head); // with whatever else was not waited for
            Ok(finished)
        })
    }

    fn decision(&mut self, out: &mut Decision) -> Result<()> {
        self.sampler.as_mut().ok_or_else(no_sampler)?.finished(&self.backend, Some(out)).map(|_| ())
    }

    fn lap(&mut self) -> Result<f64> {
        self.sampler.as_mut().map_or(Ok(0.0), |sampler| sampler.lap(&self.backend))
    }

    fn replays(&mut self, start: usize, n: usize) -> Result<Option<Replays>> {
        let Session { backend, weights, state, kv, sampler, rows, .. } = self;
        let Some(sampler) = sampler else { return Ok(None) };
        let (key, phases) = (StepKey { start, rows: *rows }, state.watch.phases);
        let step = |sampler: &_| sampled_step(&**backend, weights, state, kv, (sampler, key), &[], start, true);
        let replays = backend.run(|| sampler.replays(backend, key, n, step));
        state.watch.phases = phases;
        replays
    }

    fn logits(
        &mut self,
        canvas: &[u32],
        start: usize,
        self_condition: bool,
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()> {
        self.pass(canvas, start, self_condition, cancel)?;
        let Session { backend, weights, state, .. } = self;
        backend.run(|| {
            let table = weights.head.as_ref().unwrap_or(&weights.embedding);
            backend.logits(table, &state.normed, canvas.len(), weights.config.softcap, out)
        })
    }

    fn pass(&mut self, canvas: &[u32], start: usize, self_condition: bool, cancel: &AtomicBool) -> Result<()> {
        let Session { backend, weights, state, kv, .. } = self;
        backend.run(|| {
            let pass =
                Pass { prompt: &[], canvas: CanvasIds::Host(canvas), start, self_condition, hidden: false, cancel };
            forward::run(&**backend, weights, state, kv, &pass)?;
            forward::finish(&**backend, weights, state, canvas.len())
        })
    }

    fn log_probs(
        &mut self,
        rows: &[usize],
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()> {
        let Session { backend, weights, state, .. } = self;
        backend.run(|| {
            pick_rows(&**backend, state, weights.config.hidden, rows)?;
            let table = weights.head.as_ref().unwrap_or(&weights.embedding);
            state.watch.start();
            backend.log_probs(table, &state.branch, rows.len(), weights.config.softcap, wanted, cancel, out)?;
            state.watch.lap(Phase::Head);
            Ok(())
        })
    }

    fn row_logits(&mut self, rows: &[usize], out: &mut [f32]) -> Result<()> {
        let Session { backend, weights, state, .. } = self;
        backend.run(|| {
            pick_rows(&**backend, state, weights.config.hidden, rows)?;
            let table = weights.head.as_ref().unwrap_or(&weights.embedding);
            backend.logits(table, &state.branch, rows.len(), weights.config.softcap, out)
        })
    }

    fn condition_on(&mut self, logits: &[f32], rows: usize) -> Result<()> {
        let Session { backend, weights, state, .. } = self;
        let scale = (weights.config.hidden as f32).sqrt();
        state.likely.clear();
        backend.run(|| backend.soft_embedding(&weights.embedding, logits, rows, scale, &mut state.soft))
    }

    fn can_resume_at(&self, n: usize) -> bool {
        self.kv.can_resume_at(n)
    }

    fn reset(&mut self) {
        self.kv.reset();
    }

    fn kv(&self, layer: usize, len: usize) -> Result<KvRows> {
        let cache = &self.kv.layers[layer];
        let first = self.kv.first_needed(layer, len);
        let (positions, dim) = (len - first, cache.head_dim);
        let mut rows = KvRows { k: Vec::new(), v: Vec::new(), first, positions };
        for (from, to) in [(&cache.k, &mut rows.k), (&cache.v, &mut rows.v)] {
            to.resize(cache.kv_heads * positions * dim, 0.0);
            for (i, row) in to.chunks_exact_mut(dim).enumerate() {
                let (head, position) = (i / positions, first + i % positions);
                self.backend.kv_read(from, (head * cache.capacity + position % cache.capacity) * dim, row)?;
            }
        }
        Ok(rows)
    }

    fn first_held(&self, layer: usize, len: usize) -> usize {
        self.kv.first_held(layer).min(len)
    }

    fn export(&self, layer: usize, len: usize) -> Result<KvBytes<'static>> {
        self.kv.export(&*self.backend, layer, self.first_held(layer, len)..len)
    }

    fn import(&mut self, layer: usize, rows: &KvBytes) -> Result<()> {
        self.kv.import(&*self.backend, layer, rows)
    }

    fn fill(&mut self, len: usize) -> Result<()> {
        self.kv.fill(&*self.backend, len)
    }

    fn sibling(&self) -> Result<Box<dyn Runner>> {
        Ok(Box::new(Session::new(self.backend.clone(), self.weights.clone(), self.sizes)?))
    }

    fn phases(&self) -> Phases {
        self.state.watch.phases
    }

    fn reset_phases(&mut self) {
        self.state.watch.phases = Phases::default();
    }

    fn measure_cpu_time(&mut self) {
        self.state.watch.cpu = true;
    }

    fn wait_for_phases(&mut self, on: bool) {
        let backend = self.backend.clone();
        // What fails here fails again where the pass reads its result.
        let wait = move || drop(backend.synchronize());
        self.state.watch.wait = (on && B::DEFERRED).then(|| Box::new(wait) as Box<dyn Fn() + Send>);
    }

    fn memory(&self) -> (usize, usize) {
        (self.kv.bytes(), self.state.bytes)
    }
}

/// Nobody stops a step half way that runs on the device as a whole.
static GOES_ON: AtomicBool = AtomicBool::new(false);

/// A whole step as the device does it: noise, pass, head, decision. The soft embedding is written in place, since no row
/// of it is read after the input.
#[allow(clippy::too_many_arguments)]
fn sampled_step<B: Backend>(
    b: &B,
    w: &Weights<B>,
    s: &mut State<B>,
    kv: &mut KvCache<B>,
    (sampler, key): (&B::Sampler, StepKey),
    prompt: &[u32],
    start: usize,
    self_condition: bool,
) -> Result<()> {
    sampler.noise(b)?;
    let canvas = CanvasIds::Device(sampler, key.rows);
    let pass = Pass { prompt, canvas, start, self_condition, hidden: false, cancel: &GOES_ON };
    forward::run(b, w, s, kv, &pass)?;
    forward::finish(b, w, s, key.rows)?;
    let matrices = HeadWeights { table: w.head.as_ref().unwrap_or(&w.embedding), embedding: &w.embedding };
    let soft_scale = (w.config.hidden as f32).sqrt();
    sampler.decide(b, matrices, &s.normed, w.config.softcap, soft_scale, &mut s.soft)
}

/// `s.branch`, free after a pass, = the chosen rows of `s.normed`.
fn pick_rows<B: Backend>(b: &B, s: &mut State<B>, hidden: usize, rows: &[usize]) -> Result<()> {
    let mut row = vec![0.0; hidden];
    for (to, &from) in rows.iter().enumerate() {
        b.read(&s.normed, from * hidden, &mut row)?;
        b.write(&row, &mut s.branch, to * hidden)?;
    }
    Ok(())
}
