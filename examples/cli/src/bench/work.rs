//! How many operations and bytes a pass takes, phase by phase, from shapes and the file's tensor table; only how many
//! experts were touched, and how many tokens the soft embedding was made of, is taken from the run.
//!
//! A multiplication and an addition count as one each. Bytes are those of weights and of cached keys and values, each read
//! once; activations stay in the caches. Norms and other things of the size of the activations are not counted.

use dgemma::engine::{Model, Phase, Phases};
use dgemma::gguf::Gguf;
use dgemma::model::LayerShape;
use dgemma::quant::Format;

/// What a phase takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Operations.
    pub flop: f64,
    /// Bytes read from memory.
    pub bytes: f64,
}

/// Rows of one kind at positions `start..start + rows`.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Rows.
    pub rows: usize,
    /// Position of the first.
    pub start: usize,
    /// Bytes of a cached number.
    pub kv_bytes: usize,
    /// What they are.
    pub kind: Kind,
}

/// Prompt or canvas rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Causal, without a head.
    Prompt,
    /// All to all, with a head.
    Canvas {
        /// Whether the self-conditioning network ran.
        conditioned: bool,
    },
}

/// What `phase` of `pass` takes; `found` is what the run counted.
pub fn of(model: &Model, pass: &Pass, phase: Phase, found: &Phases) -> Work {
    let (c, file, rows) = (model.config(), model.file(), pass.rows as f64);
    let canvas = pass.kind != Kind::Prompt;
    let product = |names: &[&str], layer: Option<usize>| matrices(file, names, layer, rows);
    // Prompt rows leave the last layer once their keys and values are there.
    let last = if canvas { c.layers.len() } else { c.layers.len() - 1 };
    let layers = |f: &dyn Fn(usize, &LayerShape) -> Work| {
        c.layers[..last].iter().enumerate().map(|(i, l)| f(i, l)).fold(Work::default(), add)
    };
    match phase {
        Phase::Projections => {
            let all = layers(&|i, _| product(&["attn_q", "attn_k", "attn_v", "attn_output"], Some(i)));
            if canvas { all } else { add(all, product(&["attn_k", "attn_v"], Some(last))) }
        }
        Phase::Attention => layers(&|_, shape| attention(c.heads, pass, shape)),
        Phase::Dense => {
            let all = layers(&|i, _| product(&["ffn_gate", "ffn_up", "ffn_down"], Some(i)));
            match pass.kind {
                Kind::Canvas { conditioned: true } => {
                    add(all, product(&["self_cond_gate", "self_cond_up", "self_cond_down"], None))
                }
                _ => all,
            }
        }
        Phase::Router => layers(&|i, _| product(&["ffn_gate_inp"], Some(i))),
        Phase::Experts => {
            let names = ["ffn_gate_up_exps", "ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];
            let all = layers(&|i, _| product(&names, Some(i)));
            // Every row passes top_k of the experts; of those that no row was sent to, nothing is read.
            let touched = found.experts_touched as f64 / found.layers.max(1) as f64;
            let experts = c.experts as f64;
            Work { flop: all.flop / experts * c.top_k as f64, bytes: all.bytes / experts * touched }
        }
        Phase::Head if canvas => {
            let own = file.tensor("output.weight").is_some();
            product(&[if own { "output" } else { "token_embd" }], None)
        }
        Phase::SoftEmbedding if canvas => {
            let table = product(&["token_embd"], None);
            let row = table.bytes / c.vocab as f64;
            let terms = found.soft_terms as f64;
            Work { flop: 2.0 * terms * c.hidden as f64, bytes: (terms * row).min(table.bytes) }
        }
        _ => Work::default(),
    }
}

/// The soft embedding if nothing is left out of it.
pub fn dense_soft_embedding(model: &Model, rows: usize) -> f64 {
    2.0 * rows as f64 * model.config().vocab as f64 * model.config().hidden as f64
}

/// The format of the tensor that most of a phase's work is done with.
pub fn format(file: &Gguf, phase: Phase) -> Option<&'static Format> {
    let name = match phase {
        Phase::Projections => "blk.0.attn_q.weight",
        Phase::Dense => "blk.0.ffn_gate.weight",
        Phase::Router => "blk.0.ffn_gate_inp.weight",
        Phase::Experts if file.tensor("blk.0.ffn_gate_up_exps.weight").is_some() => "blk.0.ffn_gate_up_exps.weight",
        Phase::Experts => "blk.0.ffn_gate_exps.weight",
        Phase::Head if file.tensor("output.weight").is_some() => "output.weight",
        Phase::Head | Phase::SoftEmbedding => "token_embd.weight",
        Phase::Attention | Phase::Other => return None,
    };
    file.tensor(name).map(|t| t.format)
}

pub fn add(a: Work, b: Work) -> Work {
    Work { flop: a.flop + b.flop, bytes: a.bytes + b.bytes }
}

/// Products of `rows` rows with those of the matrices that the file has.
fn matrices(file: &Gguf, names: &[&str], layer: Option<usize>, rows: f64) -> Work {
    let full = |name: &&str| layer.map_or(format!("{name}.weight"), |i| format!("blk.{i}.{name}.weight"));
    let tensors = names.iter().filter_map(|name| file.tensor(&full(name)));
    tensors.fold(Work::default(), |sum, t| {
        add(sum, Work { flop: 2.0 * rows * t.shape.iter().product::<usize>() as f64, bytes: t.data.len() as f64 })
    })
}

fn attention(heads: usize, pass: &Pass, shape: &LayerShape) -> Work {
    let (rows, start, window) = (pass.rows, pass.start, shape.window.unwrap_or(usize::MAX));
    let cached = start.min(window.saturating_sub(1));
    let pairs = match pass.kind {
        Kind::Canvas { .. } => rows * (cached + rows),
        Kind::Prompt => (start..start + rows).map(|q| (q + 1).min(window)).sum(),
    };
    Work {
        flop: 4.0 * (pairs * heads * shape.head_dim) as f64, // scores and weighted values
        bytes: (2 * cached * shape.kv_heads * shape.head_dim * pass.kv_bytes) as f64,
    }
}
