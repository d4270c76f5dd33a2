//! Files in parts.

use crate::roundtrip::Scratch;
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Gguf, Value};
use dgemma::quant;
use std::path::PathBuf;

/// One part: its place in the set as it claims, and the names of its tensors, each of eight equal bytes.
fn part(number: u16, count: u16, total: i32, tensors: &[&str]) -> Vec<u8> {
    let mut keys = vec![
        ("split.no".to_owned(), Value::U16(number)),
        ("split.count".to_owned(), Value::U16(count)),
        ("split.tensors.count".to_owned(), Value::I32(total)),
    ];
    if number == 0 {
        keys.insert(0, ("general.architecture".to_owned(), Value::String("test".to_owned())));
    }
    let plan = |name: &str| Plan { name: name.to_owned(), shape: vec![2], format: quant::by_name("F32").unwrap() };
    let tensors: Vec<_> = tensors.iter().map(|name| (plan(name), vec![name.as_bytes()[0]; 8])).collect();
    to_bytes(&keys, &tensors).unwrap()
}

struct Set(Scratch);

impl Set {
    fn new(name: &str, parts: &[(&str, Vec<u8>)]) -> Set {
        let scratch = Scratch::new(name);
        for (name, bytes) in parts {
            std::fs::write(scratch.0.join(name), bytes).unwrap();
        }
        Set(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// The message for opening `name`, without the directory.
    fn error(&self, name: &str) -> String {
        let message = Gguf::open(&self.path(name)).unwrap_err().to_string();
        message.replace(&format!("{}/", self.0.0.display()), "")
    }
}

const ONE: &str = "m-00001-of-00003.gguf";
const TWO: &str = "m-00002-of-00003.gguf";
const THREE: &str = "m-00003-of-00003.gguf";

#[test]
fn a_set_is_one_file() {
    // The split tool can leave part 1 without tensors.
    let parts = [(ONE, part(0, 3, 3, &[])), (TWO, part(1, 3, 3, &["a", "b"])), (THREE, part(2, 3, 3, &["c"]))];
    let set = Set::new("split", &parts);
    let file = Gguf::open(&set.path(ONE)).unwrap();
    assert_eq!(file.parts(), 3);
    let sizes: u64 = parts.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(file.file_bytes(), sizes);
    assert_eq!(file.metadata().str("general.architecture").unwrap(), "test");
    let names: Vec<_> = file.tensors().iter().map(|t| (t.name.as_str(), t.part)).collect();
    assert_eq!(names, [("a", 1), ("b", 1), ("c", 2)]);
    for name in ["a", "b", "c"] {
        assert_eq!(&*file.require(name).unwrap().data, &[name.as_bytes()[0]; 8]);
    }
    let one_of_one = Set::new("single", &[("m.gguf", part(0, 1, 1, &["a"]))]);
    assert_eq!(Gguf::open(&one_of_one.path("m.gguf")).unwrap().tensors().len(), 1);
}

#[test]
fn sets_that_do_not_fit_together() {
    let good = || vec![(ONE, part(0, 3, 3, &["a"])), (TWO, part(1, 3, 3, &["b"])), (THREE, part(2, 3, 3, &["c"]))];
    let with = |at: usize, bytes| {
        let mut parts = good();
        parts[at].1 = bytes;
        Set::new("misfit", &parts).error(ONE)
    };
    let set = Set::new("misfit", &good());
    assert_eq!(set.error(TWO), format!("{TWO}: is part 2 of 3: open {ONE}"));
    std::fs::remove_file(set.path(TWO)).unwrap();
    assert_eq!(set.error(ONE), format!("{TWO}: part 2 of 3 is missing, needed by {ONE}"));
    std::fs::rename(set.path(ONE), set.path("m.gguf")).unwrap();
    let message = "m.gguf: is part of a split set, but its name does not end in -00001-of-00003.gguf";
    assert_eq!(set.error("m.gguf"), message);

    assert_eq!(with(0, part(0, 0, 3, &[])), format!("{ONE}: key `split.count`: is 0"));
    assert_eq!(with(0, part(0, 2, 3, &[])), format!("{ONE}: key `split.count`: is 2, but the file name says 3"));
    let message = "key `split.no`: is 1 (from 0), but the file name says part 1 (from 1)";
    assert_eq!(with(0, part(1, 3, 3, &[])), format!("{ONE}: {message}"));
    assert_eq!(with(1, part(2, 3, 3, &["b"])), format!("{TWO}: key `split.no`: is 2, expected 1"));
    assert_eq!(with(1, part(1, 4, 3, &["b"])), format!("{TWO}: key `split.count`: is 4, but 3 in part 1"));
    assert_eq!(with(2, part(2, 3, 4, &["c"])), format!("{THREE}: key `split.tensors.count`: is 4, but 3 in part 1"));
    let message = "key `split.tensors.count`: is 3, but the parts have 4 tensors together";
    assert_eq!(with(2, part(2, 3, 3, &["c", "d"])), format!("{ONE}: {message}"));
    assert_eq!(with(2, part(2, 3, 3, &["a"])), format!("{THREE}: tensor `a`: appears twice"));
    assert_eq!(with(2, b"GGUF".to_vec()), format!("{THREE}: header: the file ends: 4 bytes needed at byte 4, 0 left"));

    let message = "test.gguf: key `split.count`: is 3: a file in parts must be opened by name";
    assert_eq!(crate::raw::Raw(part(0, 3, 3, &["a"])).error(), message);
}
