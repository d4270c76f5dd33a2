//! The chosen experts of every row, one row and expert at a time.

use super::matmul::matmul;
use super::{Routes, gelu_tanh};
use crate::backend::ExpertWeights;
use crate::backend::host_weight::HostWeight;

pub fn experts(w: ExpertWeights<HostWeight>, x: &[f32], routes: &Routes, out: &mut [f32]) {
    let (mut gate, mut up, mut y) = (vec![0.0; w.ffn], vec![0.0; w.ffn], vec![0.0; w.hidden]);
    for ((x, out), chosen) in x.chunks_exact(w.hidden).zip(out.chunks_exact_mut(w.hidden)).zip(&routes.0) {
        out.fill(0.0);
        for &(expert, weight) in chosen {
            matmul(w.gate.0, expert * w.gate.0.rows + w.gate.1, w.ffn, x, &mut gate);
            matmul(w.up.0, expert * w.up.0.rows + w.up.1, w.ffn, x, &mut up);
            gate.iter_mut().zip(&up).for_each(|(g, u)| *g = gelu_tanh(*g) * u);
            matmul(w.down, expert * w.down.rows, w.hidden, &gate, &mut y);
            out.iter_mut().zip(&y).for_each(|(o, y)| *o += weight * y);
        }
    }
}
