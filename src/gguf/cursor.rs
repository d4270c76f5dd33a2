//! Bounded reads from a byte slice. Nothing here allocates more than the bytes that are left can justify: a count is
//! compared with them first. Errors are texts; the caller knows the file, the key or the tensor and adds it.

/// A reading position in `data`.
pub struct Cursor<'a> {
    data: &'a [u8],
    /// Bytes consumed so far.
    pub at: usize,
}

/// Why a read failed.
pub type What<T> = Result<T, String>;

impl<'a> Cursor<'a> {
    /// Starts at the first byte.
    pub fn new(data: &'a [u8]) -> Self {
        Cursor { data, at: 0 }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.data.len() - self.at
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> What<&'a [u8]> {
        if n > self.left() {
            return Err(format!("the file ends: {n} bytes needed at byte {}, {} left", self.at, self.left()));
        }
        let bytes = &self.data[self.at..self.at + n];
        self.at += n;
        Ok(bytes)
    }

    /// One number; `of` is its `from_le_bytes`.
    pub fn number<const N: usize, T>(&mut self, of: fn([u8; N]) -> T) -> What<T> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.bytes(N)?);
        Ok(of(bytes))
    }

    /// A u32.
    pub fn u32(&mut self) -> What<u32> {
        self.number(u32::from_le_bytes)
    }

    /// A u64.
    pub fn u64(&mut self) -> What<u64> {
        self.number(u64::from_le_bytes)
    }

    /// A u64 count of items that take at least `min_bytes` each, checked against what is left.
    pub fn count(&mut self, min_bytes: usize, items: &str) -> What<usize> {
        let count = self.u64()?;
        let most = self.left() / min_bytes;
        usize::try_from(count)
            .ok()
            .filter(|&n| n <= most)
            .ok_or_else(|| format!("{count} {items} cannot fit into the {} bytes left", self.left()))
    }

    /// `count` numbers.
    pub fn numbers<const N: usize, T>(&mut self, count: usize, of: fn([u8; N]) -> T) -> What<Vec<T>> {
        let size = count.checked_mul(N).ok_or("the array's size overflows")?;
        let (items, _) = self.bytes(size)?.as_chunks::<N>();
        Ok(items.iter().map(|&bytes| of(bytes)).collect())
    }

    /// A string: u64 length, then UTF-8.
    pub fn string(&mut self) -> What<&'a str> {
        let length = self.count(1, "bytes of text")?;
        let start = self.at;
        std::str::from_utf8(self.bytes(length)?).map_err(|e| format!("the text at byte {start} is not UTF-8: {e}"))
    }

    /// A bool: one byte, 0 or 1.
    pub fn bool(&mut self) -> What<bool> {
        match self.number(u8::from_le_bytes)? {
            0 => Ok(false),
            1 => Ok(true),
            n => Err(format!("a bool must be 0 or 1, not {n}")),
        }
    }
}
