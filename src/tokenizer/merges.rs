//! The merges of a vocabulary, in twelve bytes each: lists by left token, in each the right ones ascending.

use super::texts::Texts;
use super::vocabulary::split_merge;
use crate::{Error, Result};

pub(super) struct Merges {
    /// `[tokens + 1]`: token t is the left one of `merges[begin[t]..begin[t + 1]]`.
    begin: Vec<u32>,
    /// The right token, and the rank.
    merges: Vec<(u32, u32)>,
    /// By rank: the token with both texts.
    made: Vec<u32>,
}

impl Merges {
    /// `merges` in order of rank, each `left right`. Of equal ones the last counts, as in the reference.
    pub(super) fn new(texts: &Texts, merges: &[&str]) -> Result<Merges> {
        let mut pairs = Vec::with_capacity(merges.len());
        let mut made = Vec::with_capacity(merges.len());
        let mut both = String::new();
        for (rank, merge) in (0..).zip(merges) {
            let (left, right) = split_merge(merge).ok_or_else(|| {
                Error::Tokenizer(format!("merge {rank}, {merge:?}, is not two parts and a space between them"))
            })?;
            both.clear();
            both.extend([left, right]);
            let id = |text: &str| {
                let what = || format!("merge {rank}, {merge:?}, takes or makes {text:?}, which is not a token");
                texts.find(text).ok_or_else(|| Error::Tokenizer(what()))
            };
            pairs.push((id(left)?, id(right)?));
            made.push(id(&both)?);
        }
        let (begin, merges) = by_left(texts.len(), &pairs);
        Ok(Merges { begin, merges, made })
    }

    /// The rank of a pair that merges.
    pub(super) fn rank(&self, left: u32, right: u32) -> Option<u32> {
        let list = &self.merges[self.begin[left as usize] as usize..self.begin[left as usize + 1] as usize];
        let behind = list.partition_point(|merge| merge.0 <= right);
        list[..behind].last().filter(|merge| merge.0 == right).map(|merge| merge.1)
    }

    /// What the merge of this rank makes.
    pub(super) fn made(&self, rank: u32) -> u32 {
        self.made[rank as usize]
    }
}

/// Counting sort of pairs by their left token, then of each list by the right one.
fn by_left(tokens: usize, pairs: &[(u32, u32)]) -> (Vec<u32>, Vec<(u32, u32)>) {
    let mut begin = vec![0; tokens + 1];
    pairs.iter().for_each(|pair| begin[pair.0 as usize + 1] += 1);
    for token in 0..tokens {
        begin[token + 1] += begin[token];
    }
    let mut next = begin.clone();
    let mut merges = vec![(0, 0); pairs.len()];
    for (rank, &(left, right)) in (0..).zip(pairs) {
        merges[next[left as usize] as usize] = (right, rank);
        next[left as usize] += 1;
    }
    for list in begin.windows(2) {
        merges[list[0] as usize..list[1] as usize].sort_unstable();
    }
    (begin, merges)
}
