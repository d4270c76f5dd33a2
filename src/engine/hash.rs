//! A 64-bit hash of bytes: quick, the same on every machine, good at noticing accidents. Not against forgers.

/// Takes bytes in any portions; only their sequence counts.
#[derive(Clone, Debug)]
pub struct Hash64 {
    state: u64,
    /// Bytes that do not fill a word yet.
    pending: [u8; 8],
    bytes: u64,
}

impl Default for Hash64 {
    fn default() -> Self {
        Hash64 { state: 0xcbf2_9ce4_8422_2325, pending: [0; 8], bytes: 0 }
    }
}

/// FNV's step on whole words; the shift brings high bits down. Both parts can be undone, so two inputs of one length that
/// differ in one word never meet.
fn mix(state: u64, word: u64) -> u64 {
    let x = (state ^ word).wrapping_mul(0x0000_0100_0000_01b3);
    x ^ x >> 29
}

impl Hash64 {
    /// The next bytes.
    pub fn add(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            let at = (self.bytes % 8) as usize;
            if at == 0 && data.len() >= 8 {
                let (words, rest) = data.as_chunks::<8>();
                self.state = words.iter().fold(self.state, |s, &w| mix(s, u64::from_le_bytes(w)));
                self.bytes += (data.len() - rest.len()) as u64;
                data = rest;
                continue;
            }
            let n = data.len().min(8 - at);
            self.pending[at..at + n].copy_from_slice(&data[..n]);
            self.bytes += n as u64;
            data = &data[n..];
            if self.bytes.is_multiple_of(8) {
                self.state = mix(self.state, u64::from_le_bytes(self.pending));
            }
        }
    }

    /// The hash of all bytes so far.
    pub fn finish(&self) -> u64 {
        let at = (self.bytes % 8) as usize;
        let mut last = [0; 8];
        last[..at].copy_from_slice(&self.pending[..at]);
        mix(mix(self.state, u64::from_le_bytes(last)), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Hash64;

    fn hash(parts: &[&[u8]]) -> u64 {
        let mut h = Hash64::default();
        parts.iter().for_each(|p| h.add(p));
        h.finish()
    }

    #[test]
    fn portions_do_not_matter_and_every_bit_does() {
        let data: Vec<u8> = (0..37u8).map(|i| i.wrapping_mul(91)).collect();
        let whole = hash(&[&data]);
        for cut in 0..data.len() {
            assert_eq!(hash(&[&data[..cut], &data[cut..]]), whole, "cut at {cut}");
            assert_ne!(hash(&[&data[..cut]]), whole, "{cut} bytes");
            for bit in 0..8 {
                let mut other = data.clone();
                other[cut] ^= 1 << bit;
                assert_ne!(hash(&[&other]), whole, "bit {bit} of byte {cut}");
            }
        }
        assert_ne!(hash(&[&[0; 8]]), hash(&[&[0; 16]]));
    }
}
