//! Scoring: how probable given tokens are at given positions, by one canvas pass or by the last step of a block. Only
//! what was asked for is kept: no logits of the whole canvas anywhere.

use super::Context;
use super::denoise::Block;
use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Instant;

impl Context {
    /// One pass over `canvas` (1 to the model's canvas positions) behind the timeline, which stays as it is: the natural
    /// logarithm of the probability of each candidate (canvas position, token), in the order given, at temperature 1
    /// without bias and without self-conditioning. Cost: a denoising step, its head without the soft embedding.
    ///
    /// Which canvas is behind the question decides what the numbers mean. With all positions as they are, each says how
    /// well a token fits where the model sees it; with a position replaced by noise, how well it could be guessed.
    ///
    /// [`Error::Argument`]: positions or ids out of range; [`Error::ContextFull`]; [`Error::Cancelled`].
    pub fn score(&mut self, canvas: &[u32], candidates: &[(usize, u32)]) -> Result<Vec<f32>> {
        let (vocab, most) = (self.model.config().vocab, self.model.config().canvas);
        if canvas.is_empty() || canvas.len() > most || canvas.iter().any(|&t| t as usize >= vocab) {
            return Err(Error::argument("canvas", format!("expected 1 to {most} ids below {vocab}")));
        }
        self.check_candidates(canvas.len(), candidates)?;
        self.room_for(canvas.len())?;
        self.prefill(|_, _| ControlFlow::Continue(()))?;
        self.model.file().check_mapping()?;
        let clock = Instant::now();
        self.hidden_of = 0;
        let (start, flag) = (self.tokens.len(), self.cancel.flag());
        let result = self.runner.pass(canvas, start, false, flag);
        self.passed(result)?;
        let scores = self.candidates(candidates)?;
        self.perf.scorings += 1;
        self.perf.scoring += clock.elapsed();
        Ok(scores)
    }

    /// The same numbers from a block's last step: what the model thought there, at temperature 1 and without bias. Errors
    /// as those of [`Context::row_logits`].
    pub fn candidate_log_probs(&mut self, block: &Block, candidates: &[(usize, u32)]) -> Result<Vec<f32>> {
        self.check_hidden(block)?;
        self.check_candidates(block.canvas().len(), candidates)?;
        self.model.file().check_mapping()?;
        self.candidates(candidates)
    }

    fn check_candidates(&self, length: usize, candidates: &[(usize, u32)]) -> Result<()> {
        let vocab = self.model.config().vocab;
        match candidates.iter().find(|&&(position, token)| position >= length || token as usize >= vocab) {
            None => Ok(()),
            Some((position, token)) => {
                let what =
                    format!("ask for token {token} at {position}, expected ids below {vocab} and below {length}");
                Err(Error::argument("candidates", what))
            }
        }
    }

    /// Of the last canvas pass.
    fn candidates(&mut self, candidates: &[(usize, u32)]) -> Result<Vec<f32>> {
        // Only rows that are asked for are multiplied with the output matrix.
        let mut rows: BTreeMap<usize, usize> = candidates.iter().map(|&(position, _)| (position, 0)).collect();
        rows.values_mut().enumerate().for_each(|(i, row)| *row = i);
        let positions: Vec<usize> = rows.keys().copied().collect();
        let wanted: Vec<(usize, u32)> = candidates.iter().map(|&(position, token)| (rows[&position], token)).collect();
        let mut out = vec![0.0; candidates.len()];
        if !candidates.is_empty() {
            let result = self.runner.log_probs(&positions, &wanted, self.cancel.flag(), &mut out);
            self.passed(result)?;
        }
        Ok(out)
    }
}
