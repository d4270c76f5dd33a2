//! Named mixes: which format each kind of matrix gets. These are llama.cpp's names and rules, so that a file of ours has
//! the same types as one made by its quantizer; see `llama-quant.cpp` there. `types.rs` applies them to a whole model.
//!
//! The rules spend bits where errors cost most. Errors in V and in the down projections go straight into the residual
//! stream; the first and the last layers suffer more than those between; the embedding is the output head as well.

use dgemma::{Error, Result};

/// A mix.
#[derive(Debug)]
pub struct Mix {
    /// llama.cpp's name, e.g. `Q4_K_M`.
    pub name: &'static str,
    /// What `general.file_type` says.
    pub file_type: u32,
    /// The format of what no rule is about.
    pub base: &'static str,
    /// Stacks of several matrices, where they are not treated like single ones.
    stacks: Option<&'static str>,
    attn_v: Rule,
    /// `attn_v` if four or more query heads share a K/V head: it is small then, so that bits cost little.
    attn_v_shared: Option<&'static str>,
    attn_output: Rule,
    /// `attn_output` in models of eight experts.
    attn_output_of_8: Rule,
    /// The down projections of the dense part and of the experts.
    ffn_down: Rule,
    /// The same with an importance matrix, which makes some exceptions unnecessary and some useful.
    ffn_down_weighted: Rule,
}

/// Which of the tensors of one kind get something other than the base. They are counted from 0.
#[derive(Clone, Copy, Debug)]
enum Rule {
    Base,
    All(&'static str),
    /// So many, then others.
    First(usize, &'static str, &'static str),
    /// One of so many parts, then others.
    FirstPart(usize, &'static str, &'static str),
    /// Those that [`more_bits`] picks.
    MoreBits(&'static str),
}
use Rule::*;

impl Rule {
    /// For tensor `i` of `n`.
    fn format(self, base: &'static str, i: usize, n: usize) -> &'static str {
        match self {
            Base => base,
            All(format) => format,
            First(count, first, _) if i < count => first,
            FirstPart(parts, first, _) if i < n / parts => first,
            First(_, _, rest) | FirstPart(_, _, rest) => rest,
            MoreBits(format) if more_bits(i, n) => format,
            MoreBits(_) => base,
        }
    }
}

/// The first and the last eighth, and every third one between them.
fn more_bits(i: usize, n: usize) -> bool {
    i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2
}

/// The same format for everything but the embedding.
const fn plain(name: &'static str, file_type: u32, base: &'static str) -> Mix {
    Mix {
        name,
        file_type,
        base,
        stacks: None,
        attn_v: Base,
        attn_v_shared: None,
        attn_output: Base,
        attn_output_of_8: Base,
        ffn_down: Base,
        ffn_down_weighted: Base,
    }
}

/// The same with a rule for the down projections, whether or not there is an importance matrix.
const fn down(name: &'static str, file_type: u32, base: &'static str, ffn_down: Rule) -> Mix {
    Mix { ffn_down, ffn_down_weighted: ffn_down, ..plain(name, file_type, base) }
}

const OUT_OF_8: Rule = All("Q5_K");

/// All of them, from large to small.
pub static MIXES: [Mix; 21] = [
    plain("F32", 0, "F32"),
    plain("BF16", 32, "BF16"),
    plain("F16", 1, "F16"),
    plain("Q8_0", 7, "Q8_0"),
    plain("Q6_K", 18, "Q6_K"),
    Mix { attn_v: MoreBits("Q6_K"), ..down("Q5_K_M", 17, "Q5_K", MoreBits("Q6_K")) },
    plain("Q5_1", 9, "Q5_1"),
    plain("Q5_K_S", 16, "Q5_K"),
    Mix { ffn_down_weighted: FirstPart(8, "Q5_1", "Q5_0"), ..plain("Q5_0", 8, "Q5_0") },
    Mix { attn_v: MoreBits("Q6_K"), attn_output_of_8: OUT_OF_8, ..down("Q4_K_M", 15, "Q4_K", MoreBits("Q6_K")) },
    plain("Q4_1", 3, "Q4_1"),
    Mix {
        attn_v: First(4, "Q5_K", "Q4_K"),
        attn_output_of_8: OUT_OF_8,
        ..down("Q4_K_S", 14, "Q4_K", FirstPart(8, "Q5_K", "Q4_K"))
    },
    Mix { stacks: Some("MXFP4"), ..plain("MXFP4_MOE", 38, "Q8_0") },
    Mix {
        attn_v_shared: Some("Q5_K"),
        attn_output_of_8: OUT_OF_8,
        ffn_down: FirstPart(8, "Q5_K", "IQ4_NL"),
        ..plain("IQ4_NL", 25, "IQ4_NL")
    },
    Mix { ffn_down_weighted: FirstPart(8, "Q4_1", "Q4_0"), ..plain("Q4_0", 2, "Q4_0") },
    plain("NVFP4", 39, "NVFP4"),
    Mix {
        attn_v_shared: Some("Q5_K"),
        attn_output_of_8: OUT_OF_8,
        ffn_down: FirstPart(8, "Q5_K", "IQ4_XS"),
        ..plain("IQ4_XS", 30, "IQ4_XS")
    },
    Mix { attn_v: All("Q5_K"), attn_output: All("Q5_K"), ..down("Q3_K_L", 13, "Q3_K", All("Q5_K")) },
    Mix {
        attn_v: First(2, "Q5_K", "Q4_K"),
        attn_output: All("Q4_K"),
        attn_output_of_8: OUT_OF_8,
        ..down("Q3_K_M", 12, "Q3_K", FirstPart(16, "Q5_K", "Q4_K"))
    },
    Mix { attn_output_of_8: OUT_OF_8, ..plain("Q3_K_S", 11, "Q3_K") },
    Mix {
        attn_v: All("Q3_K"),
        attn_v_shared: Some("Q4_K"),
        attn_output: All("Q3_K"),
        attn_output_of_8: OUT_OF_8,
        ..down("Q2_K", 10, "Q2_K", All("Q3_K"))
    },
];

/// The mix called `name`, in either case.
pub fn by_name(name: &str) -> Result<&'static Mix> {
    let mix = MIXES.iter().find(|mix| mix.name.eq_ignore_ascii_case(name));
    mix.ok_or_else(|| Error::argument("type", format!("no mix is called {name}, expected one of {}", names())))
}

/// What checkpoints are stored in.
pub fn bf16() -> &'static Mix {
    &MIXES[1]
}

/// All names, for messages.
pub fn names() -> String {
    MIXES.iter().map(|mix| mix.name).collect::<Vec<_>>().join(", ")
}

/// What a matrix does, as far as mixes treat it specially.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// The output head, usually the embedding as well.
    Head,
    /// V of attention, the `.0`th of `.1` that there are.
    AttnV(usize, usize),
    /// K of attention.
    AttnK,
    /// Attention's output.
    AttnOutput,
    /// A down projection, or a stack of them, in layer `.0`.
    FfnDown(usize),
    /// Anything else.
    Other,
}

/// The numbers of a model that rules ask for.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Layers.
    pub layers: usize,
    /// Experts per layer.
    pub experts: usize,
    /// Query heads per K/V head in the first layer.
    pub heads_per_kv: usize,
}

impl Mix {
    /// The format of a matrix, whether or not its rows fit. `matrices` is how many of them are stacked; `weighted` says
    /// whether there is an importance matrix.
    pub fn format(&self, role: Role, matrices: usize, model: &Model, weighted: bool) -> &'static str {
        let base = self.base;
        let eight = model.experts == 8;
        match role {
            _ if self.is_float() => base,
            Role::Head if base == "Q8_0" => base,
            Role::Head => "Q6_K",
            _ if matrices > 1 && self.stacks.is_some() => self.stacks.unwrap_or(base),
            Role::AttnV(..) | Role::AttnK if eight => "Q8_0",
            Role::AttnV(i, n) => match self.attn_v_shared {
                Some(format) if model.heads_per_kv >= 4 => format,
                _ => self.attn_v.format(base, i, n),
            },
            Role::AttnOutput if eight => self.attn_output_of_8.format(base, 0, 1),
            Role::AttnOutput => self.attn_output.format(base, 0, 1),
            Role::FfnDown(layer) if weighted => self.ffn_down_weighted.format(base, layer, model.layers),
            Role::FfnDown(layer) => self.ffn_down.format(base, layer, model.layers),
            Role::AttnK | Role::Other => base,
        }
    }

    /// Whether it only says how numbers are rounded: such mixes have no exceptions.
    fn is_float(&self) -> bool {
        matches!(self.base, "F32" | "F16" | "BF16")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_either_case() {
        assert!(MIXES.iter().all(|mix| std::ptr::eq(by_name(&mix.name.to_lowercase()).unwrap(), mix)));
        assert_eq!((by_name("q4_K_m").unwrap().name, bf16().name), ("Q4_K_M", "BF16"));
        let error = by_name("Q4_K").unwrap_err().to_string();
        assert!(error.starts_with("argument `type`: no mix is called Q4_K, expected one of F32, BF16, "), "{error}");
    }

    /// Small V matrices get more, and models of eight experts have rules of their own, good or bad.
    #[test]
    fn heads_and_experts() {
        let format = |mix: &str, role, experts, heads_per_kv| {
            by_name(mix).unwrap().format(role, 1, &Model { layers: 8, experts, heads_per_kv }, false)
        };
        let v = Role::AttnV(3, 8);
        assert_eq!((format("Q2_K", v, 128, 2), format("Q2_K", v, 128, 4)), ("Q3_K", "Q4_K"));
        assert_eq!((format("IQ4_XS", v, 128, 3), format("IQ4_XS", v, 128, 8)), ("IQ4_XS", "Q5_K"));
        assert_eq!((format("Q4_0", v, 8, 2), format("Q4_0", Role::AttnK, 8, 2)), ("Q8_0", "Q8_0"));
        let out = Role::AttnOutput;
        assert_eq!((format("Q4_K_M", out, 8, 2), format("Q4_K_M", out, 9, 2)), ("Q5_K", "Q4_K"));
        assert_eq!((format("Q3_K_L", out, 8, 2), format("Q3_K_L", out, 9, 2)), ("Q3_K", "Q5_K"));
        assert_eq!((format("BF16", v, 8, 8), format("BF16", Role::Head, 8, 8)), ("BF16", "BF16"));
    }

    /// Only stacks are MXFP4 there; a stack of one is a matrix.
    #[test]
    fn stacks() {
        let model = Model { layers: 8, experts: 4, heads_per_kv: 2 };
        let format = |role, matrices| by_name("mxfp4_moe").unwrap().format(role, matrices, &model, false);
        assert_eq!(
            (format(Role::FfnDown(0), 4), format(Role::FfnDown(0), 1), format(Role::Other, 4)),
            ("MXFP4", "Q8_0", "MXFP4")
        );
    }

    /// The lists for the 30 layers and the 25 V matrices of the 26B model, and llama.cpp's choice for small models.
    #[test]
    fn more_bits_at_both_ends_and_every_third_between() {
        let picked = |n| (0..n).filter(|&i| more_bits(i, n)).collect::<Vec<_>>();
        assert_eq!(picked(30), [0, 1, 2, 5, 8, 11, 14, 17, 20, 23, 26, 27, 28, 29]);
        assert_eq!(picked(25), [0, 1, 2, 5, 8, 11, 14, 17, 20, 21, 22, 23, 24]);
        assert_eq!((picked(1), picked(2), picked(3)), (vec![0], vec![1], vec![2]));
        assert_eq!(picked(6), [2, 5]);
        assert_eq!(picked(16), [0, 1, 4, 7, 10, 13, 14, 15]);
    }
}
