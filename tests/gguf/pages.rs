//! In what pages a file lies in memory: huge ones are asked for, and a new file leaves no small ones behind.

use crate::roundtrip::Scratch;
use dgemma::gguf::Gguf;
use dgemma::gguf::writer::{Plan, Writer};
use dgemma::quant;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

/// Large enough to hold whole huge pages wherever it begins.
const BYTES: usize = 8 << 20;

/// A file of one tensor, written in small pieces.
fn written(scratch: &Scratch) -> PathBuf {
    let path = scratch.0.join("model.gguf");
    let plan = Plan { name: "w".into(), shape: vec![BYTES / 4], format: quant::by_name("F32").unwrap() };
    let writer = Writer::create(&path, &[], &[plan]).unwrap();
    let piece = [1; 1 << 16];
    (0..BYTES).step_by(piece.len()).for_each(|at| writer.write_at(0, at, &piece).unwrap());
    writer.finish().unwrap();
    path
}

/// Whether huge pages were asked for the memory at `address`, as the system lists it.
fn advised(address: usize) -> bool {
    let (maps, mut inside) = (std::fs::read_to_string("/proc/self/smaps").unwrap(), false);
    for line in maps.lines() {
        let range = line.split(' ').next().unwrap().split_once('-');
        let number = |digits| usize::from_str_radix(digits, 16);
        if let Some((Ok(begin), Ok(end))) = range.map(|(begin, end)| (number(begin), number(end))) {
            inside = (begin..end).contains(&address);
        } else if let (true, Some(flags)) = (inside, line.strip_prefix("VmFlags:")) {
            return flags.split(' ').any(|flag| flag == "hg");
        }
    }
    panic!("{address:#x} is not mapped");
}

/// Protects the speed of products, which wait for small pages: both ways to open a file ask for huge ones.
#[test]
fn opened_files_ask_for_huge_pages() {
    if !Path::new("/sys/kernel/mm/transparent_hugepage").exists() {
        return eprintln!("this system has no huge pages to ask for: not tested");
    }
    let scratch = Scratch::new("huge-pages");
    let path = written(&scratch);
    for open in [Gguf::open, Gguf::read, Gguf::open_guarded] {
        let file = open(&path).unwrap();
        let data = file.tensor("w").unwrap().data;
        assert!(data.iter().all(|&byte| byte == 1));
        assert!(advised(data.as_ptr() as usize + BYTES / 2));
    }
}

/// Protects what the first reader of a new file gets, huge pages where the file system has them: the small ones in which the
/// file was written are gone.
#[test]
fn new_files_are_not_kept_in_memory() {
    let scratch = Scratch::new("forgotten");
    let path = written(&scratch);
    let file = File::open(&path).unwrap();
    // SAFETY: a struct of integers to fill, a file that stays as it is while it is mapped, a byte for each of its pages.
    let (kind, resident, pages) = unsafe {
        let mut stat = std::mem::zeroed::<libc::statfs>();
        assert_eq!(libc::fstatfs(file.as_raw_fd(), &mut stat), 0);
        let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
        let at = libc::mmap(std::ptr::null_mut(), BYTES, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0);
        assert!(at != libc::MAP_FAILED);
        let mut pages = vec![0u8; BYTES / page];
        assert_eq!(libc::mincore(at, BYTES, pages.as_mut_ptr()), 0);
        assert_eq!(libc::munmap(at, BYTES), 0);
        (stat.f_type, pages.iter().filter(|&page| page & 1 == 1).count(), pages.len())
    };
    if kind == libc::TMPFS_MAGIC {
        return eprintln!("temporary files are in memory here: not tested");
    }
    assert!(resident <= pages / 8, "{resident} of {pages} pages are in memory");
}
