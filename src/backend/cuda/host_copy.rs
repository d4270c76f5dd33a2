//! Copying a file's bytes to where the device takes them: several threads, since one does not fill a fast link
//! (`cargo bench --bench upload`).

use rayon::ThreadPool;
use rayon::prelude::*;

/// What a thread copies at a time: enough to make starting it cheap, little enough for all threads to end together.
const BYTES: usize = 256 << 10;

/// Copies `from` to `to`, which is as long, on the threads of `pool`.
pub fn copy(pool: &ThreadPool, from: &[u8], to: &mut [u8]) {
    if from.len() <= BYTES {
        return to.copy_from_slice(from);
    }
    let pieces = to.par_chunks_mut(BYTES).zip(from.par_chunks(BYTES));
    pool.install(|| pieces.for_each(|(to, from)| to.copy_from_slice(from)));
}
