//! Files made by llama.cpp's converter and quantizer: read as the crate `gguf-rs` reads them, decoded as the Python
//! package `gguf` decodes them.

use dgemma::gguf::{Array, Gguf, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

type Checksums = BTreeMap<String, BTreeMap<String, u32>>;

/// These must be there; more may be.
const REQUIRED: [&str; 4] = ["micro-f32.gguf", "micro-bf16.gguf", "micro-Q8_0.gguf", "micro-Q4_0.gguf"];

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All GGUF files one level below `tests/golden`.
fn files() -> Vec<PathBuf> {
    let directories = std::fs::read_dir(golden()).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir());
    let files = directories.flat_map(|d| std::fs::read_dir(d).unwrap().map(|e| e.unwrap().path()));
    let mut files: Vec<_> = files.filter(|p| p.extension().is_some_and(|e| e == "gguf")).collect();
    files.sort();
    for required in REQUIRED {
        assert!(files.iter().any(|p| p.ends_with(required)), "{required} is not in tests/golden");
    }
    files
}

/// CRC-32 as zlib counts it, one nibble at a time.
fn crc32(crc: u32, bytes: &[u8]) -> u32 {
    let table: [u32; 16] =
        std::array::from_fn(|i| (0..4).fold(i as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }));
    let nibble = |c: u32, n: u32| table[((c ^ n) & 15) as usize] ^ (c >> 4);
    !bytes.iter().fold(!crc, |c, &b| nibble(nibble(c, b.into()), u32::from(b) >> 4))
}

/// Every tensor of every file decodes, bit for bit, to what an independent implementation makes of it.
#[test]
fn every_tensor_decodes_as_elsewhere() {
    let text = std::fs::read_to_string(golden().join("checksums.json")).unwrap();
    let checksums: Checksums = serde_json::from_str(&text).unwrap();
    assert_eq!(crc32(0, b"123456789"), 0xcbf4_3926);
    for path in files() {
        let name = path.file_name().unwrap().to_str().unwrap();
        let Some(expected) = checksums.get(name) else {
            println!("{name}: no checksums, not checked");
            continue;
        };
        let file = Gguf::open(&path).unwrap();
        assert_eq!(file.tensors().len(), expected.len(), "{name}");
        for info in file.tensors() {
            let tensor = file.require(&info.name).unwrap();
            let mut values = vec![0.0; info.shape.iter().product()];
            (info.format.decode)(&tensor.data, &mut values);
            let crc = values.iter().fold(0, |crc, x: &f32| crc32(crc, &x.to_le_bytes()));
            assert_eq!(crc, expected[&info.name], "{name}: {} ({})", info.name, info.format.name);
        }
        println!("{name}: {} tensors agree", expected.len());
    }
}

/// llama.cpp quantized the BF16 file; our encoders make the same bytes from it.
#[test]
fn tensors_encode_as_elsewhere() {
    let bf16 = Gguf::open(&golden().join("peer/micro-bf16.gguf")).unwrap();
    for name in ["micro-Q8_0.gguf", "micro-Q4_0.gguf"] {
        let quantized = Gguf::open(&golden().join("peer").join(name)).unwrap();
        for info in quantized.tensors() {
            let (source, target) = (bf16.require(&info.name).unwrap(), quantized.require(&info.name).unwrap());
            let mut values = vec![0.0; info.shape.iter().product()];
            (source.format.decode)(&source.data, &mut values);
            let mut bytes = vec![0; info.bytes];
            (info.format.encode)(&values, None, &mut bytes);
            assert!(bytes == *target.data, "{name}: {} ({})", info.name, info.format.name);
        }
    }
}

#[test]
fn table_and_keys_read_as_elsewhere() {
    for path in files() {
        let ours = Gguf::open(&path).unwrap();
        let theirs =
            gguf_rs::get_gguf_container_array_size(path.to_str().unwrap(), u64::MAX).unwrap().decode().unwrap();
        assert_eq!(ours.alignment() as u64, theirs.alignment());
        assert_eq!(ours.tensors().len(), theirs.tensors().len());
        let data_start = theirs.data_offset();
        for (ours, theirs) in ours.tensors().iter().zip(theirs.tensors()) {
            assert_eq!((&ours.name, ours.format.id), (&theirs.name, theirs.kind));
            assert_eq!(ours.start as u64, data_start + theirs.offset, "{}", ours.name);
            assert!(ours.shape.iter().map(|&d| d as u64).eq(theirs.shape.iter().copied()), "{}", ours.name);
            // That reader does not know the block sizes of all types.
            if ["F32", "F16", "Q8_0", "Q4_0", "Q6_K", "Q4_K", "Q5_0"].contains(&ours.format.name) {
                assert_eq!(ours.bytes as u64, theirs.size, "{}", ours.name);
            }
        }
        let ours = ours.metadata();
        assert_eq!(ours.entries().len(), theirs.metadata().len());
        for (key, value) in ours.entries() {
            assert!(same(value, &theirs.metadata()[key]), "{key}: {value}, elsewhere {}", theirs.metadata()[key]);
        }
    }
}

fn same(ours: &Value, theirs: &serde_json::Value) -> bool {
    match ours {
        Value::String(s) => theirs == s.as_str(),
        Value::Bool(b) => theirs == *b,
        Value::F32(x) => theirs.as_f64().is_some_and(|y| y as f32 == *x),
        Value::Array(Array::String(strings)) => {
            theirs.as_array().is_some_and(|a| a.iter().map(|v| v.as_str()).eq(strings.iter().map(Some)))
        }
        Value::Array(array) => theirs.as_array().is_some_and(|a| {
            a.len() == array.len() && a.iter().enumerate().all(|(i, v)| same(&array.get(i).unwrap(), v))
        }),
        _ => ours.as_integer() == theirs.as_i64().map(i128::from),
    }
}
