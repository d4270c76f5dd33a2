//! `dgemma plan`: what of a model would lie where on a GPU. Reads the file's header only.

use crate::args::PlanArgs;
use crate::{Result, model};
use dgemma::backend::cuda::{Cuda, Rounding};
use dgemma::engine::{ContextParams, MemoryPlan, PlanParams, Room};
use std::io::Write as _;
use std::process::ExitCode;

/// Prints the plan; where it does not fit, ends with what would.
pub fn run(args: &PlanArgs) -> Result<ExitCode> {
    let file = model::open(args.model.as_deref())?;
    let params = PlanParams {
        n_gpu_layers: args.room.place.n_gpu_layers,
        n_cpu_experts: args.room.place.n_cpu_experts,
        exact: args.exact,
        context: ContextParams { size: args.room.context, chunk: args.room.chunk, kv: args.kv.map(Into::into) },
    };
    let room = room(args)?;
    let plan = MemoryPlan::for_file(&file, &params, &room)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{plan}{:<36}{:>9.3} GB", format!("free on {}", room.device), room.free as f64 / 1e9)?;
    MemoryPlan::fitting(&file, &params, &room)?;
    Ok(ExitCode::SUCCESS)
}

fn room(args: &PlanArgs) -> Result<Room> {
    let Some(gb) = args.memory else { return Ok(Room::of(&Cuda::new(args.device, 1)?)?) };
    let (total, device) = ((gb * 1e9) as usize, format!("a device of {gb} GB"));
    let (processors, shared, host_free) = (args.processors, args.shared, Room::host());
    let rounding = Rounding::of((9, 0)); // the operands that take more
    Ok(Room { device, free: total, total, processors, shared, rounding, host_free })
}
