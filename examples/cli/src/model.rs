//! Opens what `-m` names, or the built-in model.

use crate::args::{EngineArgs, ModelArgs};
use crate::{Result, builtin};
use dgemma::engine::{Context, ContextParams, Model, ModelParams};
use dgemma::gguf::Gguf;
use std::path::Path;
use std::sync::Arc;

/// The file itself, for what needs no weights.
pub fn open(path: Option<&Path>) -> Result<Gguf> {
    if let Some(path) = path {
        return Ok(Gguf::open(path)?);
    }
    let (name, bytes) = builtin::file().ok_or("no model: name one with -m (none is built in)")?;
    eprintln!("dgemma: no -m given, using the built-in model");
    Ok(Gguf::from_owner(name.as_ref(), Arc::new(bytes))?)
}

/// A model ready to run.
pub fn load(path: Option<&Path>, engine: &EngineArgs) -> Result<Model> {
    let (backend, device) = (engine.backend.into(), engine.device);
    let params = ModelParams {
        backend,
        device,
        threads: engine.threads,
        exact: engine.exact,
        n_gpu_layers: engine.room.place.n_gpu_layers,
        n_cpu_experts: engine.room.place.n_cpu_experts,
        plan_for: sizes(engine),
        ..Default::default()
    };
    Ok(Model::from_gguf(open(path)?, &params, |_| true)?)
}

/// A model with a context, as the options ask.
pub fn load_with_context(args: &ModelArgs) -> Result<(Model, Context)> {
    let model = load(args.model.as_deref(), &args.engine)?;
    let context = context(&model, &args.engine)?;
    Ok((model, context))
}

/// A context, as the options ask.
pub fn context(model: &Model, engine: &EngineArgs) -> Result<Context> {
    Ok(model.context(&sizes(engine))?)
}

fn sizes(engine: &EngineArgs) -> ContextParams {
    ContextParams { size: engine.room.context, chunk: engine.room.chunk, ..Default::default() }
}
