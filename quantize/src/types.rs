//! The type of every tensor of a file: what the mix says, what the user says instead, and what fits.
//!
//! For each matrix, the first of these that says something decides: `token_embedding` (for that tensor), the overrides in
//! the order given, the mix. Rows that are no whole number of blocks then take the next larger format that fits. Vectors,
//! norms, scales and the router are F32 always.

use crate::config::Config;
use crate::mix::{self, Mix, Model, Role};
use crate::overrides::Override;
use dgemma::quant::{self, Format};
use dgemma::{Error, Result};

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Types {
    /// The mix.
    pub mix: &'static Mix,
    /// Exceptions; of several that match, the first one counts.
    pub overrides: Vec<Override>,
    /// For the embedding, which is the output head as well.
    pub token_embedding: Option<&'static Format>,
    /// Whether there is an importance matrix: some rules differ.
    pub weighted: bool,
}

/// A tensor by name and shape, in ggml order: `shape[0]` is the row length.
pub type Named<'a> = (&'a str, &'a [usize]);

/// What one tensor becomes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chosen {
    /// This.
    pub format: &'static Format,
    /// What it would be if its rows did fit; otherwise the same.
    pub wanted: &'static Format,
}

impl Types {
    /// Everything from one mix.
    pub fn of(mix: &'static Mix) -> Types {
        Types { mix, overrides: Vec::new(), token_embedding: None, weighted: false }
    }

    /// The types of all tensors of a file, in their order. `tensors` must be all: some rules count.
    pub fn choose(&self, tensors: &[Named], model: &Model) -> Result<Vec<Chosen>> {
        for pattern in &self.overrides {
            pattern.check(tensors)?;
        }
        let roles = roles(tensors);
        let f32 = format("F32")?;
        let choose = |(&(name, shape), role): (&Named, Role)| {
            if !is_matrix(name, shape) {
                return Ok(Chosen { format: f32, wanted: f32 });
            }
            let wanted = match self.asked(name) {
                Some(format) => format,
                None => format(self.mix.format(role, shape.get(2).copied().unwrap_or(1), model, self.weighted))?,
            };
            Ok(Chosen { format: fitting(wanted, shape[0])?, wanted })
        };
        tensors.iter().zip(roles).map(choose).collect()
    }

    /// What the user wants `name` to be, if anything in particular.
    fn asked(&self, name: &str) -> Option<&'static Format> {
        let embedding = self.token_embedding.filter(|_| name == EMBEDDING);
        embedding.or_else(|| self.overrides.iter().find(|o| o.matches(name)).map(|o| o.format))
    }
}

impl Default for Types {
    /// BF16, as checkpoints are.
    fn default() -> Types {
        Types::of(mix::bf16())
    }
}

impl From<&Config> for Model {
    fn from(config: &Config) -> Model {
        let heads_per_kv = config.kv_heads.first().map_or(1, |kv| config.heads / kv);
        Model { layers: config.layers(), experts: config.experts as usize, heads_per_kv: heads_per_kv as usize }
    }
}

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";

/// Whether a tensor takes part in mixes at all. `shape` may be in either order.
pub fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() >= 2
        && name.ends_with("weight")
        && !name.contains("_norm.weight")
        && !name.contains("ffn_gate_inp.weight")
}

/// What the tensors do. V matrices are counted, because not every layer has one.
fn roles(tensors: &[Named]) -> Vec<Role> {
    let is_v = |name: &str| name.contains("attn_v.weight");
    let tied = tensors.iter().all(|(name, _)| *name != HEAD);
    let all_v = tensors.iter().filter(|(name, _)| is_v(name)).count();
    let mut v = 0;
    let role = |&(name, _): &Named| match name {
        HEAD => Role::Head,
        EMBEDDING if tied => Role::Head,
        _ if is_v(name) => {
            v += 1;
            Role::AttnV(v - 1, all_v)
        }
        _ if name.contains("attn_k.weight") => Role::AttnK,
        _ if name.contains("attn_output.weight") => Role::AttnOutput,
        _ => layer(name).filter(|_| name.contains("ffn_down")).map_or(Role::Other, Role::FfnDown),
    };
    tensors.iter().map(role).collect()
}

/// N of `blk.N.`.
fn layer(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// `wanted`, or what takes its place when rows of `row` elements are no whole number of its blocks.
fn fitting(wanted: &'static Format, row: usize) -> Result<&'static Format> {
    let fits = |format: &&'static Format| format.row_bytes(row).is_some();
    let smaller_block = match wanted.name {
        "Q2_K" | "Q3_K" => "Q4_0",
        "Q4_K" => "Q5_0",
        "Q5_K" => "Q5_1",
        "Q6_K" => "Q8_0",
        "IQ4_XS" => "IQ4_NL",
        // llama.cpp has no rule for this one: the other format with the same codes.
        "NVFP4" => "MXFP4",
        _ => "F16",
    };
    for candidate in [wanted, format(smaller_block)?] {
        if fits(&candidate) {
            return Ok(candidate);
        }
    }
    format("F16")
}

/// The library's format of that name.
fn format(name: &str) -> Result<&'static Format> {
    quant::by_name(name).ok_or_else(|| Error::Internal(format!("no format {name}")))
}
