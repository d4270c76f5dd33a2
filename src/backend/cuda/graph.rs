//! Recorded steps: what a thread asks of a device between the begin and the end of a recording is noted by the driver instead
//! of done, and can then be done again and again with one call.
//!
//! A record holds the arguments of launches as they were, and so whatever a launcher computed on the host: addresses, the start
//! position, how attention is split over the positions before it. What changes from step to step is read from device memory
//! (`sampler.rs`); the start position does not, since how attention is cut hangs on it anyway. So a step is recorded once per
//! block, while the device computes the block's first step. That costs the host about a launch per kernel (1,300 of the 26B
//! model's) and an update of the executable graph in place; only where the shape of the graph has changed (attention that
//! is split, or not any more) it is built anew.
//!
//! What can be asked for only outside of a recording (memory, code, a wait) makes [`Graph::record`] give up without harm: the
//! step is run instead, which gets what was missing. Work space that grows later moves; then records that may point to the old
//! place are not used any more (`Device::growths`).

use super::driver::{Device, check, driver};
use crate::backend::StepKey;
use crate::error::{Error, Result};
use cudarc::driver::sys;
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::Arc;

thread_local! {
    /// The stream that notes what this thread asks for, instead of the device's own.
    static RECORDING: Cell<Option<sys::CUstream>> = const { Cell::new(None) };
    /// Whether something was asked for that cannot be recorded.
    static SPOILED: Cell<bool> = const { Cell::new(false) };
    /// Whether every kernel that is recorded is to be followed by an empty one.
    static PADDED: Cell<bool> = const { Cell::new(false) };
}

/// Where this thread's work goes, if not to the device's stream.
pub fn recording() -> Option<sys::CUstream> {
    RECORDING.get()
}

/// Whether an empty kernel belongs behind the one that was just launched: for measurements (`gaps.rs`).
pub fn padded() -> bool {
    PADDED.get() && recording().is_some()
}

/// To be called before what cannot be part of a recording: an error within one.
pub fn refuse_to_record() -> Result<()> {
    if RECORDING.get().is_none() {
        return Ok(());
    }
    SPOILED.set(true);
    Err(Error::Internal("memory, code or a result was asked for while a step is recorded".into()))
}

/// This thread records, until this goes.
struct Recording;

impl Recording {
    fn begin(stream: sys::CUstream) -> Self {
        SPOILED.set(false);
        RECORDING.set(Some(stream));
        Recording
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        RECORDING.set(None);
    }
}

/// What the driver noted; of no further use once there is an executable of it.
struct Noted(sys::CUgraph);

impl Drop for Noted {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let _ = driver!(cuGraphDestroy(self.0));
        }
    }
}

/// The record of one step.
pub struct Graph {
    device: Arc<Device>,
    /// Only ever recorded on.
    stream: sys::CUstream,
    executable: sys::CUgraphExec,
    /// Its nodes: kernels, copies and fills.
    nodes: usize,
    /// Which step it is, and how often work space had grown by then.
    of: Option<(StepKey, u64)>,
}

// SAFETY: as for `Device`.
unsafe impl Send for Graph {}

impl Graph {
    /// Nothing recorded yet.
    pub fn new(device: &Arc<Device>) -> Result<Graph> {
        device.bind()?;
        let (stream, executable) = (null_mut(), null_mut());
        let mut graph = Graph { device: device.clone(), stream, executable, nodes: 0, of: None };
        driver!(cuStreamCreate(&mut graph.stream, 1))?; // 1: as for the device's own
        Ok(graph)
    }

    /// Whether this is a record of `key` that can be used.
    pub fn holds(&self, key: StepKey) -> bool {
        self.of == Some((key, self.device.growths()))
    }

    /// Records what `step` asks for as `key`. Nothing is recorded where it asks for what cannot be.
    pub fn record(&mut self, key: StepKey, step: impl FnOnce() -> Result<()>) -> Result<()> {
        use sys::CUstreamCaptureMode_enum::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL as THIS_THREAD;
        self.of = None;
        let growths = self.device.growths(); // another context's work may make work space move meanwhile
        self.device.bind()?;
        driver!(cuStreamBeginCapture_v2(self.stream, THIS_THREAD))?;
        let recording = Recording::begin(self.stream);
        let outcome = step();
        drop(recording);
        let mut noted = Noted(null_mut());
        let ended = driver!(cuStreamEndCapture(self.stream, &mut noted.0));
        if SPOILED.get() {
            return ended;
        }
        outcome.and(ended)?;
        self.build(&noted)?;
        driver!(cuGraphGetNodes(noted.0, null_mut(), &mut self.nodes))?;
        self.of = Some((key, growths));
        Ok(())
    }

    /// [`Graph::record`] with an empty kernel behind every kernel.
    pub fn record_padded(&mut self, key: StepKey, step: impl FnOnce() -> Result<()>) -> Result<()> {
        PADDED.set(true);
        let outcome = self.record(key, step);
        PADDED.set(false);
        outcome
    }

    /// Kernels, copies and fills of the record: as many times something starts.
    pub fn nodes(&self) -> usize {
        self.nodes
    }

    /// Forgets the record: something that it points to has moved.
    pub fn void(&mut self) {
        self.of = None;
    }

    /// Makes the executable do what was noted.
    fn build(&mut self, noted: &Noted) -> Result<()> {
        if !self.executable.is_null() {
            // SAFETY: integers and pointers, for which zero is a value.
            let mut about: sys::CUgraphExecUpdateResultInfo = unsafe { std::mem::zeroed() };
            match driver!(cuGraphExecUpdate_v2(self.executable, noted.0, &mut about)) {
                Err(Error::Device { what, .. }) if what == "CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE" => self.discard(),
                done => return done,
            }
        }
        driver!(cuGraphInstantiateWithFlags(&mut self.executable, noted.0, 0))
    }

    fn discard(&mut self) {
        if !self.executable.is_null() {
            let _ = driver!(cuGraphExecDestroy(self.executable));
            self.executable = null_mut();
        }
    }

    /// Puts the recorded work on the device's stream.
    pub fn launch(&self) -> Result<()> {
        self.device.bind()?;
        driver!(cuGraphLaunch(self.executable, self.device.stream()))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // It may still be running.
        let _ = self.device.synchronize();
        self.discard();
        if !self.stream.is_null() {
            let _ = driver!(cuStreamDestroy_v2(self.stream));
        }
    }
}
