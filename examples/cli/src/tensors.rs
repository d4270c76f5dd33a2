//! Safetensors files of f32 and int32 tensors.

use crate::Result;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::path::{Path, PathBuf};

/// A file in memory.
pub struct Tensors {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads and checks a file.
    pub fn open(path: &Path) -> Result<Tensors> {
        let bytes = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
        SafeTensors::deserialize(&bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Tensors { path: path.to_owned(), bytes })
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.file().is_ok_and(|file| file.tensor(name).is_ok())
    }

    /// The names, in no order.
    pub fn names(&self) -> Result<Vec<String>> {
        Ok(self.file()?.names().into_iter().map(|name| name.to_owned()).collect())
    }

    /// The f32 tensor `name`.
    pub fn f32(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.words(name, Dtype::F32)?.into_iter().map(f32::from_le_bytes).collect())
    }

    /// The int32 tensor `name`; none of its elements may be negative.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>> {
        let id = |word| {
            let id = i32::from_le_bytes(word);
            u32::try_from(id).map_err(|_| format!("{}: tensor `{name}`: {id} is no id", self.path.display()).into())
        };
        self.words(name, Dtype::I32)?.into_iter().map(id).collect()
    }

    fn file(&self) -> Result<SafeTensors<'_>> {
        Ok(SafeTensors::deserialize(&self.bytes)?)
    }

    fn words(&self, name: &str, dtype: Dtype) -> Result<Vec<[u8; 4]>> {
        let wrong = |what: String| format!("{}: tensor `{name}`: {what}", self.path.display());
        let file = self.file()?;
        let tensor = file.tensor(name).map_err(|_| wrong("is missing".into()))?;
        if tensor.dtype() != dtype {
            return Err(wrong(format!("is {:?}, expected {dtype:?}", tensor.dtype())).into());
        }
        Ok(tensor.data().as_chunks::<4>().0.to_vec())
    }
}

/// Writes f32 tensors: name, shape, elements.
pub fn write(path: &Path, tensors: &[(&str, [usize; 2], Vec<f32>)]) -> Result<()> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(_, _, data)| data.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| TensorView::new(Dtype::F32, shape.to_vec(), bytes).map(|view| (*name, view)));
    let views = views.collect::<std::result::Result<Vec<_>, _>>()?;
    let file = safetensors::serialize(views, None)?;
    std::fs::write(path, file).map_err(|e| format!("{}: {e}", path.display()).into())
}
