//! The part of `config.json` that is about the two kinds of layers.
//!
//! The head size and the number of K/V heads of full-attention layers come in two forms. Published configurations have
//! the fields `global_head_dim` and `num_global_key_value_heads`; what newer versions of `transformers` save has a map
//! `per_layer_config` from layer number to what differs there. Both are read; if both are there, they must agree.

use crate::json::Node;
use dgemma::Result;

/// Which layers are sliding-window ones.
pub fn types(text: &Node) -> Result<Vec<bool>> {
    let types = text.need("layer_types")?;
    let layers = text.need("num_hidden_layers")?;
    let is_sliding = |node: &Node| match node.str()? {
        "sliding_attention" => Ok(true),
        "full_attention" => Ok(false),
        _ => Err(node.error("is neither sliding_attention nor full_attention")),
    };
    let sliding = types.list()?.iter().map(is_sliding).collect::<Result<Vec<bool>>>()?;
    if sliding.len() != layers.positive()? as usize {
        return Err(types.error(format!("has {} entries, but num_hidden_layers is {}", sliding.len(), layers.u32()?)));
    }
    if sliding.last() != Some(&false) {
        return Err(types.error("ends with sliding_attention, but the last layer is always full"));
    }
    Ok(sliding)
}

/// What is different on full-attention layers.
#[derive(Clone, Copy, PartialEq)]
pub struct FullLayers {
    /// Head size.
    pub head_dim: u32,
    /// K/V heads.
    pub kv_heads: u32,
}

impl FullLayers {
    /// Reads either form. `kv_heads` is what sliding layers have.
    pub fn read(text: &Node, sliding: &[bool], kv_heads: u32) -> Result<FullLayers> {
        let fields = match text.get("global_head_dim") {
            Some(dim) => {
                let kv_heads = text.get("num_global_key_value_heads").map_or(Ok(kv_heads), |n| n.positive())?;
                Some(FullLayers { head_dim: dim.positive()?, kv_heads })
            }
            None => None,
        };
        let map = match text.get("per_layer_config") {
            Some(map) => Some(FullLayers::from_map(&map, text, sliding, kv_heads)?),
            None => None,
        };
        match (fields, map) {
            (Some(fields), Some(map)) if fields != map => {
                Err(text
                    .error_at("per_layer_config", "does not agree with global_head_dim and num_global_key_value_heads"))
            }
            (Some(full), _) | (None, Some(full)) => Ok(full),
            (None, None) => Err(text.error_at("global_head_dim", "is missing, and so is per_layer_config")),
        }
    }

    fn from_map(map: &Node, text: &Node, sliding: &[bool], kv_heads: u32) -> Result<FullLayers> {
        for (name, entry) in map.members()? {
            match name.parse::<usize>().ok().and_then(|n| sliding.get(n)) {
                Some(false) => {}
                Some(true) => {
                    return Err(entry.error("is about a sliding layer, which the format cannot express"));
                }
                None => return Err(entry.error("is about a layer that does not exist")),
            }
        }
        let layer = |n: usize| {
            let entry = map.get(&n.to_string());
            let read =
                |key, otherwise: &Node| entry.as_ref().and_then(|e| e.get(key)).unwrap_or(otherwise.clone()).positive();
            Ok(FullLayers {
                head_dim: read("head_dim", &text.need("head_dim")?)?,
                kv_heads: read("num_key_value_heads", &text.need("num_key_value_heads")?)?,
            })
        };
        let full = (0..sliding.len()).filter(|&n| !sliding[n]).map(layer).collect::<Result<Vec<_>>>()?;
        match full.first() {
            Some(first) if full.iter().all(|other| other == first) => Ok(*first),
            Some(_) => Err(map.error("differs between full layers, which the format cannot express")),
            // There is a full layer: the last one.
            None => Ok(FullLayers { head_dim: text.need("head_dim")?.positive()?, kv_heads }),
        }
    }
}

/// The rotary parameters of sliding and of full layers.
pub fn rope<'a>(text: &Node<'a>) -> Result<(Node<'a>, Node<'a>)> {
    let parameters = text.need("rope_parameters")?;
    let kind = |name, expected| {
        let node = parameters.need(name)?;
        match node.need("rope_type")?.str()? {
            found if found == expected => Ok(node),
            _ => Err(node.error_at("rope_type", format!("only {expected} is supported"))),
        }
    };
    Ok((kind("sliding_attention", "default")?, kind("full_attention", "proportional")?))
}

/// The pairs of a full layer's head that rotate: partial_rotary_factor x head size / 2, rounded down as the model does.
pub fn rotated_pairs(rope: &Node, head_dim: u32) -> Result<u32> {
    let factor = rope.need("partial_rotary_factor")?;
    if !(0.0..=1.0).contains(&factor.f64()?) {
        return Err(factor.error("is not between 0 and 1"));
    }
    Ok((factor.f64()? * f64::from(head_dim) / 2.0) as u32)
}
