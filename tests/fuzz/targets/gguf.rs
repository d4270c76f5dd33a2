//! The reader of GGUF files.
//!
//! Input: a file. What opens lies inside its bytes and means the same after being written and read again; what does not
//! open is answered with one line that names the file.

#[path = "../../gguf/sample.rs"]
mod sample;

use crate::common::{FILE, allowed, assert_tells, bounded, model, open};
use dgemma::gguf::Gguf;
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::quant;
use sample::sample;

/// Files of more alignment than that would mostly be padding.
const ALIGNMENT: usize = 1 << 12;

/// Whether the input was taken.
pub fn run(data: &[u8]) -> bool {
    bounded(allowed(data.len()) + data.len(), || match open(data) {
        Ok(file) => {
            use_it(&file);
            if file.alignment() <= ALIGNMENT {
                write_again(&file);
            }
            true
        }
        Err(error) => {
            assert_tells(&error, &[FILE]);
            false
        }
    })
}

/// Every getter on every key, the first block of every tensor.
fn use_it(file: &Gguf) {
    for info in file.tensors() {
        let tensor = file.require(&info.name).unwrap();
        let rows: usize = info.shape[1..].iter().product();
        assert_eq!(info.format.row_bytes(info.shape[0]).unwrap() * rows, tensor.data.len());
        (info.format.decode)(&tensor.data[..info.format.block_bytes], &mut vec![0.0; info.format.block]);
    }
    let meta = file.metadata();
    for (key, value) in meta.entries() {
        let _ = (meta.str(key), meta.bool(key), meta.u32(key), meta.f32(key), value.to_string(), value.type_name());
        let _ = (meta.strings(key).map(|s| s.iter().map(str::len).sum::<usize>()), meta.bools(key));
        let _ = (meta.u32s(key), meta.i32s(key), meta.f32s(key));
    }
}

fn write_again(file: &Gguf) {
    let tensors: Vec<(Plan, Vec<u8>)> = file
        .tensors()
        .iter()
        .map(|info| {
            let plan = Plan { name: info.name.clone(), shape: info.shape.clone(), format: info.format };
            (plan, file.require(&info.name).unwrap().data.to_vec())
        })
        .collect();
    let bytes = to_bytes(file.metadata().entries(), &tensors).unwrap();
    let again = open(&bytes).unwrap();
    // As text: numbers that are none are not equal to themselves.
    assert_eq!(format!("{:?}", again.metadata().entries()), format!("{:?}", file.metadata().entries()));
    assert_eq!(again.tensors().len(), tensors.len());
    for (plan, data) in &tensors {
        assert_eq!(&again.require(&plan.name).unwrap().data[..], &data[..]);
    }
}

/// Inputs to begin with: every kind of value, every format, a model.
pub fn seeds() -> Vec<Vec<u8>> {
    let tensor = |format: &'static quant::Format| {
        let bytes = format.row_bytes(256).unwrap();
        (Plan { name: format.name.to_owned(), shape: vec![256], format }, vec![0x11; bytes])
    };
    let formats: Vec<_> = quant::FORMATS.iter().map(|format| tensor(format)).collect();
    vec![sample(), to_bytes(&[], &formats).unwrap(), model()]
}
