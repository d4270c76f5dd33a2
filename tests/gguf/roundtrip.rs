//! What is written is what is read; and a file that was not finished does not exist.

use dgemma::Error;
use dgemma::gguf::writer::{Header, Plan, Writer, to_bytes};
use dgemma::gguf::{Array, Gguf, Value};
use dgemma::quant::{self, FORMATS};
use std::path::{Path, PathBuf};

/// A fresh directory, removed at the end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("dgemma-test-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % n
    }

    fn text(&mut self) -> String {
        (0..self.below(12)).map(|_| ['a', '\n', ' ', 'é', '▁', '\0', '🦀'][self.below(7)]).collect()
    }

    fn list<T>(&mut self, mut item: impl FnMut(&mut Random) -> T) -> Vec<T> {
        (0..self.below(9)).map(|_| item(self)).collect()
    }

    fn value(&mut self) -> Value {
        let n = self.below(1 << 30) as u64;
        match self.below(24) {
            0 => Value::U8(n as u8),
            1 => Value::I8(n as i8),
            2 => Value::U16(n as u16),
            3 => Value::I16(n as i16),
            4 => Value::U32(n as u32),
            5 => Value::I32(-(n as i32)),
            6 => Value::F32(n as f32 / 7.0),
            7 => Value::Bool(n > 1 << 29),
            8 => Value::String(self.text()),
            9 => Value::U64(n << 33),
            10 => Value::I64(-((n << 20) as i64)),
            11 => Value::F64(n as f64 / 3.0),
            12 => Value::Array(Array::U8(self.list(|r| r.below(256) as u8))),
            13 => Value::Array(Array::I8(self.list(|r| r.below(256) as i8))),
            14 => Value::Array(Array::U16(self.list(|r| r.below(65536) as u16))),
            15 => Value::Array(Array::I16(self.list(|r| r.below(65536) as i16))),
            16 => Value::Array(Array::U32(self.list(|r| r.below(1 << 30) as u32))),
            17 => Value::Array(Array::I32(self.list(|r| -(r.below(1 << 30) as i32)))),
            18 => Value::Array(Array::F32(self.list(|r| r.below(1000) as f32 / 8.0))),
            19 => Value::Array(Array::Bool(self.list(|r| r.below(2) == 1))),
            20 => Value::Array(Array::String(self.list(Random::text).into_iter().collect())),
            21 => Value::Array(Array::U64(self.list(|r| (r.below(1 << 30) as u64) << 32))),
            22 => Value::Array(Array::I64(self.list(|r| -((r.below(1 << 30) as i64) << 30)))),
            _ => Value::Array(Array::F64(self.list(|r| r.below(1000) as f64 / 3.0))),
        }
    }

    fn tensor(&mut self, number: usize) -> (Plan, Vec<u8>) {
        let format = FORMATS[self.below(FORMATS.len())];
        let mut shape = vec![format.block * (1 + self.below(3))];
        shape.extend((0..self.below(4)).map(|_| 1 + self.below(3)));
        let rows: usize = shape[1..].iter().product();
        let bytes = format.row_bytes(shape[0]).unwrap() * rows;
        let data = (0..bytes).map(|_| self.below(256) as u8).collect();
        (Plan { name: format!("t{number}"), shape, format }, data)
    }
}

/// Any keys, any tensors, in chunks of any size: the file is the one `to_bytes` makes, and reads back as it was.
#[test]
fn written_files_read_back() {
    let scratch = Scratch::new("roundtrip");
    for seed in 0..60 {
        let mut random = Random(seed);
        let mut metadata: Vec<_> = (0..random.below(12)).map(|i| (format!("key.{i}"), random.value())).collect();
        if seed % 3 == 0 {
            metadata.push(("general.alignment".to_owned(), Value::U32(1 << random.below(9))));
        }
        let tensors: Vec<_> = (0..random.below(6)).map(|i| random.tensor(i)).collect();
        let plans: Vec<Plan> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
        let path = scratch.0.join(format!("{seed}.gguf"));
        let writer = Writer::create(&path, &metadata, &plans).unwrap();
        let file_bytes = writer.file_bytes();
        write_all(&writer, &tensors, 1 + random.below(300));
        writer.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), to_bytes(&metadata, &tensors).unwrap());

        let file = Gguf::open(&path).unwrap();
        assert_eq!((file.file_bytes(), file.version(), file.parts()), (file_bytes, 3, 1));
        assert_eq!(file.metadata().entries(), metadata);
        assert_eq!(file.tensors().len(), tensors.len());
        for (plan, data) in &tensors {
            let tensor = file.require(&plan.name).unwrap();
            assert_eq!((&tensor.shape, tensor.format, &*tensor.data), (&plan.shape, plan.format, &data[..]));
        }
    }
}

/// In chunks, the last ones first.
fn write_all(writer: &Writer, tensors: &[(Plan, Vec<u8>)], chunk: usize) {
    for (i, (_, data)) in tensors.iter().enumerate().rev() {
        for (n, bytes) in data.chunks(chunk).enumerate() {
            writer.write_at(i, n * chunk, bytes).unwrap();
            let mut back = vec![0; bytes.len()];
            writer.read_at(i, n * chunk, &mut back).unwrap();
            assert_eq!(back, bytes);
        }
    }
}

/// A set reads back as the file would; parts hold whole tensors and no more bytes than asked for.
#[test]
fn split_sets_read_back() {
    let scratch = Scratch::new("split-write");
    for seed in 0..30 {
        let mut random = Random(seed);
        let metadata = [("a".to_owned(), Value::U32(5))];
        let tensors: Vec<_> = (0..1 + random.below(9)).map(|i| random.tensor(i)).collect();
        let plans: Vec<Plan> = tensors.iter().map(|(plan, _)| plan.clone()).collect();
        let path = scratch.0.join(format!("{seed}.gguf"));
        let limit = 1 + random.below(5000);
        let writer = Writer::create_split(&path, &metadata, &plans, limit as u64).unwrap();
        let file_bytes = writer.file_bytes();
        write_all(&writer, &tensors, 777);
        writer.finish().unwrap();
        let first = scratch.names().into_iter().min().unwrap();
        let file = Gguf::open(&scratch.0.join(first)).unwrap();
        assert_eq!((file.file_bytes(), file.metadata().u32("a").unwrap()), (file_bytes, 5));
        assert_eq!(path.exists(), file.parts() == 1);
        for (plan, data) in &tensors {
            let tensor = file.require(&plan.name).unwrap();
            assert_eq!((&tensor.shape, tensor.format, &*tensor.data), (&plan.shape, plan.format, &data[..]));
        }
        for part in 0..file.parts() {
            let of_part: Vec<usize> = file.tensors().iter().filter(|t| t.part == part).map(|t| t.bytes).collect();
            assert!(of_part.len() == 1 || of_part.iter().sum::<usize>() <= limit, "{of_part:?}, limit {limit}");
        }
        std::fs::read_dir(&scratch.0).unwrap().for_each(|entry| std::fs::remove_file(entry.unwrap().path()).unwrap());
    }
}

fn plan(name: &str) -> Plan {
    Plan { name: name.to_owned(), shape: vec![8], format: quant::by_name("F32").unwrap() }
}

#[test]
fn an_unfinished_file_leaves_no_trace() {
    let scratch = Scratch::new("unfinished");
    let path = scratch.0.join("out.gguf");
    std::fs::write(&path, "old").unwrap();
    let writer = Writer::create(&path, &[], &[plan("a"), plan("b")]).unwrap();
    writer.write_at(0, 0, &[0; 32]).unwrap();
    drop(writer);
    assert_eq!(scratch.names(), ["out.gguf"]);

    let writer = Writer::create(&path, &[], &[plan("a"), plan("b")]).unwrap();
    writer.write_at(0, 0, &[0; 32]).unwrap();
    writer.write_at(1, 1, &[0; 31]).unwrap();
    let message = writer.finish().unwrap_err().to_string();
    assert!(message.ends_with("tensor `b`: was not written to its end"), "{message}");
    assert_eq!(scratch.names(), ["out.gguf"]);
    assert_eq!(std::fs::read(&path).unwrap(), b"old");

    // A second writer for the same target does not disturb the first.
    let first = Writer::create(&path, &[], &[plan("a")]).unwrap();
    drop(Writer::create(&path, &[], &[plan("a")]).unwrap());
    first.write_at(0, 0, &[7; 32]).unwrap();
    first.finish().unwrap();
    assert_eq!(scratch.names(), ["out.gguf"]);
    assert_eq!(&*Gguf::open(&path).unwrap().require("a").unwrap().data, &[7; 32]);
}

#[test]
fn the_writer_refuses_what_the_reader_would() {
    let scratch = Scratch::new("refused");
    let path = scratch.0.join("out.gguf");
    let refused = |error: Error, expected: &str| {
        let message = error.to_string();
        assert!(message.ends_with(expected), "{message}");
    };
    let header = |keys: &[&str], plans: &[Plan]| {
        let metadata: Vec<_> = keys.iter().map(|key| (key.to_string(), Value::U8(1))).collect();
        Header::new(&path, &metadata, plans).unwrap_err()
    };
    refused(header(&[""], &[]), ": key number 0 is empty");
    refused(header(&["a", "a"], &[]), ": key `a`: appears twice");
    refused(header(&["general.alignment"], &[]), ": key `general.alignment`: is u8, expected u32");
    refused(header(&[], &[plan("t"), plan("t")]), ": tensor `t`: appears twice");
    refused(header(&[], &[plan(&"t".repeat(64))]), "the name has 64 bytes, at most 63 are allowed");
    refused(header(&[], &[Plan { shape: vec![], ..plan("t") }]), ": tensor `t`: 0 dimensions, expected 1 to 4");
    refused(header(&[], &[Plan { shape: vec![0], ..plan("t") }]), ": tensor `t`: a dimension of [0] is zero");
    let odd = Plan { shape: vec![40], format: quant::by_name("Q4_0").unwrap(), ..plan("t") };
    refused(header(&[], &[odd]), ": tensor `t`: rows of 40 elements are no multiple of Q4_0's block of 32");
    let huge = Plan { shape: vec![1 << 40, 1 << 40], ..plan("t") };
    refused(header(&[], &[huge]), "has more elements than a file can hold");

    let writer = Writer::create(&path, &[], &[plan("a"), plan("b")]).unwrap();
    let outside = ": tensor `a`: 33 bytes at 0 lie outside the 32 bytes of its shape";
    refused(writer.write_at(0, 0, &[0; 33]).unwrap_err(), outside);
    refused(writer.write_at(2, 0, &[0; 1]).unwrap_err(), "there is no tensor 2 to write");
    // 4 EiB: no disk is that large, and nothing is tried.
    let huge = Plan { shape: vec![1 << 60], ..plan("t") };
    let message = Writer::create(&path, &[], &[huge]).unwrap_err().to_string();
    assert!(
        message.contains("out.gguf: needs 4611686018427387") && message.ends_with("are free on its disk"),
        "{message}"
    );
    assert_eq!(scratch.names(), [""; 0]);
    refused(Writer::create(&scratch.0, &[], &[]).unwrap_err(), ": is a directory, expected a file name");
    assert!(Writer::create(Path::new("/nonexistent/x.gguf"), &[], &[]).is_err());
}

/// The getters: any integer type where a u32 is wanted, any number where an f32 is, and otherwise a clear complaint.
#[test]
fn typed_getters() {
    let keys = [
        ("n", Value::I64(7)),
        ("minus", Value::I8(-1)),
        ("x", Value::F64(0.5)),
        ("s", Value::String("text".to_owned())),
        ("b", Value::Bool(true)),
        ("i32s", Value::Array(Array::I32(vec![1, -2]))),
        ("u64s", Value::Array(Array::U64(vec![1, 1 << 40]))),
        ("words", Value::Array(Array::String(["x", "yz"].into_iter().collect()))),
        ("flags", Value::Array(Array::Bool(vec![true]))),
    ];
    let keys = keys.map(|(key, value)| (key.to_owned(), value));
    let file = Gguf::from_bytes(Path::new("test.gguf"), to_bytes(&keys, &[]).unwrap()).unwrap();
    let meta = file.metadata();
    assert_eq!((meta.u32("n").unwrap(), meta.f32("n").unwrap(), meta.f32("x").unwrap()), (7, 7.0, 0.5));
    assert_eq!((meta.str("s").unwrap(), meta.bool("b").unwrap()), ("text", true));
    assert_eq!(meta.i32s("i32s").unwrap(), [1, -2]);
    assert_eq!(meta.f32s("i32s").unwrap(), [1.0, -2.0]);
    assert_eq!(meta.strings("words").unwrap().iter().collect::<Vec<_>>(), ["x", "yz"]);
    assert_eq!(meta.bools("flags").unwrap(), [true]);
    assert_eq!(meta.opt_u32("absent").unwrap(), None);
    let says = |error: Error, expected: &str| assert_eq!(error.to_string(), format!("test.gguf: key {expected}"));
    says(meta.u32("absent").unwrap_err(), "`absent`: is missing");
    says(meta.u32("minus").unwrap_err(), "`minus`: -1 does not fit a u32");
    says(meta.opt_u32("s").unwrap_err(), "`s`: is string, expected an integer");
    says(meta.u32("x").unwrap_err(), "`x`: is f64, expected an integer");
    says(meta.f32("b").unwrap_err(), "`b`: is bool, expected a number");
    says(meta.str("n").unwrap_err(), "`n`: is i64, expected string");
    says(meta.strings("flags").unwrap_err(), "`flags`: is array of bool, expected array of string");
    says(meta.u32s("i32s").unwrap_err(), "`i32s`: element 1 is -2, expected array of non-negative 32-bit integers");
    says(meta.i32s("u64s").unwrap_err(), "`u64s`: element 1 is 1099511627776, expected array of 32-bit integers");
    says(
        meta.u32s("words").unwrap_err(),
        "`words`: is array of string, expected array of non-negative 32-bit integers",
    );
    says(meta.u32s("n").unwrap_err(), "`n`: is i64, expected array of non-negative 32-bit integers");
}
