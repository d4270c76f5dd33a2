//! Files that are wrong: by hand, each with the message it must get; and by machine, in every byte. Several changes at once are
//! for `tests/fuzz`.

use crate::raw::Raw;
use crate::sample::sample;
use dgemma::gguf::Gguf;
use std::path::Path;

#[track_caller]
fn refused(raw: Raw, message: &str) {
    assert_eq!(raw.error(), format!("test.gguf: {message}"));
}

#[test]
fn headers() {
    refused(Raw::default(), "is too short for a GGUF file");
    refused(Raw(b"GGML\x03\0\0\0".to_vec()), "is not a GGUF file: it begins with GGML");
    refused(Raw(b"\x7fELF".to_vec()), "is not a GGUF file: it begins with \\x7fELF");
    refused(Raw(b"GGUF".to_vec()), "header: the file ends: 4 bytes needed at byte 4, 0 left");
    let with_version = |version| Raw(b"GGUF".to_vec()).u32(version).u64(0).u64(0);
    assert_eq!(with_version(2).open().unwrap().version(), 2);
    assert_eq!(with_version(3).open().unwrap().version(), 3);
    refused(with_version(1), "GGUF version 1 is not supported, expected 2 or 3");
    refused(with_version(0), "GGUF version 0 is not supported, expected 2 or 3");
    refused(with_version(4), "GGUF version 4 is not supported, expected 2 or 3");
    refused(with_version(3 << 24), "is a big-endian GGUF file, only little-endian ones are supported");
    refused(Raw::new(0, u64::MAX), "header: 18446744073709551615 keys cannot fit into the 0 bytes left");
    refused(Raw::new(1 << 63, 0), "header: 9223372036854775808 tensors cannot fit into the 0 bytes left");
}

#[test]
fn keys() {
    let one = || Raw::new(0, 1);
    refused(one().key("", 0).u8(1).u8(0), "key number 0 is empty");
    refused(Raw::new(0, 2).key("a", 0).u8(1).key("a", 0).u8(1), "key `a`: appears twice");
    refused(
        one().u64(1 << 40).u64(0),
        "name of key number 0: 1099511627776 bytes of text cannot fit into the 8 bytes left",
    );
    refused(
        one().string(b"\xff\xfe").u32(0).u8(0),
        "name of key number 0: the text at byte 32 is not UTF-8: invalid utf-8 sequence of 1 bytes from index 0",
    );
    refused(one().key("abc", 13).u64(0), "key `abc`: unknown value type 13");
    refused(one().key("abc", 7).u8(2), "key `abc`: a bool must be 0 or 1, not 2");
    refused(one().key("abcdefgh", 10).u32(1), "key `abcdefgh`: the file ends: 8 bytes needed at byte 44, 4 left");
    let array = |kind, count| one().key("a", 9).u32(kind).u64(count);
    refused(array(9, 0), "key `a`: arrays of arrays are not supported");
    refused(array(13, 0), "key `a`: unknown element type 13");
    refused(array(4, u64::MAX / 2), "key `a`: 9223372036854775807 elements cannot fit into the 0 bytes left");
    refused(array(8, 1).u32(0), "key `a`: 1 elements cannot fit into the 4 bytes left");
    refused(array(8, 2).string("x").u64(9), "key `a`: element 1: 9 bytes of text cannot fit into the 0 bytes left");
    refused(array(7, 2).u8(1).u8(7), "key `a`: a bool must be 0 or 1, not 7");
}

#[test]
fn alignment() {
    let aligned = |kind| Raw::new(0, 1).key("general.alignment", kind);
    assert_eq!(aligned(4).u32(64).open().unwrap().alignment(), 64);
    refused(aligned(4).u32(0), "key `general.alignment`: 0 is not a power of two");
    refused(aligned(4).u32(48), "key `general.alignment`: 48 is not a power of two");
    refused(aligned(10).u64(32), "key `general.alignment`: is u64, expected u32");
    let huge = aligned(4).u32(1 << 31).0;
    let mut huge = Raw(huge).tensor("t", &[1], 0, 0).data(64);
    huge.0[8] = 1;
    refused(huge, "tensor `t`: ends at byte 2147483652, but the file has 160: truncated?");
}

#[test]
fn tensors() {
    let one = |dims: &[u64], kind, offset| Raw::new(1, 0).tensor("t", dims, kind, offset).data(64);
    assert_eq!(one(&[16], 0, 0).open().unwrap().require("t").unwrap().data.len(), 64);
    refused(one(&[17], 0, 0), "tensor `t`: ends at byte 132, but the file has 128: truncated?");
    refused(one(&[], 0, 0), "tensor `t`: 0 dimensions, expected 1 to 4");
    refused(one(&[1, 1, 1, 1, 1], 0, 0), "tensor `t`: 5 dimensions, expected 1 to 4");
    refused(one(&[2, 0], 0, 0), "tensor `t`: a dimension of [2, 0] is zero");
    refused(one(&[33], 8, 0), "tensor `t`: rows of 33 elements are no multiple of Q8_0's block of 32");
    refused(one(&[16, 16], 12, 0), "tensor `t`: rows of 16 elements are no multiple of Q4_K's block of 256");
    let large = 1 << 32;
    let message = "tensor `t`: shape [4294967296, 4294967296] has more elements than a file can hold";
    refused(one(&[large, large], 0, 0), message);
    // Few enough elements, but too many bytes.
    let message = "tensor `t`: shape [4294967296, 2147483647] has more elements than a file can hold";
    refused(one(&[large, (1 << 31) - 1], 0, 0), message);
    refused(one(&[16], 16, 0), "tensor `t`: type IQ2_XXS (id 16) is not supported");
    refused(one(&[16], 4, 0), "tensor `t`: unknown type id 4");
    refused(one(&[16], 99, 0), "tensor `t`: unknown type id 99");
    refused(one(&[16], 0, 32), "tensor `t`: starts at 32 of the data section, expected 0");
    let name = "n".repeat(64);
    refused(
        Raw::new(1, 0).tensor(&name, &[16], 0, 0).data(64),
        &format!("name of tensor number 0: `{name}` has 64 bytes, at most 63 are allowed"),
    );
    let two = |second, offset| Raw::new(2, 0).tensor("t", &[2], 0, 0).tensor(second, &[2], 0, offset).data(64);
    assert_eq!(two("u", 32).open().unwrap().tensors()[1].bytes, 8);
    refused(two("t", 32), "tensor `t`: appears twice");
    refused(two("u", 8), "tensor `u`: starts at 8 of the data section, expected 32");
    refused(two("u", 0), "tensor `u`: starts at 0 of the data section, expected 32");
    refused(two("u", 64), "tensor `u`: starts at 64 of the data section, expected 32");
    // Sums of sizes that are each possible.
    let half = (1u64 << 61) - 8;
    let bytes = half * 4;
    let sum =
        Raw::new(3, 0).tensor("t", &[half], 0, 0).tensor("u", &[half], 0, bytes).tensor("v", &[half], 0, 2 * bytes);
    refused(sum.data(64), "tensor `v`: the sizes of the tensors overflow");
}

/// Reads `bytes`; whatever parses is used in all ways that could fail.
fn exercise(bytes: &[u8]) {
    let Ok(file) = Gguf::from_bytes(Path::new("test.gguf"), bytes.to_vec()) else {
        return;
    };
    for info in file.tensors() {
        let tensor = file.require(&info.name).unwrap();
        assert_eq!(tensor.data.len(), info.bytes);
        let rows: usize = info.shape[1..].iter().product();
        assert_eq!(info.format.row_bytes(info.shape[0]).unwrap() * rows, info.bytes);
        let block = &tensor.data[..info.format.block_bytes];
        (info.format.decode)(block, &mut vec![0.0; info.format.block]);
    }
    let meta = file.metadata();
    for (key, value) in meta.entries() {
        let _ = (meta.str(key), meta.bool(key), meta.u32(key), meta.f32(key), value.type_name());
        let _ = (meta.strings(key).map(|s| s.iter().map(str::len).sum::<usize>()), meta.bools(key));
        let _ = (meta.u32s(key), meta.i32s(key), meta.f32s(key));
    }
}

#[test]
fn every_truncation() {
    let whole = sample();
    exercise(&whole);
    // The padding of the last tensor may be missing, but no byte of a tensor.
    let file = Gguf::from_bytes(Path::new("test.gguf"), whole.clone()).unwrap();
    let last = file.tensors().last().unwrap();
    let needed = last.start + last.bytes;
    for length in 0..whole.len() {
        let result = Gguf::from_bytes(Path::new("test.gguf"), whole[..length].to_vec());
        assert_eq!(result.is_ok(), length >= needed, "{length} of {} bytes", whole.len());
        if let Err(error) = result {
            assert!(error.to_string().starts_with("test.gguf: "), "{error}");
        }
    }
}

#[test]
fn every_byte_changed() {
    let whole = sample();
    let header = Gguf::from_bytes(Path::new("test.gguf"), whole.clone()).unwrap().tensors()[0].start;
    for at in 0..header {
        for value in [0, 1, 2, 3, 9, 31, 32, 64, 127, 128, 254, 255] {
            let mut bytes = whole.clone();
            bytes[at] = value;
            exercise(&bytes);
        }
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            exercise(&bytes);
        }
    }
}

#[test]
fn not_even_a_file() {
    let missing = Gguf::open(Path::new("/nonexistent/model.gguf")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/model.gguf: No such file"), "{missing}");
    let directory = Gguf::open(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_err().to_string();
    assert!(directory.ends_with(": is not a regular file"), "{directory}");
}
