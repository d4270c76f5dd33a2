//! Weights as they lie on the device, byte for byte against the reference in `packing.rs`.

use super::device::*;
use super::packing;
use super::standin::Standin;
use dgemma::backend::Backend;
use dgemma::backend::cuda::Cuda;
use dgemma::gguf::{Bytes, Tensor};
use dgemma::quant::{self, Format};
use std::sync::Arc;

/// A tensor of any bytes: of codes and scales that no encoder would write, too.
fn tensor(format: &'static Format, shape: &[usize]) -> Tensor {
    let rows: usize = shape[1..].iter().product();
    let n = rows * format.row_bytes(shape[0]).unwrap();
    let mut state = n as u64 + 7;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    let data: Vec<u8> = (0..n).map(|_| next()).collect();
    Tensor { name: "test".into(), shape: shape.to_vec(), format, data: Bytes::new(Arc::new(data), 0, n) }
}

fn check(cuda: &Cuda, format: &'static Format, shape: &[usize]) {
    let tensor = tensor(format, shape);
    let (rows, count) = (shape[1], shape.get(2).copied().unwrap_or(1));
    let want = packing::pack(format, &tensor.data, shape[0], rows, count);
    let got = cuda.weight(tensor).unwrap().stored().unwrap();
    assert_eq!(got.len(), want.len(), "{} {shape:?}", format.name);
    if let Some(at) = (0..want.len()).find(|&i| got[i] != want[i]) {
        panic!("{} {shape:?}: byte {at} is {:#04x}, expected {:#04x}", format.name, got[at], want[at]);
    }
}

/// Records of one row and of sixteen, several matrices, pieces of less than four tiles, half a tile, single columns.
#[test]
fn weights_lie_as_the_reference_says() {
    if !available("weights_lie_as_the_reference_says") {
        return;
    }
    let cuda = open(true);
    let mut formats = 0;
    for format in quant::FORMATS.iter().filter(|f| cuda.weight(tensor(f, &[f.block, 1])).is_ok()) {
        formats += 1;
        let cols: &[usize] = match format.block {
            1 => &[256, 320, 33, 1],
            32 => &[256, 352, 32, 96],
            64 => &[256, 320, 64],
            _ => &[256, 512],
        };
        for &cols in cols {
            check(&cuda, format, &[cols, 35, 3]);
            check(&cuda, format, &[cols, 1]);
        }

        if !checked() {
            check(&cuda, format, &[2816, 16, 2]);
        }
    }
    assert_eq!(formats, 14);
}

/// A tensor in more parts than there are buffers, so that each is used again, and small ones before and behind it.
#[test]
fn a_large_tensor_comes_in_parts() {
    if !available_unchecked("a_large_tensor_comes_in_parts") {
        return;
    }
    let cuda = open(true);
    let format = quant::by_name("Q8_0").unwrap();
    for shape in [[64, 40, 1], [2816, 35, 700], [64, 40, 1]] {
        check(&cuda, format, &shape);
    }
}

/// A copy waits for the kernel that reads what lay in its staging area, three parts before, and not for the two behind that.
#[test]
fn copies_wait_for_the_part_that_was_there() {
    let Some(standin) = Standin::open("copies_wait_for_the_part_that_was_there") else { return };
    let cuda = open(true);
    let tensor = tensor(quant::by_name("F32").unwrap(), &[4096, 16, 400]); // seven parts of 16 MiB
    standin.count(c"standin_copy_lag");
    let before = standin.count(c"standin_launches");
    drop(cuda.weight(tensor).unwrap());
    assert_eq!(standin.count(c"standin_launches") - before, 7);
    assert_eq!(standin.count(c"standin_copy_lag"), 2);
}
