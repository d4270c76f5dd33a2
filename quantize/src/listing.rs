//! The list of tensors that `inspect` and `plan` print: one line each, then totals per type.

use dgemma::gguf::TensorInfo;
use dgemma::quant::Format;
use dgemma::{Error, Result};
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;

/// A line of the list.
pub struct Row<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Dimensions in ggml order.
    pub shape: &'a [usize],
    /// Its type.
    pub format: &'static Format,
    /// Bytes, without padding.
    pub bytes: u64,
    /// The type that it does not have because its rows do not fit.
    pub instead_of: Option<&'static Format>,
}

impl<'a> From<&'a TensorInfo> for Row<'a> {
    fn from(tensor: &'a TensorInfo) -> Row<'a> {
        let TensorInfo { name, shape, format, bytes, .. } = tensor;
        Row { name, shape, format, bytes: *bytes as u64, instead_of: None }
    }
}

/// What becomes of a failure to print. A reader that goes away early is none.
pub fn shown(result: io::Result<()>) -> Result<()> {
    match result {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Error::io(Path::new("(standard output)"), e)),
        _ => Ok(()),
    }
}

/// How many tensors, elements and bytes there are of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Tensors.
    pub tensors: u64,
    /// Elements.
    pub elements: u64,
    /// Bytes, without padding.
    pub bytes: u64,
}

impl Total {
    fn add(&mut self, other: Total) {
        self.tensors += other.tensors;
        self.elements += other.elements;
        self.bytes += other.bytes;
    }
}

/// Totals by type, in alphabetic order, and the sum of all.
pub fn totals(rows: &[Row]) -> (BTreeMap<&'static str, Total>, Total) {
    let (mut by_type, mut all) = (BTreeMap::<_, Total>::new(), Total::default());
    for row in rows {
        let elements = row.shape.iter().map(|&d| d as u64).product();
        let one = Total { tensors: 1, elements, bytes: row.bytes };
        by_type.entry(row.format.name).or_default().add(one);
        all.add(one);
    }
    (by_type, all)
}

/// A shape for people.
pub fn dimensions(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}

/// Prints `rows` and their totals.
pub fn print(rows: &[Row], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n{} tensors (shape: row length first)", rows.len())?;
    for row in rows {
        let shape = dimensions(row.shape);
        let Row { name, format, bytes, .. } = row;
        let note = row.instead_of.map_or(String::new(), |f| format!("  {} has blocks of {}", f.name, f.block));
        writeln!(out, "  {name:40} {:6} {shape:24} {bytes:>14}{note}", format.name)?;
    }
    let (by_type, all) = totals(rows);
    writeln!(out, "\nper type: tensors, elements, bytes, bits per element")?;
    for (name, total) in by_type.into_iter().chain([("all", all)]) {
        let Total { tensors, elements, bytes } = total;
        let bits = bytes as f64 * 8.0 / elements as f64;
        writeln!(out, "  {name:6} {tensors:6} {elements:>16} {bytes:>16} {bits:>7.3}")?;
    }
    Ok(())
}
