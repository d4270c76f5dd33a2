//! Weights that are left on the host: page-locked memory, laid out as on the device, copied there layer by layer, ahead of
//! their use. While the model is loaded, the device lays them out (`upload.rs`) and they are copied back; tests/bench/SPEED.md
//! has what speaks against keeping the file's bytes and laying those out in every pass.
//!
//! They are not computed with on the host. Each step of a canvas has 256 rows and so needs nearly all experts of a layer; the
//! link brings them faster than cores would multiply with them, and results stay the same, bit for bit, whatever fits.
//!
//! ```text
//! kernels   | layer 0        | layer 1        | layer 2      ...   of one pass; after the last comes the first of the next
//! copies    | 1 -> slot 1    | 2 -> slot 0    | 3 -> slot 1  ...
//! ```
//!
//! A layer's first use lets the kernels wait for its copy, and starts the copy of the layer behind it into the other slot,
//! whose kernels are all on their stream by then: the copy waits for them. Only the two streams wait, never the caller.
//! Two slots are enough: copying takes many times longer than computing (22 ms against 0.2 ms for a layer of 0.55 GB), so
//! the link never rests, wherever the streamed layers are.

use super::driver::{CopyStream, Device, Event, Memory, Pinned};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Where a streamed weight lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which group: weights that are copied together.
    pub group: usize,
    /// Its first byte there.
    pub at: usize,
}

/// Which weights are left on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Bytes of each group, in the order of use.
    pub groups: Vec<usize>,
    /// By the names of tensors; all others live on the device.
    pub places: HashMap<String, Place>,
}

/// Groups start their weights at multiples of so many bytes, as the driver's own allocations do.
const ALIGNMENT: usize = 256;
/// Parts of the device's memory that groups are copied to.
pub const SLOTS: usize = 2;

impl Placement {
    /// Adds a weight of `bytes` bytes to the last group.
    pub fn push(&mut self, name: &str, bytes: usize) {
        let Some(group) = self.groups.len().checked_sub(1) else { return };
        let at = self.groups[group].next_multiple_of(ALIGNMENT);
        self.places.insert(name.to_owned(), Place { group, at });
        self.groups[group] = at + bytes;
    }

    /// Bytes of a slot.
    pub fn slot_bytes(&self) -> usize {
        self.groups.iter().copied().max().unwrap_or(0)
    }

    /// Slots that are needed.
    pub fn slots(&self) -> usize {
        self.groups.len().min(SLOTS)
    }
}

/// A part of the device's memory.
struct Slot {
    memory: Memory,
    /// The group in it, or on its way.
    holds: Option<usize>,
    arrived: Event,
}

/// The groups, and what brings them.
pub struct Streamed {
    device: Arc<Device>,
    // Dropped first: waits for copies under way, then for kernels that read the slots.
    copies: CopyStream,
    slots: Vec<Slot>,
    groups: Vec<Pinned>,
    used: Event,
    /// The slot that the kernels asked for last wait for already.
    current: Option<usize>,
}

impl Streamed {
    /// The memory of a placement, not filled yet.
    pub fn new(device: &Arc<Device>, placement: &Placement) -> Result<Streamed> {
        let slot = |_| {
            let memory = Memory::new(device, placement.slot_bytes(), "weights under way")?;
            Ok(Slot { memory, holds: None, arrived: Event::new(device)? })
        };
        Ok(Streamed {
            device: device.clone(),
            copies: CopyStream::new(device)?,
            slots: (0..placement.slots()).map(slot).collect::<Result<_>>()?,
            groups: placement.groups.iter().map(|&bytes| Pinned::new(device, bytes)).collect::<Result<_>>()?,
            used: Event::new(device)?,
            current: None,
        })
    }

    /// Where a weight is laid out on the device while it is loaded, on its way to the host.
    pub fn passage(&self, place: Place) -> u64 {
        self.slots[0].memory.address(place.at)
    }

    /// Copies `part` of a weight, in bytes, from there to where it stays, when the stream comes here. The copies of passes
    /// wait for it, as for all that was asked of the stream before them.
    pub fn keep(&mut self, place: Place, part: Range<usize>) -> Result<()> {
        let at = place.at + part.start;
        self.slots[0].memory.give(at, part.len(), &self.groups[place.group], at)
    }

    /// Where kernels asked for from now on find a weight, up to the next call for one of another group.
    pub fn fetch(&mut self, place: Place) -> Result<u64> {
        let slot = match self.slot_of(place.group) {
            Some(slot) => slot,
            None => self.copy(place.group)?,
        };
        if self.current != Some(slot) {
            self.device.wait_for(&self.slots[slot].arrived)?;
            self.current = Some(slot);
            let next = (place.group + 1) % self.groups.len();
            if self.slot_of(next).is_none() {
                self.copy(next)?;
            }
        }
        Ok(self.slots[slot].memory.address(place.at))
    }

    fn slot_of(&self, group: usize) -> Option<usize> {
        self.slots.iter().position(|slot| slot.holds == Some(group))
    }

    /// Starts the copy of a group into the slot that is not current, behind all kernels asked for so far.
    fn copy(&mut self, group: usize) -> Result<usize> {
        let free = |&i: &usize| Some(i) != self.current || self.slots.len() == 1;
        let i = (0..self.slots.len()).find(free).ok_or_else(|| Error::Internal("no slot for weights".into()))?;
        let slot = &mut self.slots[i];
        slot.holds = None; // whatever fails next
        self.used.record()?;
        self.copies.wait_for(&self.used)?;
        self.copies.copy(&self.groups[group], self.groups[group].size(), &mut slot.memory)?;
        self.copies.mark(&slot.arrived)?;
        slot.holds = Some(group);
        Ok(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placement_lays_weights_behind_each_other() {
        let mut placement = Placement::default();
        placement.push("nowhere", 1);
        assert_eq!(placement, Placement::default());
        placement.groups.push(0);
        placement.push("a", 300);
        placement.push("b", 10);
        placement.groups.push(0);
        placement.push("c", 7);
        assert_eq!(placement.groups, [522, 7]);
        assert_eq!(placement.places["b"], Place { group: 0, at: 512 });
        assert_eq!(placement.places["c"], Place { group: 1, at: 0 });
        assert_eq!((placement.slot_bytes(), placement.slots()), (522, 2));
    }
}
