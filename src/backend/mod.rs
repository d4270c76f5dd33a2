//! What a device can do: the operations of the forward pass, and nothing about the model.
//!
//! The forward pass (`model/forward.rs`) is written once against [`Backend`]. [`mod@reference`] is slow and obvious, one
//! operation per file: the oracle. [`cpu`] is fast, `cuda` (a feature) runs on NVIDIA GPUs. They do not know each other; tests
//! compare them. [`recording`] is [`cpu`] with statistics of what goes into each weight.
//!
//! Conventions: activations are f32, row-major, `[rows, width]` in the comments; `rows` counts tokens. Buffers may be
//! longer than an operation needs; only the stated part is read or written. Operations check nothing but what memory
//! safety asks for: shapes were checked when the weights were bound to the configuration. An operation returns an error
//! only if its device fails.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;
pub mod fused;
pub mod host_kv;
pub mod host_weight;
pub mod recording;
pub mod reference;
mod sampling;

pub use sampling::{
    CanvasStart, Decision, DeviceSampler, HostSampling, Replays, StepInput, StepKey, StepNoise, no_sampler,
};

use crate::error::Result;
use crate::gguf::Tensor;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// Which cached prompt positions and which rows of the same pass a row may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    /// Prompt rows: position q sees k <= q and, with a window w, only k > q - w.
    Causal,
    /// Canvas rows: every row sees all canvas rows and, with a window w, the last w - 1 prompt positions, the same for
    /// each row.
    Canvas,
}

/// One attention call: `rows` fresh positions `start..start + rows` against the cache of `0..start` and each other.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape {
    /// Where the fresh rows begin in q, k, v and out: rows before belong to others.
    pub first_row: usize,
    /// Fresh rows.
    pub rows: usize,
    /// Position of the first fresh row = number of positions encoded before.
    pub start: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; query head h uses K/V head `h / (heads / kv_heads)`.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Positions a sliding layer looks back, itself included; `None` on full layers.
    pub window: Option<usize>,
    /// Who sees whom.
    pub mask: Mask,
}

impl AttentionShape {
    /// Where the first fresh row begins in q and out.
    pub fn query_start(&self) -> usize {
        self.first_row * self.heads * self.head_dim
    }

    /// Where the first fresh row begins in k and v.
    pub fn key_start(&self) -> usize {
        self.first_row * self.kv_heads * self.head_dim
    }

    /// The first cached position that any fresh row sees; the cache must hold `first_visible()..start`.
    pub fn first_visible(&self) -> usize {
        self.window.map_or(0, |w| (self.start + 1).saturating_sub(w))
    }

    /// The positions that fresh row `row` sees, as `first..end` over cached and fresh positions alike.
    pub fn visible(&self, row: usize) -> (usize, usize) {
        match self.mask {
            Mask::Canvas => (self.first_visible(), self.start + self.rows),
            Mask::Causal => {
                let q = self.start + row;
                (self.window.map_or(0, |w| (q + 1).saturating_sub(w)), q + 1)
            }
        }
    }
}

/// The number type of cached keys and values. Rows are rounded to it before anything sees them, so that a result does not
/// depend on where chunks were cut. Measured (`tests/keeping.rs`): logits of a small random model move by 0.004 (f16) and
/// 0.045 (bf16) at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvType {
    /// Exact.
    F32,
    /// Half the memory, relative error up to 2^-11.
    F16,
    /// Half the memory, relative error up to 2^-8.
    Bf16,
}

impl KvType {
    /// Bytes of a number.
    pub fn bytes(self) -> usize {
        if self == KvType::F32 { 4 } else { 2 }
    }

    /// Its name: f32, f16, bf16.
    pub fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::Bf16 => "bf16",
        }
    }
}

/// One layer's cached keys and values: position p lies in slot `p % capacity`.
#[derive(Debug)]
pub struct KvLayer<T> {
    /// `[kv_heads, capacity, head_dim]`, rotated.
    pub k: T,
    /// `[kv_heads, capacity, head_dim]`, normed.
    pub v: T,
    /// Slots.
    pub capacity: usize,
    /// Heads.
    pub kv_heads: usize,
    /// Elements per head.
    pub head_dim: usize,
    /// Type of `k` and `v`.
    pub kind: KvType,
}

/// The weights of one layer's experts. `gate` and `up` may be the same tensor with different first rows.
pub struct ExpertWeights<'a, W> {
    /// Stack `[experts, rows, hidden]` and the row where the gate starts.
    pub gate: (&'a W, usize),
    /// Stack `[experts, rows, hidden]` and the row where the up projection starts.
    pub up: (&'a W, usize),
    /// Stack `[experts, hidden, ffn]`.
    pub down: &'a W,
    /// Experts.
    pub experts: usize,
    /// Width of an expert's intermediate activation.
    pub ffn: usize,
    /// Width of the hidden state.
    pub hidden: usize,
}

impl<W> Clone for ExpertWeights<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for ExpertWeights<'_, W> {}

/// The matrices of the output head, `[vocab, hidden]` each.
#[derive(Debug)]
pub struct HeadWeights<'a, W> {
    /// Makes logits of hidden states.
    pub table: &'a W,
    /// Makes the soft embedding of probabilities: the input embedding. Usually the same matrix (a tied head).
    pub embedding: &'a W,
}

impl<W> Clone for HeadWeights<'_, W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for HeadWeights<'_, W> {}

/// How the head turns hidden states into token statistics.
#[derive(Clone, Copy, Debug)]
pub struct HeadParams<'a> {
    /// Logits are divided by this (> 0) after the soft cap and the bias.
    pub temperature: f32,
    /// `cap * tanh(logit / cap)`, or none.
    pub softcap: Option<f32>,
    /// (token, bias), sorted by token, each once: added to the soft-capped logit before the temperature. Negative infinity:
    /// the token has probability zero. One token at least stays possible.
    pub bias: &'a [(u32, f32)],
    /// One number in (0, 1) per row: the sampled token is the first whose cumulative probability exceeds it.
    pub uniforms: &'a [f32],
    /// One token per row that is likely to have most of the probability, or none. No result depends on it beyond what
    /// soft embeddings leave out; a backend may know earlier what it can leave out.
    pub likely: &'a [u32],
    /// The soft embedding is multiplied by this.
    pub soft_scale: f32,
    /// Looked at now and then, since the head of a large vocabulary takes as long as many layers; set, the operation
    /// ends with [`Error::Cancelled`](crate::Error::Cancelled).
    pub cancel: &'a AtomicBool,
}

/// What the head says about each row.
#[derive(Clone, Debug, Default)]
pub struct HeadStats {
    /// Most probable token; the smallest id on a tie.
    pub argmax: Vec<u32>,
    /// The drawn token.
    pub sampled: Vec<u32>,
    /// Entropy of the tempered distribution, in nats.
    pub entropy: Vec<f32>,
    /// Natural logarithm of the most probable token's probability under the tempered distribution.
    pub log_prob: Vec<f32>,
    /// Time spent on the soft embedding; zero if the backend cannot tell it from the rest.
    pub soft_time: Duration,
    /// (row, token) pairs of which the soft embedding was made; all of them, unless small probabilities were left out. Zero if
    /// the backend does not count them.
    pub soft_terms: u64,
}

/// How the rows of a layer fell on its experts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpertLoad {
    /// Experts with at least one row: their weights are read.
    pub touched: usize,
    /// Rows of the expert with most of them.
    pub largest: usize,
}

/// The operations of the forward pass. Thread rule: operations of one pass come from one thread at a time; a backend
/// may be shared by passes on several threads.
pub trait Backend: Send + Sync + Sized + 'static {
    /// A matrix, or a stack of matrices, in the format of the file.
    type Weight: Send + Sync;
    /// f32 activations.
    type Buffer: Send + Sync;
    /// Cached keys or values.
    type Kv: Send + Sync;
    /// Chosen experts and their scratch memory for a number of rows.
    type Routes: Send;
    /// The sampler on the device; [`HostSampling`] where there is none.
    type Sampler: DeviceSampler<Self>;

    /// Whether [`Backend::attention`] minds [`AttentionShape::first_row`]. Prompt and canvas rows can then share a pass;
    /// where not, it is always 0.
    const SHARES_PASSES: bool = false;
    /// Whether operations are only asked for when they return, and done in order later; [`Backend::read`] waits for them.
    const DEFERRED: bool = false;

    /// Short name, for messages.
    fn name(&self) -> &'static str;
    /// Runs `f` where this backend's operations are cheapest to call (a CPU backend's pool).
    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R;

    /// Waits until everything asked for so far is done.
    fn synchronize(&self) -> Result<()> {
        Ok(())
    }

    /// Takes over a tensor, in the file's format.
    fn weight(&self, tensor: Tensor) -> Result<Self::Weight>;
    /// A zeroed buffer of `len` elements; `what` names it in an out-of-memory error.
    fn buffer(&self, len: usize, what: &'static str) -> Result<Self::Buffer>;
    /// Routing memory for up to `rows` rows of `top_k` experts each.
    fn routes(&self, rows: usize, top_k: usize, ffn: usize, hidden: usize) -> Result<Self::Routes>;
    /// Copies host values into `dst[at..]`.
    fn write(&self, src: &[f32], dst: &mut Self::Buffer, at: usize) -> Result<()>;
    /// Copies `src[at..]` to the host.
    fn read(&self, src: &Self::Buffer, at: usize, dst: &mut [f32]) -> Result<()>;

    /// `dst[at..at + len] = src[from..from + len]`.
    fn copy(&self, src: &Self::Buffer, from: usize, len: usize, dst: &mut Self::Buffer, at: usize) -> Result<()> {
        let mut host = vec![0.0; len];
        self.read(src, from, &mut host)?;
        self.write(&host, dst, at)
    }

    /// `len` cached zeros of type `kind`.
    fn kv_buffer(&self, kind: KvType, len: usize, what: &'static str) -> Result<Self::Kv>;
    /// The first `len` elements of x as they would come back from a cache of type `kind`.
    fn kv_round(&self, kind: KvType, x: &mut Self::Buffer, len: usize) -> Result<()>;
    /// Copies elements `at..` to the host as f32.
    fn kv_read(&self, src: &Self::Kv, at: usize, dst: &mut [f32]) -> Result<()>;
    /// Copies elements `at..` to the host as stored: little-endian numbers of the cache's type.
    fn kv_copy_out(&self, src: &Self::Kv, at: usize, dst: &mut [u8]) -> Result<()>;
    /// The way back.
    fn kv_copy_in(&self, src: &[u8], dst: &mut Self::Kv, at: usize) -> Result<()>;

    /// `out[t] = table[ids[t]] * scale`; table `[vocab, hidden]`, out `[rows, hidden]`. Ids are in range.
    fn embed(&self, table: &Self::Weight, ids: &[u32], scale: f32, out: &mut Self::Buffer) -> Result<()>;
    /// `out = x * rsqrt(mean(x^2) + eps) * weight` for each of `rows` rows of `dim`; no weight means ones.
    fn rms_norm(
        &self,
        x: &Self::Buffer,
        weight: Option<&Self::Buffer>,
        rows: usize,
        dim: usize,
        eps: f32,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// [`Backend::rms_norm`] with `out = x`.
    fn rms_norm_in_place(
        &self,
        x: &mut Self::Buffer,
        weight: Option<&Self::Buffer>,
        rows: usize,
        dim: usize,
        eps: f32,
    ) -> Result<()>;
    /// `acc += rms_norm(x, weight)`: a sub-layer's output joins the residual stream.
    fn rms_norm_add(
        &self,
        x: &Self::Buffer,
        weight: &Self::Buffer,
        rows: usize,
        dim: usize,
        eps: f32,
        acc: &mut Self::Buffer,
    ) -> Result<()>;
    /// `out = x * weight^T`: weight `[n, k]`, x `[rows, k]`, out `[rows, n]`.
    fn matmul(&self, weight: &Self::Weight, x: &Self::Buffer, rows: usize, out: &mut Self::Buffer) -> Result<()>;
    /// Rotates the pairs (i, i + dim/2) of each head by `(start + t) * inv_freq[i]`; x `[rows, heads, dim]`, inv_freq
    /// `[dim/2]`.
    fn rope(
        &self,
        x: &mut Self::Buffer,
        inv_freq: &Self::Buffer,
        rows: usize,
        heads: usize,
        dim: usize,
        start: usize,
    ) -> Result<()>;
    /// `out = softmax(q k^T) v` with scale 1 under `shape`'s mask; q and out `[rows, heads, dim]`, k and v
    /// `[rows, kv_heads, dim]`, all of them from row `shape.first_row` on.
    fn attention(
        &self,
        q: &Self::Buffer,
        k: &Self::Buffer,
        v: &Self::Buffer,
        cache: &KvLayer<Self::Kv>,
        shape: &AttentionShape,
        out: &mut Self::Buffer,
    ) -> Result<()>;
    /// Stores k and v `[rows, kv_heads, dim]` of positions `start..start + rows`; when there are more rows than slots,
    /// the last ones stay.
    fn kv_append(
        &self,
        k: &Self::Buffer,
        v: &Self::Buffer,
        rows: usize,
        start: usize,
        cache: &mut KvLayer<Self::Kv>,
    ) -> Result<()>;
    /// `gate = gelu_tanh(gate) * up` for `len` elements.
    fn gelu_mul(&self, gate: &mut Self::Buffer, up: &Self::Buffer, len: usize) -> Result<()>;
    /// `acc += x` for `len` elements.
    fn add(&self, x: &Self::Buffer, len: usize, acc: &mut Self::Buffer) -> Result<()>;
    /// `x *= factor` for `len` elements.
    fn scale(&self, x: &mut Self::Buffer, factor: f32, len: usize) -> Result<()>;
    /// `normed = rms_norm(x)`, then its product with each weight. Whether `normed` is written is the backend's choice: it is
    /// undefined afterwards.
    fn rms_norm_matmuls(
        &self,
        norm: fused::Norm<Self>,
        normed: &mut Self::Buffer,
        products: &mut [fused::Product<Self>],
    ) -> Result<()> {
        fused::rms_norm_matmuls(self, norm, normed, products)
    }
    /// `gate = gelu_tanh(gate) * up` `[rows, dim]`, then its product with the weight. Whether `gate` is written is the backend's
    /// choice: it is undefined afterwards.
    fn gelu_mul_matmul(
        &self,
        gate_and_up: (&mut Self::Buffer, &Self::Buffer),
        weight: &Self::Weight,
        rows: usize,
        dim: usize,
        out: &mut Self::Buffer,
    ) -> Result<()> {
        fused::gelu_mul_matmul(self, gate_and_up, weight, rows, dim, out)
    }
    /// Norms of q, k and v per head, rotation of q and k, rounding of k and v; q `[rows, heads, head_dim]`, k and v
    /// `[rows, kv_heads, head_dim]`, in place.
    fn norm_heads(
        &self,
        heads: &fused::Heads<Self>,
        q: &mut Self::Buffer,
        k: &mut Self::Buffer,
        v: &mut Self::Buffer,
    ) -> Result<()> {
        fused::norm_heads(self, heads, q, k, v)
    }
    /// `acc = (acc + rms_norm(x, weight)) * factor`: (x, weight, width of a row, eps), and (rows, factor) of the first and of
    /// the other rows. x is undefined afterwards.
    fn rms_norm_add_scaled(
        &self,
        norm: (&mut Self::Buffer, &Self::Buffer, usize, f32),
        first: (usize, f32),
        rest: (usize, f32),
        acc: &mut Self::Buffer,
    ) -> Result<()> {
        fused::rms_norm_add_scaled(self, norm, first, rest, acc)
    }
    /// For each row: softmax over `experts` logits, the `top_k` largest (the smaller id on a tie), their probabilities
    /// divided by their sum and multiplied by `expert_scale[expert]`. logits `[rows, experts]`.
    fn route(
        &self,
        logits: &Self::Buffer,
        expert_scale: &Self::Buffer,
        rows: usize,
        experts: usize,
        top_k: usize,
        routes: &mut Self::Routes,
    ) -> Result<()>;
    /// How the last [`Backend::route`] spread its rows; zeros if the backend does not count them. Waits for it where
    /// operations are [`DEFERRED`](Backend::DEFERRED).
    fn expert_load(&self, routes: &Self::Routes) -> ExpertLoad {
        let _ = routes;
        ExpertLoad::default()
    }
    /// `out[t] = sum over t's routes of weight * down(gelu_tanh(gate x) * (up x))`; x and out `[rows, hidden]`.
    fn experts(
        &self,
        weights: ExpertWeights<Self::Weight>,
        x: &Self::Buffer,
        rows: usize,
        routes: &mut Self::Routes,
        out: &mut Self::Buffer,
    ) -> Result<()>;

    /// `normed = rms_norm(x)`, then [`Backend::experts`] of it; `normed` as in [`Backend::rms_norm_matmuls`].
    fn rms_norm_experts(
        &self,
        norm: fused::Norm<Self>,
        normed: &mut Self::Buffer,
        weights: ExpertWeights<Self::Weight>,
        routes: &mut Self::Routes,
        out: &mut Self::Buffer,
    ) -> Result<()> {
        fused::rms_norm_experts(self, norm, normed, weights, routes, out)
    }

    /// Soft-capped logits of `rows` rows, to the host: x `[rows, hidden]`, table `[vocab, hidden]`, out `[rows, vocab]`.
    fn logits(
        &self,
        table: &Self::Weight,
        x: &Self::Buffer,
        rows: usize,
        softcap: Option<f32>,
        out: &mut [f32],
    ) -> Result<()>;
    /// Token statistics and the soft embedding `soft = softmax(logits / T) * embedding * soft_scale` of `rows` rows,
    /// without ever holding `[rows, vocab]`.
    fn head(
        &self,
        weights: HeadWeights<Self::Weight>,
        x: &Self::Buffer,
        rows: usize,
        params: &HeadParams,
        soft: &mut Self::Buffer,
        stats: &mut HeadStats,
    ) -> Result<()>;
    /// Log-probabilities of chosen tokens at temperature 1, without ever holding `[rows, vocab]`: `out[i]` is that of
    /// `wanted[i]` = (row, token). x `[rows, hidden]`, table `[vocab, hidden]`. `cancel` as in [`HeadParams`].
    #[allow(clippy::too_many_arguments)]
    fn log_probs(
        &self,
        table: &Self::Weight,
        x: &Self::Buffer,
        rows: usize,
        softcap: Option<f32>,
        wanted: &[(usize, u32)],
        cancel: &AtomicBool,
        out: &mut [f32],
    ) -> Result<()>;
    /// `out = softmax(logits) * embedding * scale`; logits `[rows, vocab]` from the host, out `[rows, hidden]`.
    fn soft_embedding(
        &self,
        embedding: &Self::Weight,
        logits: &[f32],
        rows: usize,
        scale: f32,
        out: &mut Self::Buffer,
    ) -> Result<()>;
}
