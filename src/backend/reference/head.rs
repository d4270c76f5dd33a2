//! Logits, their statistics, the draw and the soft embedding, with one whole row of the vocabulary at a time.

use super::matmul::matmul;
use crate::backend::host_weight::HostWeight;
use crate::backend::{HeadParams, HeadStats, HeadWeights};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};

pub fn logits(table: &HostWeight, x: &[f32], softcap: Option<f32>, out: &mut [f32]) {
    matmul(table, 0, table.rows, x, out);
    if let Some(cap) = softcap {
        out.iter_mut().for_each(|l| *l = cap * (*l / cap).tanh());
    }
}

/// Probabilities of one row.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let e: Vec<f64> = logits.iter().map(|&l| f64::from(l - max).exp()).collect();
    let sum: f64 = e.iter().sum();
    e.into_iter().map(|e| e / sum).collect()
}

/// `out = p * embedding * scale`; p `[vocab]`, out `[hidden]`.
pub fn soft_embedding(embedding: &HostWeight, p: &[f64], scale: f32, out: &mut [f32]) {
    let mut sum = vec![0.0f64; embedding.cols];
    let mut e = vec![0.0; embedding.cols];
    for (token, p) in p.iter().enumerate() {
        embedding.decode(token, 0, &mut e);
        sum.iter_mut().zip(&e).for_each(|(s, &e)| *s += p * f64::from(e));
    }
    out.iter_mut().zip(sum).for_each(|(o, s)| *o = s as f32 * scale);
}

pub fn head(
    weights: HeadWeights<HostWeight>,
    x: &[f32],
    params: &HeadParams,
    soft: &mut [f32],
    stats: &mut HeadStats,
) -> Result<()> {
    let HeadWeights { table, embedding } = weights;
    let mut found = HeadStats::default();
    let mut l = vec![0.0; table.rows];
    for (t, x) in x.chunks_exact(table.cols).enumerate() {
        if params.cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        logits(table, x, params.softcap, &mut l);
        params.bias.iter().for_each(|&(token, bias)| l[token as usize] += bias);
        l.iter_mut().for_each(|l| *l /= params.temperature);
        let p = softmax(&l);
        let best = (0..l.len()).fold(0, |best, v| if l[v] > l[best] { v } else { best });
        found.argmax.push(best as u32);
        found.entropy.push(-p.iter().map(|&p| if p > 0.0 { p * p.ln() } else { 0.0 }).sum::<f64>() as f32);
        found.log_prob.push(p[best].ln() as f32);
        found.sampled.push(draw(&p, f64::from(params.uniforms[t])));
        soft_embedding(embedding, &p, params.soft_scale, &mut soft[t * embedding.cols..][..embedding.cols]);
    }
    *stats = found;
    Ok(())
}

/// `out[i]` = ln of the probability of `wanted[i]` = (row, token).
pub fn log_probs(
    table: &HostWeight,
    x: &[f32],
    softcap: Option<f32>,
    wanted: &[(usize, u32)],
    cancel: &AtomicBool,
    out: &mut [f32],
) -> Result<()> {
    let mut l = vec![0.0; table.rows];
    for (t, x) in x.chunks_exact(table.cols).enumerate() {
        if cancel.load(Ordering::Relaxed) {
            return Err(Error::Cancelled);
        }
        logits(table, x, softcap, &mut l);
        let p = softmax(&l);
        for (&(_, token), out) in wanted.iter().zip(&mut *out).filter(|((row, _), _)| *row == t) {
            *out = p[token as usize].ln() as f32;
        }
    }
    Ok(())
}

/// The first index whose cumulative probability exceeds `u`; the last possible one if rounding leaves none.
fn draw(p: &[f64], u: f64) -> u32 {
    let mut sum = 0.0;
    for (token, p) in p.iter().enumerate() {
        sum += p;
        if sum > u {
            return token as u32;
        }
    }
    p.iter().rposition(|&p| p > 0.0).unwrap_or(0) as u32
}
