//! Files in several parts, `<prefix>-00001-of-00003.gguf` and so on. Part 1 has all keys; the others have only `split.no`
//! (from 0), `split.count` and `split.tensors.count`. Each part is a complete file with whole tensors in it.

use super::Value;
use super::part::{Access, Part, open};
use crate::{Error, Result};
use std::path::{Path, PathBuf};

const NUMBER: &str = "split.no";
const COUNT: &str = "split.count";
const TENSORS: &str = "split.tensors.count";

/// Completes `first` with the other parts of its set; a file that stands alone comes back as it is.
pub fn open_set(first: Part, access: Access) -> Result<Vec<Part>> {
    let count = count(&first)?;
    if count == 1 {
        return Ok(vec![first]);
    }
    let number = first.metadata.u32(NUMBER)?;
    let named = PartName::of(&first.path).ok_or_else(|| {
        let what =
            format!("is part of a split set, but its name does not end in -{:05}-of-{count:05}.gguf", number + 1);
        Error::file(&first.path, what)
    })?;
    if named.count != count {
        let what = format!("is {count}, but the file name says {}", named.count);
        return Err(first.metadata.error(COUNT, what));
    }
    if named.number != number.saturating_add(1) {
        let what = format!("is {number} (from 0), but the file name says part {} (from 1)", named.number);
        return Err(first.metadata.error(NUMBER, what));
    }
    if number != 0 {
        let what = format!("is part {} of {count}: open {}", number + 1, named.path(1).display());
        return Err(Error::file(&first.path, what));
    }
    let mut parts = vec![first];
    for number in 1..count {
        let part = open_part(&named, number, &parts[0], access)?;
        parts.push(part);
    }
    check_tensor_count(&parts)?;
    Ok(parts)
}

/// The error for a part of a set where only a whole file can be used.
pub fn refuse(part: &Part) -> Result<()> {
    match count(part)? {
        1 => Ok(()),
        n => Err(part.metadata.error(COUNT, format!("is {n}: a file in parts must be opened by name"))),
    }
}

fn count(part: &Part) -> Result<u32> {
    match part.metadata.opt_u32(COUNT)? {
        Some(0) => Err(part.metadata.error(COUNT, "is 0")),
        Some(n) => Ok(n),
        None => Ok(1),
    }
}

/// Opens part `number` (from 0) of the set that `first` begins.
fn open_part(named: &PartName, number: u32, first: &Part, access: Access) -> Result<Part> {
    let path = named.path(number + 1);
    if !path.exists() {
        let what = format!("part {} of {} is missing, needed by {}", number + 1, named.count, first.path.display());
        return Err(Error::file(&path, what));
    }
    let part = open(&path, access)?;
    let meta = &part.metadata;
    if meta.u32(NUMBER)? != number {
        return Err(meta.error(NUMBER, format!("is {}, expected {number}", meta.u32(NUMBER)?)));
    }
    if meta.u32(COUNT)? != named.count {
        return Err(meta.error(COUNT, format!("is {}, but {} in part 1", meta.u32(COUNT)?, named.count)));
    }
    if let (Some(here), Some(there)) = (meta.opt_u32(TENSORS)?, first.metadata.opt_u32(TENSORS)?)
        && here != there
    {
        return Err(meta.error(TENSORS, format!("is {here}, but {there} in part 1")));
    }
    Ok(part)
}

fn check_tensor_count(parts: &[Part]) -> Result<()> {
    let meta = &parts[0].metadata;
    let found: usize = parts.iter().map(|part| part.tensors.len()).sum();
    match meta.opt_u32(TENSORS)? {
        Some(n) if n as usize != found => {
            Err(meta.error(TENSORS, format!("is {n}, but the parts have {found} tensors together")))
        }
        _ => Ok(()),
    }
}

/// The keys of part `number` (from 0), beside those that only part 1 has; types as llama.cpp's tool writes them.
pub fn keys(number: usize, count: usize, tensors: usize) -> Result<[(String, Value); 3]> {
    let too_many = |what| move |_| Error::argument("split size", format!("makes too many {what}"));
    let (number, count) = (u16::try_from(number), u16::try_from(count));
    Ok([
        (NUMBER.to_owned(), Value::U16(number.map_err(too_many("parts"))?)),
        (COUNT.to_owned(), Value::U16(count.map_err(too_many("parts"))?)),
        (TENSORS.to_owned(), Value::I32(i32::try_from(tensors).map_err(too_many("tensors"))?)),
    ])
}

/// The name of part `number` (from 0) of the set that stands for the file `target`.
pub fn part_path(target: &Path, number: usize, count: usize) -> Result<PathBuf> {
    let name = target.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::file(target, "is no file name that parts can be named after"))?;
    let prefix = name.strip_suffix(".gguf").unwrap_or(name);
    Ok(target.with_file_name(format!("{prefix}-{:05}-of-{count:05}.gguf", number + 1)))
}

/// A file name taken apart. Numbers are from 1 here, as in names.
struct PartName {
    directory: PathBuf,
    prefix: String,
    number: u32,
    count: u32,
}

impl PartName {
    fn of(path: &Path) -> Option<PartName> {
        let stem = path.file_name()?.to_str()?.strip_suffix(".gguf")?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (prefix, number) = rest.rsplit_once('-')?;
        let five_digits = |s: &str| (s.len() == 5 && s.bytes().all(|b| b.is_ascii_digit())).then(|| s.parse().ok())?;
        let (number, count) = (five_digits(number)?, five_digits(count)?);
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        Some(PartName { directory, prefix: prefix.to_owned(), number, count })
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{}-{number:05}-of-{:05}.gguf", self.prefix, self.count))
    }
}
