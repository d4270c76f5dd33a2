//! Weights on their way from the file to the device:
//!
//! ```text
//! threads    mapped file -> page-locked buffer         of part 2     part 3
//! link       -> staging area of the device             of part 1     part 2
//! device     pack.cu: -> tiles of the weight           of part 0     part 1
//! link       -> the host, if the weight is streamed    of part 0     part 1
//! ```
//!
//! What was copied from the file leaves the process's memory again ([`Bytes::release`](crate::gguf::Bytes::release)), also
//! where the weight stays on the host: the model needs it there in its own layout, and the file no more.
//!
//! The file's bytes cross the link as they are, and the device lays them out: it reads and writes them at the speed of its
//! memory, many times the link's. The caller waits for a buffer to fill, and for nothing else.

use super::Cuda;
use super::driver::{CopyStream, Device, Event, Memory, Pinned};
use super::host_copy;
use super::layout::TILE_ROWS;
use super::pack::{self, READ_BEHIND, Source};
use super::streamed::{Place, Streamed};
use super::weight::{self, Home, Weight};
use crate::error::Result;
use crate::gguf::Tensor;
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a part, or one record: 0.3 ms of a link of 50 GB/s, so that starting threads, copy and kernel does not count.
const PART_BYTES: usize = 16 << 20;
/// Parts under way: one being filled, one on the link, one waiting, so that neither side stops for the other's swings.
const PARTS: usize = 3;

/// Bytes of the largest part of a tensor of `bytes` bytes, `row_bytes` a row.
fn part_bytes(row_bytes: usize, bytes: usize) -> usize {
    bytes.min(PART_BYTES.max(TILE_ROWS * row_bytes))
}

/// Bytes of (page-locked host memory, device memory) while tensors of (bytes of a row, bytes) are uploaded.
pub fn upload_bytes(tensors: impl Iterator<Item = (usize, usize)>) -> (usize, usize) {
    let largest = tensors.map(|(row_bytes, bytes)| part_bytes(row_bytes, bytes)).max();
    largest.map_or((0, 0), |part| (PARTS * part, PARTS * (part + READ_BEHIND)))
}

/// The buffers of uploads, which grow to what the largest tensor needs.
#[derive(Default)]
pub struct Uploads(Option<Buffers>);

struct Buffers {
    // Dropped first: waits for copies under way.
    copies: CopyStream,
    parts: Vec<Part>,
    /// Of a part.
    bytes: usize,
    next: usize,
}

/// A part under way.
struct Part {
    pinned: Pinned,
    /// Has crossed the link: `pinned` may be filled.
    arrived: Event,
    staging: Memory,
    /// Is laid out: `staging` may be copied to.
    packed: Event,
}

impl Uploads {
    /// Brings `tensor` to the device; if it has a `place` among the streamed, by way of the device to there.
    pub fn weight(&mut self, cuda: &Cuda, tensor: &Tensor, place: Option<(Place, &mut Streamed)>) -> Result<Weight> {
        let source = Source::new(tensor, weight::layout(&tensor.name, tensor.format)?)?;
        let buffers = self.buffers(&cuda.device, part_bytes(source.row_bytes, tensor.data.len()))?;
        let home = match place {
            None => {
                let memory = Memory::new(&cuda.device, source.bytes()?, "weights")?;
                for records in source.parts(PART_BYTES) {
                    buffers.bring(cuda, &source, &records, memory.address(0))?;
                    tensor.data.release(source.file(&records));
                }
                Home::Device(memory)
            }
            Some((place, streamed)) => {
                for records in source.parts(PART_BYTES) {
                    buffers.bring(cuda, &source, &records, streamed.passage(place))?;
                    tensor.data.release(source.file(&records));
                    streamed.keep(place, source.place(&records))?;
                }
                Home::Host(place)
            }
        };
        let operand = weight::operand(source.layout, source.stack(), cuda.rounding);
        Ok(Weight { layout: source.layout, operand, home, rows: source.rows, cols: source.cols })
    }

    /// Buffers for parts of `bytes` bytes.
    fn buffers(&mut self, device: &Arc<Device>, bytes: usize) -> Result<&mut Buffers> {
        self.0.take_if(|buffers| buffers.bytes < bytes); // freed first: both may not fit
        match &mut self.0 {
            Some(buffers) => Ok(buffers),
            none => Ok(none.insert(Buffers::new(device, bytes)?)),
        }
    }
}

impl Buffers {
    fn new(device: &Arc<Device>, bytes: usize) -> Result<Self> {
        let part = |_| {
            let (pinned, arrived) = (Pinned::new(device, bytes)?, Event::new(device)?);
            let staging = Memory::new(device, bytes + READ_BEHIND, "weights under way")?;
            Ok(Part { pinned, arrived, staging, packed: Event::new(device)? })
        };
        let parts = (0..PARTS).map(part).collect::<Result<_>>()?;
        Ok(Buffers { copies: CopyStream::new(device)?, parts, bytes, next: 0 })
    }

    /// Copies some records to the next buffer, and asks for all that follows; `to`: where the tensor begins on the device.
    fn bring(&mut self, cuda: &Cuda, source: &Source, records: &Range<usize>, to: u64) -> Result<()> {
        let (file, part) = (source.file(records), &mut self.parts[self.next]);
        part.arrived.wait()?;
        host_copy::copy(&cuda.pool, file, &mut part.pinned.bytes()[..file.len()]);
        self.copies.wait_for(&part.packed)?;
        self.copies.copy(&part.pinned, file.len(), &mut part.staging)?;
        self.copies.mark(&part.arrived)?;
        cuda.device.wait_for(&part.arrived)?;
        pack::pack(cuda, source, records, &part.staging, to)?;
        part.packed.record()?;
        self.next = (self.next + 1) % PARTS;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_as_large_as_the_largest_part() {
        assert_eq!(upload_bytes([].into_iter()), (0, 0));
        assert_eq!(upload_bytes([(10, 100), (50, 5000)].into_iter()), (15_000, 15_024));
        let large = (1 << 11, 1 << 40);
        assert_eq!(upload_bytes([(10, 100), large].into_iter()), (3 << 24, (3 << 24) + 24));
        // A record is not cut, however long its rows are.
        assert_eq!(upload_bytes([(1 << 21, 1 << 30)].into_iter()).0, 3 << 25);
    }
}
