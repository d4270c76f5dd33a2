//! Work sharing on the backend's own pool. How work is cut never depends on the number of threads where a sum is
//! involved, so results do not either.

use rayon::prelude::*;

/// Below this many multiply-adds (or elements of similar cost) a task list is faster on the calling thread: waking a
/// sleeping worker costs about 5 us, in which one core does some 200,000 of them.
const MIN_WORK: usize = 200_000;

/// Calls `f(0..tasks)` on the current pool, or right here when there is little `work` in all.
pub fn parallel(tasks: usize, work: usize, f: impl Fn(usize) + Sync + Send) {
    if tasks <= 1 || work < MIN_WORK || rayon::current_num_threads() == 1 {
        (0..tasks).for_each(f);
    } else {
        (0..tasks).into_par_iter().with_max_len(1).for_each(f);
    }
}

/// Calls `f(row index, row)` for each `width`-long row of `x`.
pub fn rows_mut<T: Send>(
    x: &mut [T],
    width: usize,
    cost_per_element: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if x.len() * cost_per_element < MIN_WORK || rayon::current_num_threads() == 1 {
        x.chunks_exact_mut(width).enumerate().for_each(|(i, row)| f(i, row));
    } else {
        x.par_chunks_exact_mut(width).enumerate().with_min_len(4).for_each(|(i, row)| f(i, row));
    }
}

/// A pointer into an output that several tasks write at places of their own.
pub struct Shared<T = f32>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: a plain address; every use of it is unsafe and states who writes where.
unsafe impl<T: Send> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The start of `x`.
    pub fn new(x: &mut [T]) -> Self {
        Shared(x.as_mut_ptr())
    }

    /// The address of element `at`.
    ///
    /// # Safety
    /// `at` lies inside the slice this was made from.
    pub unsafe fn at(self, at: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(at) }
    }
}
