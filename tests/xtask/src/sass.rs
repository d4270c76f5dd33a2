//! Loops in the disassembly of a kernel: which instructions a warp issues on one pass of the innermost loop around the
//! tensor-core instructions.
//!
//! A pass is walked from the loop's head: unconditional branches are followed, conditional ones are not taken, but for those
//! that leave the loop over rows of activations once the wanted rows are multiplied. So a guarded copy counts as if it were
//! made, and a loop within the loop (of copies) as if it ran once. Instructions whose predicate is off take a slot, too.

use std::path::Path;
use std::process::Command;

/// What an instruction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Matrix instructions of the tensor cores.
    Tensor,
    /// Integers, logic, moves, predicates; also conversions that are done there (I2FP, F2FP).
    Integer,
    /// f32, and pairs of 16-bit floats.
    Float,
    /// Conversions that are done a quarter as fast (I2F, F2I, F2F).
    Convert,
    /// To and from shared memory, and between lanes.
    Shared,
    /// To and from global memory, copies to shared memory among them.
    Global,
    /// Branches, barriers, waiting.
    Control,
}

impl Class {
    pub const ALL: [Class; 7] =
        [Class::Tensor, Class::Integer, Class::Float, Class::Convert, Class::Shared, Class::Global, Class::Control];

    pub fn name(self) -> &'static str {
        match self {
            Class::Tensor => "tensor",
            Class::Integer => "integer",
            Class::Float => "float",
            Class::Convert => "convert",
            Class::Shared => "shared",
            Class::Global => "global",
            Class::Control => "control",
        }
    }
}

/// An instruction: where it is, whether it has a predicate, its name, and where a branch goes.
#[derive(Debug)]
pub struct Instruction {
    at: u64,
    guarded: bool,
    name: String,
    target: Option<u64>,
}

/// What a warp issues on one pass.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// By class.
    pub slots: [u64; 7],
    /// Multiplications of one byte each on the tensor cores; 16-bit numbers count twice.
    tensor_bytes: u64,
    /// Bytes to and from shared memory, 32 lanes together.
    shared_bytes: u64,
}

impl Pass {
    pub fn total(&self) -> u64 {
        self.slots.iter().sum()
    }

    /// Clocks of a processor that each pipe needs: tensor cores, integers, floats, conversions, shared memory.
    ///
    /// Results per clock and processor: 64 of 32-bit integers and logic, 128 of floats (pairs count as one), 16 of the slow
    /// conversions (CUDA C++ Programming Guide, throughput of native arithmetic instructions, compute capability 9.0);
    /// 128 bytes of shared memory (same guide). Tensor cores: 4,096 products of 8 bits (data sheet: 1,979 TOP/s), of
    /// which mma.sync reaches about 60 % on Hopper (others' measurements of it against wgmma).
    pub fn pipe_clocks(&self) -> [f64; 5] {
        let of = |class: Class, lanes: f64| 32.0 * self.slots[class as usize] as f64 / lanes;
        [
            self.tensor_bytes as f64 / (0.6 * 4096.0),
            of(Class::Integer, 64.0),
            of(Class::Float, 128.0),
            of(Class::Convert, 16.0),
            self.shared_bytes as f64 / 128.0,
        ]
    }
}

/// The instructions of `entry` in a fatbin, for an architecture.
pub fn function(cuobjdump: &Path, fatbin: &Path, architecture: &str, entry: &str) -> Result<Vec<Instruction>, String> {
    let mut command = Command::new(cuobjdump);
    command.arg("-arch").arg(format!("sm_{architecture}")).args(["-fun", entry, "-sass"]).arg(fatbin);
    let found = parse(&crate::units::run(&mut command)?, entry);
    if found.is_empty() { Err(format!("{}: no {entry} for sm_{architecture}", fatbin.display())) } else { Ok(found) }
}

/// `/*0560*/  @P0 BRA 0x720 ;  /* encoding */` becomes an instruction.
fn parse(disassembly: &str, entry: &str) -> Vec<Instruction> {
    let ours = disassembly.lines().skip_while(|line| line.split("Function : ").nth(1) != Some(entry)).skip(1);
    ours.take_while(|line| !line.contains("Function : ")).filter_map(instruction).collect()
}

fn instruction(line: &str) -> Option<Instruction> {
    let (at, rest) = line.trim().strip_prefix("/*")?.split_once("*/")?;
    let at = u64::from_str_radix(at, 16).ok()?;
    let mut words = rest.split(';').next()?.split_whitespace();
    let (name, guarded) = match words.next()? {
        guard if guard.starts_with('@') => (words.next()?, guard != "@PT"),
        name => (name, false),
    };
    let branch = name == "BRA" || name.starts_with("BRA.");
    let operands: Vec<&str> = words.collect();
    let hex = |word: &&str| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok();
    let target = operands.last().and_then(hex).filter(|_| branch);
    // `BRA P0, 0x20` and `BRA.U UP0, 0x20` are conditional as well.
    let guarded = guarded || branch && operands.len() > 1;
    Some(Instruction { at, guarded, name: name.to_owned(), target })
}

impl Instruction {
    fn class(&self) -> Class {
        let stem = self.name.split('.').next().unwrap_or_default();
        match stem {
            "IMMA" | "HMMA" | "QMMA" | "OMMA" | "HGMMA" | "IGMMA" | "QGMMA" => Class::Tensor,
            "I2F" | "F2I" | "F2F" | "FRND" | "MUFU" => Class::Convert,
            "LDS" | "LDSM" | "STS" | "STSM" | "SHFL" | "ATOMS" => Class::Shared,
            "LDG" | "STG" | "LDGSTS" | "LD" | "ST" | "UBLKCP" | "UTMALDG" => Class::Global,
            "BRA" | "BSSY" | "BSYNC" | "BAR" | "WARPSYNC" | "NOP" | "EXIT" | "LDGDEPBAR" | "DEPBAR" | "SYNCS"
            | "ERRBAR" | "BREAK" | "YIELD" => Class::Control,
            "FADD" | "FMUL" | "FFMA" | "HADD2" | "HMUL2" | "HFMA2" | "FADD2" | "FMUL2" | "FFMA2" => Class::Float,
            _ => Class::Integer,
        }
    }

    /// Products of an `IMMA.16832.S8.S8` or `HMMA.16816.F32.BF16`, and what one of them counts.
    fn products(&self) -> (u64, u64) {
        let size = if self.class() == Class::Tensor { self.name.split('.').nth(1).unwrap_or_default() } else { "" };
        let columns = match size {
            "16816" => 16,
            "16832" => 32,
            "1688" => 8,
            _ => 0,
        };
        (16 * 8 * columns, if self.name.starts_with('H') { 2 } else { 1 })
    }

    /// Bytes of 32 lanes through shared memory.
    fn shared_bytes(&self) -> u64 {
        let each = if self.name.contains(".128") {
            16
        } else if self.name.contains(".64") {
            8
        } else {
            4
        };
        let moves = self.class() == Class::Shared || self.name.starts_with("LDGSTS");
        if moves { 32 * each } else { 0 }
    }
}

/// One pass of the innermost loop that multiplies `products` numbers; after each `products_per_exit` the loop over rows ends.
/// Where bytes are multiplied, 16-bit products are those of minimums: 16 numbers of a row for 64 of its bytes.
pub fn hot_pass(code: &[Instruction], products: u64, products_per_exit: u64) -> Result<Pass, String> {
    let index = |at: u64| code.binary_search_by_key(&at, |i| i.at).ok();
    let loops = code.iter().enumerate().filter_map(|(last, i)| {
        let first = index(i.target?)?;
        (first < last).then_some((first, last))
    });
    let tensor = |&(first, last): &(usize, usize)| code[first..=last].iter().any(|i| i.class() == Class::Tensor);
    let loops: Vec<(usize, usize)> = loops.filter(tensor).collect();
    let inside = |a: &(usize, usize), b: &(usize, usize)| a != b && a.0 >= b.0 && a.1 <= b.1;
    let mut found = Vec::new();
    for l in loops.iter().filter(|l| !loops.iter().any(|other| inside(other, l))) {
        let (multiplied, pass) = walk(code, *l, products_per_exit);
        if multiplied == products {
            return Ok(pass);
        }
        found.push(multiplied);
    }
    Err(format!("no loop multiplies {products} numbers per pass, but {found:?}"))
}

/// Walks a pass of a loop; products that it multiplied, and its instructions.
fn walk(code: &[Instruction], (first, last): (usize, usize), products_per_exit: u64) -> (u64, Pass) {
    let (mut all, mut since_exit, mut at, mut pass) = (0, 0, first, Pass::default());
    let of_bytes = code[first..=last].iter().any(|i| i.name.starts_with("IMMA"));
    while at <= last {
        let i = &code[at];
        pass.slots[i.class() as usize] += 1;
        let (products, bytes) = i.products();
        let of_minimums = of_bytes && i.name.starts_with("HMMA");
        all += if of_minimums { 0 } else { products };
        since_exit += if of_minimums { 4 * products } else { products };
        pass.tensor_bytes += products * bytes;
        // The copies' dummies read nothing: `@!PT LDS RZ, [RZ]`.
        pass.shared_bytes += if i.guarded && i.class() == Class::Shared { 0 } else { i.shared_bytes() };
        let enough = since_exit >= products_per_exit;
        at = match i.target.filter(|target| *target > i.at && (!i.guarded || enough)) {
            Some(target) => {
                since_exit = 0;
                code.partition_point(|other| other.at < target)
            }
            None => at + 1,
        };
    }
    (all, pass)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop as cuobjdump prints one (experts_down of Q4_0, shortened): copies in a loop of their own, two groups of rows,
    /// of which the second may be left out, and a loop around it.
    const SNIPPET: &str = include_str!("two_groups.sass");

    #[test]
    fn instructions_are_understood() {
        let code = parse(SNIPPET, "two_groups");
        assert_eq!(code.len(), 29, "the other function is not ours, and encodings are no instructions");
        let named = |name: &str| code.iter().find(|i| i.name.starts_with(name)).unwrap();
        assert_eq!((named("BRA").guarded, named("BRA").target), (true, Some(0x80)));
        assert_eq!(named("IMMA").products(), (4096, 1));
        assert_eq!(named("LDGSTS").shared_bytes(), 512);
        let classes = ["IMMA", "LOP3", "FFMA", "I2FP", "I2F.", "LDS.128", "LDGSTS", "BAR", "DEPBAR"];
        use Class::*;
        let want = [Tensor, Integer, Float, Integer, Convert, Shared, Global, Control, Control];
        assert_eq!(classes.map(|name| named(name).class()), want);
    }

    #[test]
    fn a_pass_ends_with_the_rows_that_are_there() {
        let code = parse(SNIPPET, "two_groups");
        // 16 x 32 weights by 8 rows: one instruction of the tensor cores, the second group is left out.
        let one = hot_pass(&code, 4096, 4096).unwrap();
        assert_eq!(one.slots, [1, 5, 4, 0, 4, 2, 6]);
        let two = hot_pass(&code, 8192, 8192).unwrap();
        assert_eq!(two.slots, [2, 6, 5, 1, 5, 2, 6]);
        assert_eq!(two.pipe_clocks(), [8192.0 / (0.6 * 4096.0), 3.0, 1.25, 2.0, 15.0]);
        assert!(hot_pass(&code, 3000, 8192).unwrap_err().contains("[8192]"));
    }

    #[test]
    fn products_of_minimums_end_with_the_rows_that_are_there() {
        let lines = [
            "IMMA.16832.S8.S8 R0, R4.ROW, R8.COL, RZ",
            "IMMA.16832.S8.S8 R0, R4.ROW, R8.COL, RZ",
            "HMMA.16816.F32.BF16 R0, R4, R8, RZ",
            "@P0 BRA 0x70",
            "HMMA.16816.F32.BF16 R0, R4, R8, RZ",
            "FFMA R0, R1, R2, R3",
            "IADD3 R0, R1, R2, R3",
            "@P1 BRA 0x0",
        ];
        let code: Vec<_> =
            (0..).zip(lines).filter_map(|(i, l)| instruction(&format!("/*{:04x}*/ {l} ;", 16 * i))).collect();
        let pass = hot_pass(&code, 8192, 8192).unwrap();
        assert_eq!((pass.slots, pass.tensor_bytes), ([3, 0, 0, 0, 0, 0, 2], 8192 + 2 * 2048));
        assert_eq!(hot_pass(&code, 8192, u64::MAX).unwrap().slots, [4, 1, 1, 0, 0, 0, 2]);
    }
}
