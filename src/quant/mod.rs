//! Tensor formats. Each lives in a file of its own and ends in one [`Format`] descriptor; the loader, the quantizer, the
//! tests and the backends ask this registry and never name a format themselves.
//!
//! A row of a tensor is a whole number of *blocks*; a block holds `block` elements in `block_bytes` bytes.

pub mod f32;

/// One tensor format: its identity, its block geometry and its scalar codecs. Compare formats by `id`.
#[derive(Debug)]
pub struct Format {
    /// ggml's name, e.g. `Q4_K`.
    pub name: &'static str,
    /// ggml's type id, as stored in a tensor info entry.
    pub id: u32,
    /// Elements per block.
    pub block: usize,
    /// Bytes per block.
    pub block_bytes: usize,
    /// Decodes whole blocks. `src.len() / block_bytes == dst.len() / block`, both without remainder.
    pub decode: fn(src: &[u8], dst: &mut [f32]),
    /// Encodes whole blocks; `None` where the library only reads the format.
    pub encode: Option<fn(src: &[f32], dst: &mut [u8])>,
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Format {}

impl Format {
    /// Bytes of a row of `elements`, or `None` when that is not a whole number of blocks or overflows.
    pub fn row_bytes(&self, elements: usize) -> Option<usize> {
        (elements % self.block == 0).then(|| (elements / self.block).checked_mul(self.block_bytes))?
    }
}

/// Every format the library decodes.
pub static FORMATS: &[&Format] = &[&f32::F32];

/// The format with ggml's type id `id`.
pub fn by_id(id: u32) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.id == id)
}

/// The format called `name`, in either case.
pub fn by_name(name: &str) -> Option<&'static Format> {
    FORMATS.iter().copied().find(|f| f.name.eq_ignore_ascii_case(name))
}
