//! Finds for each tensor of a file what it is made from in a checkpoint, whichever way that stores it: as it is, under the
//! encoder's name, expert by expert, quantized ([`crate::fp8`], [`crate::nvfp4`]); and what no tensor was made from.
//!
//! The experts of a layer are one tensor in published BF16 checkpoints, and three for each expert in quantized ones:
//! `experts.N.gate_proj`, `up_proj` and `down_proj`, gate and up together being `gate_up_proj`.

use crate::checkpoint::{Checkpoint, Plain, Stored};
use crate::fp8::Fp8;
use crate::names::{self, Expected, Origin, Other};
use crate::nvfp4::{Global, Nvfp4};
use crate::scheme::Scheme;
use crate::source::{Generated, Source};
use crate::stack::Stack;
use dgemma::{Error, Result};
use safetensors::Dtype;
use std::collections::HashSet;
use std::path::Path;

/// What runtimes want beside quantized weights: scales of activations and of their K/V caches. Files have no place for
/// them.
const RUNTIME_ONLY: [&str; 5] = [".input_scale", ".input_global_scale", ".k_scale", ".v_scale", ".q_scale"];

/// The tensors of a checkpoint, and which of them have found their place.
pub struct Inputs<'a> {
    checkpoint: &'a Checkpoint,
    scheme: Scheme,
    used: HashSet<String>,
}

impl<'a> Inputs<'a> {
    /// Those of `checkpoint`. `directory` is where it is, and asked for how it is quantized.
    pub fn new(directory: &Path, checkpoint: &'a Checkpoint) -> Result<Inputs<'a>> {
        Ok(Inputs { checkpoint, scheme: Scheme::read(directory)?, used: HashSet::new() })
    }

    /// What `tensor` is made from.
    pub fn source(&mut self, tensor: &Expected) -> Result<Box<dyn Source>> {
        match &tensor.origin {
            Origin::Generated(values) => Ok(Box::new(Generated { name: tensor.name.clone(), values: values.clone() })),
            Origin::Checkpoint(name) => match self.whole(name, &tensor.shape)? {
                Some(source) => Ok(source),
                None => match self.experts(name, &tensor.shape)? {
                    Some(stack) => Ok(stack),
                    None => Err(self.missing(name)),
                },
            },
        }
    }

    /// Every tensor of the checkpoint must be one whose purpose is known: what is silently left out would be missed later.
    /// To be called when all sources have been found.
    pub fn check_names(&self) -> Result<()> {
        for tensor in self.checkpoint.iter() {
            let known = self.used.contains(&tensor.name) || self.is_runtime_only(&tensor.name);
            let known = known
                || match names::other(&tensor.name) {
                    Other::Vision => true,
                    Other::Shared(decoder) => self.used.contains(&decoder) || self.is_runtime_only(&decoder),
                    Other::Unknown(_) => false,
                };
            if !known {
                return Err(tensor.error("is not part of a DiffusionGemma with this config.json"));
            }
        }
        Ok(())
    }

    fn is_runtime_only(&self, name: &str) -> bool {
        let quantized = self.scheme.fp8 || self.scheme.nvfp4;
        quantized && name.starts_with("model.") && RUNTIME_ONLY.iter().any(|suffix| name.ends_with(suffix))
    }

    /// The tensor `name` of the decoder, or the encoder's of the same purpose. From here on it counts as used.
    fn find(&mut self, name: &str) -> Option<&'a Stored> {
        let shared = || self.checkpoint.get(&names::shared_name(name)?);
        let found = self.checkpoint.get(name).or_else(shared)?;
        self.used.extend([name.to_owned(), found.name.clone()]);
        Some(found)
    }

    fn missing(&self, name: &str) -> Error {
        Error::tensor(&self.checkpoint.path, name, "is missing")
    }

    /// What belongs to the quantized tensor `codes`: the tensor called `base` with `suffix`.
    fn beside(&mut self, codes: &Stored, base: &str, suffix: &str) -> Result<&'a Stored> {
        let name = format!("{base}{suffix}");
        self.find(&name).ok_or_else(|| codes.error(format!("is quantized, but its `{name}` is missing")))
    }

    /// A tensor that is stored in one piece.
    fn whole(&mut self, name: &str, shape: &[usize]) -> Result<Option<Box<dyn Source>>> {
        let base = name.strip_suffix(".weight").unwrap_or(name);
        if let Some(codes) = self.find(&format!("{base}.weight_packed")) {
            return self.nvfp4(codes, base, shape).map(Some);
        }
        let Some(tensor) = self.find(name) else { return Ok(None) };
        if tensor.dtype() == Dtype::U8 && self.scheme.nvfp4 {
            return self.nvfp4(tensor, base, shape).map(Some);
        }
        if tensor.dtype() == Dtype::F8_E4M3 && self.scheme.fp8 {
            check_shape(tensor, shape)?;
            let scale = self.beside(tensor, base, ".weight_scale")?;
            return Ok(Some(Box::new(Fp8::new(tensor.clone(), scale)?)));
        }
        let plain = Plain::new(tensor.clone())?;
        check_shape(tensor, shape)?;
        Ok(Some(Box::new(plain)))
    }

    fn nvfp4(&mut self, codes: &Stored, base: &str, shape: &[usize]) -> Result<Box<dyn Source>> {
        let &[rows, columns] = shape else {
            return Err(codes.error(format!("is packed, but config.json asks for shape {shape:?}")));
        };
        let scales = self.beside(codes, base, ".weight_scale")?;
        let global = match codes.name.ends_with("_packed") {
            true => Global::Divisor(self.beside(codes, base, ".weight_global_scale")?),
            false => Global::Factor(self.beside(codes, base, ".weight_scale_2")?),
        };
        Ok(Box::new(Nvfp4::new(codes.clone(), [rows, columns], scales, global)?))
    }

    /// A stack of experts that are stored one by one, if `name` is one and they are.
    fn experts(&mut self, name: &str, shape: &[usize]) -> Result<Option<Box<dyn Source>>> {
        let (Some((layer, stack)), &[experts, rows, columns]) = (name.split_once("experts."), shape) else {
            return Ok(None);
        };
        let parts: &[&str] = if stack == "gate_up_proj" { &["gate_proj", "up_proj"] } else { &[stack] };
        let shape = [rows / parts.len(), columns];
        let mut members = Vec::with_capacity(experts * parts.len());
        for expert in 0..experts {
            for part in parts {
                let name = format!("{layer}experts.{expert}.{part}.weight");
                match self.whole(&name, &shape)? {
                    Some(member) => members.push(member),
                    // Neither way of storing them: better to name the usual one.
                    None if members.is_empty() => return Ok(None),
                    None => return Err(self.missing(&name)),
                }
            }
        }
        Ok(Some(Box::new(Stack::new(members, shape[0] * shape[1])?)))
    }
}

fn check_shape(tensor: &Stored, shape: &[usize]) -> Result<()> {
    match tensor.shape == shape {
        true => Ok(()),
        false => Err(tensor.error(format!("has shape {:?}, but config.json asks for {shape:?}", tensor.shape))),
    }
}
