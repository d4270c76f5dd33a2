//! Changed inputs, always the same ones.

/// A generator of numbers (Knuth's 64-bit one, the upper half).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n.max(1)
    }

    /// A place in `data`, and a few bytes from there on.
    fn range(&mut self, data: &[u8], most: usize) -> std::ops::Range<usize> {
        let start = self.below(data.len());
        start..(start + 1 + self.below(most)).min(data.len())
    }
}

/// One of `inputs` with one to four changes; half of them one of the first `good` ones, since most of the others are refused.
pub fn changed(inputs: &[Vec<u8>], good: usize, random: &mut Random) -> Vec<u8> {
    let among = if random.below(2) == 0 { good } else { inputs.len() };
    let mut data = inputs[random.below(among)].clone();
    for _ in 0..=random.below(4) {
        change(&mut data, &inputs[random.below(inputs.len())], random);
    }
    data
}

fn change(data: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    if data.is_empty() {
        data.push(random.below(256) as u8);
    }
    let at = random.below(data.len());
    match random.below(9) {
        0 => data[at] ^= 1 << random.below(8),
        1 => data[at] = random.below(256) as u8,
        2 => drop(data.drain(random.range(data, 16))),
        3 => data.insert(at, random.below(256) as u8),
        // A large or a small number, in any of its widths.
        4 | 5 => {
            let number = (1u64 << random.below(64)).wrapping_sub(random.below(3) as u64).to_le_bytes();
            let end = (at + (1 << random.below(4))).min(data.len());
            data[at..end].copy_from_slice(&number[..end - at]);
        }
        // The digits of one.
        6 => {
            let digits = (1u64 << random.below(64)).wrapping_sub(random.below(3) as u64).to_string();
            let digit = data[at..].iter().position(u8::is_ascii_digit).map_or(at, |n| at + n);
            data.splice(digit..digit + 1, digits.bytes());
        }
        7 => data.truncate(at),
        // A stretch of another input.
        _ if !other.is_empty() => {
            let range = random.range(other, 64);
            data.splice(at..at, other[range].iter().copied());
        }
        _ => {}
    }
}
