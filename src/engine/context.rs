//! A context: the committed tokens (the timeline), how many of them are encoded, and the K/V that encode them.
//!
//! Encoding is lazy: the timeline can be extended, cut or replaced at will, and whatever K/V still fits is kept. On
//! sliding layers a cut can reach behind what the ring still holds; then everything is encoded again at next use.

use super::cancel::CancelToken;
use super::generate::{Event, GenerateParams, Generation};
use super::perf::ContextPerf;
use super::{Model, generate};
use crate::backend::KvType;
use crate::error::{Error, Result};
use crate::model::{Config, KvRows, Runner, SessionSizes};
use crate::sampler::Noise;
use std::ops::ControlFlow;
use std::time::Instant;

/// Positions of a context when nothing is asked for, if the model allows that many.
const DEFAULT_SIZE: usize = 8192;
/// Prompt rows of one pass when nothing is asked for: enough that decoding a weight costs little beside its use.
const DEFAULT_CHUNK: usize = 256;

/// How to make a context.
#[derive(Clone, Debug, Default)]
pub struct ContextParams {
    /// Positions, prompt and canvas together; 0: 8192, or the model's context length if that is less.
    pub size: usize,
    /// Prompt rows encoded per pass; 0: 256. The result does not depend on it.
    pub chunk: usize,
    /// Number type of the cached keys and values: f16 and bf16 halve their memory. `None`: [`Model::default_kv`].
    pub kv: Option<KvType>,
}

impl ContextParams {
    /// Defaults filled in, with `kv` for the number type; an error if the model allows no such context.
    pub(super) fn sizes(&self, config: &Config, kv: KvType) -> Result<SessionSizes> {
        let (limit, canvas) = (config.context_length, config.canvas);
        let size = if self.size == 0 { DEFAULT_SIZE.min(limit) } else { self.size };
        if size < canvas || size > limit {
            let what = format!("is {size}, expected {canvas} (one canvas) to {limit} (the model's context length)");
            return Err(Error::argument("context_size", what));
        }
        let chunk = if self.chunk == 0 { DEFAULT_CHUNK } else { self.chunk }.min(size);
        Ok(SessionSizes { context: size, chunk, kv: self.kv.unwrap_or(kv) })
    }
}

/// One sequence being read and written. Not shared between threads, except for its [`CancelToken`].
pub struct Context {
    pub(super) model: Model,
    pub(super) runner: Box<dyn Runner>,
    pub(super) tokens: Vec<u32>,
    /// Positions whose K/V is in place; at most `tokens.len()`.
    pub(super) encoded: usize,
    pub(super) size: usize,
    pub(super) chunk: usize,
    pub(super) kv: KvType,
    pub(super) cancel: CancelToken,
    /// The pass that left the self-conditioning signal, and the one that left the hidden states; 0: none of a block's.
    pub(super) soft_of: u64,
    pub(super) hidden_of: u64,
    pub(super) perf: ContextPerf,
}

impl Context {
    pub(super) fn new(model: Model, params: &ContextParams) -> Result<Self> {
        let sizes = params.sizes(model.config(), model.default_kv())?;
        let SessionSizes { context: size, chunk, kv } = sizes;
        let runner = model.runner(sizes)?;
        Ok(Context {
            model,
            runner,
            tokens: Vec::new(),
            encoded: 0,
            size,
            chunk,
            kv,
            cancel: CancelToken::default(),
            soft_of: 0,
            hidden_of: 0,
            perf: ContextPerf::default(),
        })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The committed tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions that the context holds at most.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Prompt rows encoded per pass.
    pub fn chunk(&self) -> usize {
        self.chunk
    }

    /// Positions already encoded.
    pub fn encoded(&self) -> usize {
        self.encoded
    }

    /// Totals of what this context did.
    pub fn perf(&self) -> ContextPerf {
        ContextPerf { phases: self.runner.phases(), ..self.perf }
    }

    /// Counts processor time beside wall time in [`ContextPerf::phases`] from now on: steadier than wall time on a machine
    /// that is shared. Costs two system calls a phase.
    pub fn measure_cpu_time(&mut self) {
        self.runner.measure_cpu_time();
    }

    /// On a GPU, whether the phases in [`ContextPerf::phases`] are to wait for their work from now on: they say where the time
    /// goes only then, and the experts that were touched are counted only then. Passes take longer, since the host waits at
    /// every phase. Changes nothing on the CPU.
    pub fn wait_for_phases(&mut self, on: bool) {
        self.runner.wait_for_phases(on);
    }

    /// Makes `tokens` the timeline and puts random numbers in place of their keys and values, which costs no pass: for
    /// measurements with long prefixes. What is generated behind them means nothing.
    pub fn pretend_encoded(&mut self, tokens: &[u32]) -> Result<()> {
        self.truncate(0);
        self.append(tokens)?;
        self.runner.fill(tokens.len())?;
        self.encoded = tokens.len();
        Ok(())
    }

    /// Forgets everything, a pending cancel and the totals included; a fresh context in the memory of the old one.
    pub fn reset(&mut self) {
        self.truncate(0);
        self.cancel.clear();
        (self.soft_of, self.hidden_of) = (0, 0);
        self.perf = ContextPerf::default();
        self.runner.reset_phases();
    }

    /// The stop button of this context's calls.
    pub fn cancel_token(&self) -> CancelToken {
        self.cancel.clone()
    }

    /// Adds tokens at the end.
    pub fn append(&mut self, tokens: &[u32]) -> Result<()> {
        let vocab = self.model.config().vocab;
        if let Some(bad) = tokens.iter().find(|&&t| t as usize >= vocab) {
            return Err(Error::argument("tokens", format!("contain id {bad}, expected ids below {vocab}")));
        }
        let needed = self.tokens.len() + tokens.len();
        if needed > self.size {
            return Err(Error::ContextFull { needed, capacity: self.size });
        }
        self.tokens.extend_from_slice(tokens);
        Ok(())
    }

    /// Keeps the first `len` tokens.
    pub fn truncate(&mut self, len: usize) {
        self.tokens.truncate(len);
        if self.encoded > len {
            self.encoded = if self.runner.can_resume_at(len) { len } else { 0 };
        }
        if self.encoded == 0 {
            self.runner.reset();
        }
    }

    /// Makes `tokens` the timeline and keeps the K/V of the longest common prefix; how many positions that saved.
    pub fn set_tokens(&mut self, tokens: &[u32]) -> Result<usize> {
        let common = self.tokens.iter().zip(tokens).take_while(|(a, b)| a == b).count();
        let before = std::mem::take(&mut self.tokens);
        if let Err(e) = self.append(tokens) {
            self.tokens = before; // nothing is lost
            return Err(e);
        }
        self.tokens = before;
        self.truncate(common);
        self.append(&tokens[common..])?;
        Ok(self.encoded)
    }

    /// Encodes what is not encoded yet. `progress` hears (encoded, total) after each chunk. Stops with
    /// [`Error::Cancelled`] at a cancel; chunks done so far are kept.
    pub fn prefill(&mut self, progress: impl FnMut(usize, usize) -> ControlFlow<()>) -> Result<()> {
        self.prefill_up_to(self.tokens.len(), progress)
    }

    /// [`Context::prefill`] as long as fewer than `wanted` positions are encoded.
    pub(super) fn prefill_up_to(
        &mut self,
        wanted: usize,
        mut progress: impl FnMut(usize, usize) -> ControlFlow<()>,
    ) -> Result<()> {
        while self.encoded < wanted {
            let end = self.tokens.len().min(self.encoded + self.chunk);
            self.encode_to(end, None)?;
            if progress(end, self.tokens.len()).is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }

    /// Encodes positions `encoded..end`, one chunk.
    fn encode_to(&mut self, end: usize, hidden: Option<&mut [f32]>) -> Result<()> {
        let clock = Instant::now();
        self.hidden_of = 0;
        self.model.file().check_mapping()?;
        let (ids, flag) = (&self.tokens[self.encoded..end], self.cancel.flag());
        let result = self.runner.encode(ids, self.encoded, flag, hidden);
        self.passed(result)?;
        self.perf.prefill_tokens += (end - self.encoded) as u64;
        self.perf.prefill += clock.elapsed();
        self.encoded = end;
        Ok(())
    }

    /// Encodes `tokens` from scratch as the timeline and returns their hidden states after the final norm,
    /// `[tokens, hidden]`.
    pub fn encode_hidden(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.truncate(0);
        self.append(tokens)?;
        let hidden = self.model.config().hidden;
        let mut out = vec![0.0; tokens.len() * hidden];
        while self.encoded < tokens.len() {
            let end = tokens.len().min(self.encoded + self.chunk);
            let rows = &mut out[self.encoded * hidden..end * hidden];
            self.encode_to(end, Some(rows))?;
        }
        Ok(out)
    }

    /// Soft-capped logits `[canvas, vocab]` of one canvas pass behind the timeline; `conditioning`, `[canvas, vocab]`,
    /// are the previous step's logits, already divided by its temperature.
    pub fn canvas_logits(&mut self, canvas: &[u32], conditioning: Option<&[f32]>) -> Result<Vec<f32>> {
        let (vocab, length) = (self.model.config().vocab, self.model.config().canvas);
        if canvas.len() != length || canvas.iter().any(|&t| t as usize >= vocab) {
            return Err(Error::argument("canvas", format!("expected {length} ids below {vocab}")));
        }
        if conditioning.is_some_and(|c| c.len() != length * vocab) {
            return Err(Error::argument("conditioning", format!("expected {length} x {vocab} logits")));
        }
        self.room_for(length)?;
        self.prefill(|_, _| ControlFlow::Continue(()))?;
        self.model.file().check_mapping()?;
        self.hidden_of = 0;
        if let Some(logits) = conditioning {
            self.soft_of = 0;
            self.runner.condition_on(logits, canvas.len())?;
        }
        let mut out = vec![0.0; length * vocab];
        let (start, flag) = (self.tokens.len(), self.cancel.flag());
        let result = self.runner.logits(canvas, start, conditioning.is_some(), flag, &mut out);
        self.passed(result)?;
        Ok(out)
    }

    /// Layer `layer`'s K/V of the encoded positions.
    pub fn kv(&self, layer: usize) -> Result<KvRows> {
        let layers = self.model.config().layers.len();
        if layer >= layers {
            return Err(Error::argument("layer", format!("is {layer}, expected less than {layers}")));
        }
        self.runner.kv(layer, self.encoded)
    }

    /// What a pass's result is worth: nothing if weights were missing. A cancellation that ended it is used up.
    pub(super) fn passed<T>(&self, result: Result<T>) -> Result<T> {
        self.model.file().check_reads()?;
        self.cancel.used_up(result)
    }

    /// Whether a canvas of `length` positions fits behind the timeline.
    pub(super) fn room_for(&self, length: usize) -> Result<()> {
        let needed = self.tokens.len() + length;
        if needed > self.size { Err(Error::ContextFull { needed, capacity: self.size }) } else { Ok(()) }
    }

    /// Generates behind the timeline, which grows by the committed tokens. `on_event` hears of every chunk, step and
    /// commit, on the calling thread, and can stop the generation.
    pub fn generate(
        &mut self,
        params: &GenerateParams,
        on_event: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Generation> {
        let mut noise = self.noise(params.sampler.seed);
        self.generate_with_noise(params, &mut noise, on_event)
    }

    /// [`Context::generate`] with noise of the caller's, e.g. a recording.
    pub fn generate_with_noise(
        &mut self,
        params: &GenerateParams,
        noise: &mut dyn Noise,
        on_event: impl FnMut(Event) -> ControlFlow<()>,
    ) -> Result<Generation> {
        generate::generate(self, params, noise, on_event)
    }
}
