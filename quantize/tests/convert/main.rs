//! The program `dgemma-quantize`, run on small checkpoints: good ones against llama.cpp's files, and every mistake a
//! checkpoint can have.

mod faint;
mod gguf;
mod good;
mod hf;
mod inspect;
mod interchange;
mod interrupted;
mod mistakes;
mod progress;
mod published;
mod quantized;
mod types;
