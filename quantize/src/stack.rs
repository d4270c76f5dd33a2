//! A tensor put together from several: a stack of experts that are stored one by one.

use crate::source::Source;
use dgemma::quant::Format;
use dgemma::{Error, Result};

/// Tensors one behind the other, all with the same number of elements.
pub struct Stack {
    members: Vec<Box<dyn Source>>,
    /// Elements of each.
    elements: usize,
    /// What all of them are stored in, if that is the same.
    format: Option<&'static Format>,
}

impl Stack {
    /// `members`, which have `elements` each. There must be at least one.
    pub fn new(members: Vec<Box<dyn Source>>, elements: usize) -> Result<Stack> {
        let Some(first) = members.first().filter(|_| elements > 0) else {
            return Err(Error::Internal("a stack of nothing".to_owned()));
        };
        let format = first.format().filter(|&format| members.iter().all(|member| member.format() == Some(format)));
        Ok(Stack { members, elements, format })
    }

    /// Calls `read` for each member that `start .. start + count` touches, with the range within it and where that
    /// begins in the result.
    fn each(
        &self,
        start: usize,
        count: usize,
        mut read: impl FnMut(&dyn Source, usize, usize, usize) -> Result<()>,
    ) -> Result<()> {
        let mut done = 0;
        while done < count {
            let (member, at) = ((start + done) / self.elements, (start + done) % self.elements);
            let here = (self.elements - at).min(count - done);
            read(&*self.members[member], at, here, done)?;
            done += here;
        }
        Ok(())
    }
}

impl Source for Stack {
    fn error(&self, what: &str) -> Error {
        self.members[0].error(&format!("in the stack that begins here: {what}"))
    }

    fn error_at(&self, element: usize, what: &str) -> Error {
        self.members[element / self.elements].error_at(element % self.elements, what)
    }

    fn format(&self) -> Option<&'static Format> {
        self.format
    }

    fn prefetch(&self, start: usize, count: usize) {
        let (member, at) = (start / self.elements, start % self.elements);
        self.members[member].prefetch(at, count.min(self.elements - at));
    }

    fn read_stored(&self, start: usize, out: &mut [u8]) -> Result<()> {
        let Some(format) = self.format else {
            return Err(Error::Internal("a stack of different formats was asked for its bytes".to_owned()));
        };
        let bytes = |elements: usize| elements / format.block * format.block_bytes;
        let count = out.len() / format.block_bytes * format.block;
        self.each(start, count, |member, at, count, done| {
            member.read_stored(at, &mut out[bytes(done)..bytes(done + count)])
        })
    }

    fn read(&self, start: usize, out: &mut [f32], scratch: &mut Vec<u8>) -> Result<()> {
        self.each(start, out.len(), |member, at, count, done| member.read(at, &mut out[done..done + count], scratch))
    }

    fn read_as(&self, target: &Format, start: usize, out: &mut [u8], scratch: &mut Vec<u8>) -> Result<bool> {
        let bytes = |elements: usize| elements / target.block * target.block_bytes;
        let count = out.len() / target.block_bytes * target.block;
        let mut all = true;
        self.each(start, count, |member, at, count, done| {
            let out = &mut out[bytes(done)..bytes(done + count)];
            all = all && member.read_as(target, at, out, scratch)?;
            Ok(())
        })?;
        Ok(all)
    }
}
