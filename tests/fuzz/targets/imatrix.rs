//! Importance matrices.
//!
//! Input: a file. What is taken is the same after being written and read again, and gives a weight to every column.

use crate::common::{allowed, assert_tells, bounded, folder};
use dgemma_quantize::imatrix::{Entry, Imatrix};

/// Whether the file was taken.
pub fn run(data: &[u8]) -> bool {
    let folder = folder("imatrix");
    let (path, copy) = (folder.join("input.gguf"), folder.join("copy.gguf"));
    std::fs::write(&path, data).unwrap();
    bounded(allowed(data.len()), || match Imatrix::open(&path) {
        Ok(imatrix) => {
            for (name, entry) in &imatrix.entries {
                let shape = [entry.columns, 1, entry.counts.len()];
                let weights = imatrix.importance(name, &shape).unwrap().unwrap();
                assert_eq!(weights.len(), entry.sums.len());
                assert!(weights.iter().all(|x| *x >= 0.0), "{name}");
            }
            if imatrix.entries.keys().all(|name| name.len() <= 48) {
                imatrix.write(&copy).unwrap();
                assert_eq!(Imatrix { path: path.clone(), ..Imatrix::open(&copy).unwrap() }, imatrix);
            }
            true
        }
        Err(error) => {
            assert_tells(&error, &[path.to_str().unwrap()]);
            false
        }
    })
}

/// Inputs to begin with.
pub fn seeds() -> Vec<Vec<u8>> {
    let path = folder("imatrix").join("seed.gguf");
    let entry = |columns: usize, counts: &[f32]| Entry {
        columns,
        sums: (0..columns * counts.len()).map(|n| n as f32).collect(),
        counts: counts.to_vec(),
    };
    let entries =
        [("blk.0.attn_q.weight", entry(4, &[3.0])), ("blk.0.ffn_down_exps.weight", entry(2, &[1.0, 0.0, 2.0]))];
    let entries = entries.map(|(name, entry)| (name.to_owned(), entry)).into();
    let imatrix = Imatrix { path: path.clone(), datasets: vec!["text".into()], chunk_count: 2, chunk_size: 8, entries };
    imatrix.write(&path).unwrap();
    vec![std::fs::read(path).unwrap()]
}
