//! How a checkpoint says that its weights are quantized: `quantization_config` in `config.json` or, in older exports of
//! ModelOpt, `hf_quant_config.json`. Which of its tensors are is seen from their types and the scales beside them.

use crate::json::{File, Node};
use dgemma::Result;
use std::path::Path;

/// The kinds of quantized tensors that a checkpoint may have. Others are F32, F16 or BF16.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scheme {
    /// E4M3 codes with a scale per tensor or per row; see [`crate::fp8`].
    pub fp8: bool,
    /// E2M1 codes with scales of two levels; see [`crate::nvfp4`].
    pub nvfp4: bool,
}

/// What compressed-tensors calls its formats, and what they contain.
const FORMATS: [(&str, Scheme); 3] = [
    ("float-quantized", Scheme { fp8: true, nvfp4: false }),
    ("nvfp4-pack-quantized", Scheme { fp8: false, nvfp4: true }),
    ("mixed-precision", Scheme { fp8: true, nvfp4: true }),
];

/// The same for ModelOpt.
const ALGORITHMS: [(&str, Scheme); 3] = [
    ("FP8", Scheme { fp8: true, nvfp4: false }),
    ("NVFP4", Scheme { fp8: false, nvfp4: true }),
    ("MIXED_PRECISION", Scheme { fp8: true, nvfp4: true }),
];

impl Scheme {
    /// What the checkpoint in `directory` declares.
    pub fn read(directory: &Path) -> Result<Scheme> {
        let config = File::read(&directory.join("config.json"))?;
        let root = config.root();
        let declared = root.get("quantization_config").or_else(|| root.get("text_config")?.get("quantization_config"));
        if let Some(node) = declared {
            let method = node.need("quant_method")?;
            return match method.str()? {
                "compressed-tensors" => known(&node.need("format")?, &FORMATS),
                "modelopt" => modelopt(&node),
                _ => Err(method.error("is neither compressed-tensors nor modelopt, which alone are supported")),
            };
        }
        match File::read_if_there(&directory.join("hf_quant_config.json"))? {
            Some(file) => modelopt(&file.root().need("quantization")?),
            None => Ok(Scheme::default()),
        }
    }
}

fn modelopt(node: &Node) -> Result<Scheme> {
    match node.get("group_size").map(|size| (size.u32(), size)) {
        Some((Ok(16), _)) | None => known(&node.need("quant_algo")?, &ALGORITHMS),
        Some((_, size)) => Err(size.error("only groups of 16 are supported")),
    }
}

fn known(node: &Node, names: &[(&str, Scheme)]) -> Result<Scheme> {
    let name = node.str()?;
    let all = || names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
    let found = names.iter().find(|(known, _)| *known == name);
    found.map(|(_, scheme)| *scheme).ok_or_else(|| node.error(format!("is {name:?}, expected one of {}", all())))
}
