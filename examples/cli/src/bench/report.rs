//! What was measured as JSON; the table for people and the lines of `--csv` are made of it, so all say the same.

use super::machine::{Machine, Peak};
use super::measure::{Measured, Timed, median};
use super::work::{self, Kind, Work};
use dgemma::engine::{LaunchGaps, MemoryPlan, Model, Phase, Spent};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// One run.
pub struct Run<'a> {
    pub model: &'a Model,
    pub machine: &'a Machine,
    pub exact: bool,
    /// What was to lie where on a GPU.
    pub plan: Option<MemoryPlan>,
    pub measured: Measured,
}

/// Numbers with four digits say all there is to say.
pub fn number(x: f64) -> Value {
    if !x.is_finite() {
        return Value::Null;
    }
    let digits = (3 - x.abs().max(1e-12).log10().floor() as i32).clamp(0, 9);
    let factor = 10f64.powi(digits);
    json!((x * factor).round() / factor)
}

fn ms(time: std::time::Duration) -> Value {
    number(time.as_secs_f64() * 1e3)
}

/// How fast the file came to the device, in all of the load but the tokenizer, and of what the link can do.
fn upload(run: &Run, out: &mut Value) {
    let load = &run.measured.load;
    let seconds = load.total.saturating_sub(load.tokenizer).as_secs_f64();
    let rate = run.model.sizes().tensor_bytes as f64 / seconds / 1e9;
    let ceiling = out["ceilings"]["upload_gbs"]["device"].as_f64();
    out["load"]["upload_gbs"] = number(rate);
    out["load"]["upload_share"] = ceiling.map_or(Value::Null, |ceiling| number(rate / ceiling));
}

/// All of it, as an object.
pub fn json(run: &Run) -> Value {
    let (m, c) = (&run.measured, run.model.config());
    let sizes = run.model.sizes();
    let mut out = json!({
        "model": {
            "file": run.model.file().path().display().to_string(),
            "bytes": sizes.file_bytes, "layers": c.layers.len(), "hidden": c.hidden, "vocab": c.vocab,
            "canvas": c.canvas, "experts": c.experts, "top_k": c.top_k,
            "experts_type": work::format(run.model.file(), Phase::Experts).map(|f| f.name),
            "head_type": work::format(run.model.file(), Phase::Head).map(|f| f.name),
        },
        "run": about(run),
        "ceilings": run.machine.ceilings(),
        "load": {
            "total_ms": ms(m.load.total), "tokenizer_ms": ms(m.load.tokenizer),
            "without_tokenizer_ms": ms(m.load.total.saturating_sub(m.load.tokenizer)),
        },
        "memory": memory(run, sizes.file_bytes),
    });
    if run.machine.device().is_some() {
        upload(run, &mut out);
    }
    let mut part = |name: &str, value: Value| out.as_object_mut().and_then(|out| out.insert(name.into(), value));
    if let Some(prefill) = &m.prefill {
        let mut value = timed(run, prefill);
        let rows = prefill.pass.rows as f64;
        value["tokens_per_second"] = number(rows / prefill.all.wall.as_secs_f64());
        value["tokens_per_cpu_second"] = number(rows / prefill.all.cpu.as_secs_f64());
        part("prefill", value);
    }
    if let Some(first) = m.steps.first() {
        part("first_step", timed(run, first));
    }
    if m.steps.len() > 1 {
        let others = &m.steps[1..];
        let mut value = timed(run, &median(others));
        let times = others.iter().map(|t| t.all.wall);
        value["ms_least"] = ms(times.clone().min().unwrap_or_default());
        value["ms_mean"] = ms(times.clone().sum::<std::time::Duration>() / others.len() as u32);
        value["ms_each"] = times.map(ms).collect();
        part("step", value);
    }
    if let Some(gaps) = &m.gaps {
        part("gaps", launch_gaps(gaps));
    }
    if let Some(n) = &m.next_block {
        let apart = Spent { wall: n.encode.all.wall + n.first_step.wall, cpu: n.encode.all.cpu + n.first_step.cpu };
        let saved =
            |f: fn(&Spent) -> std::time::Duration| number(1.0 - f(&n.shared).as_secs_f64() / f(&apart).as_secs_f64());
        let value = json!({
            "encode": timed(run, &n.encode),
            "first_step_ms": ms(n.first_step.wall), "apart_ms": ms(apart.wall), "apart_cpu_ms": ms(apart.cpu),
            "shared_ms": ms(n.shared.wall), "shared_cpu_ms": ms(n.shared.cpu),
            "saved": saved(|s| s.wall), "saved_by_cpu_time": saved(|s| s.cpu),
        });
        part("next_block", value);
    }
    if let Some(g) = &m.generated {
        let seconds = g.total.as_secs_f64();
        let value = json!({
            "generations": g.generations, "tokens": g.tokens, "canvases": g.canvases,
            "steps_per_canvas": number(f64::from(g.steps) / g.canvases as f64),
            "tokens_per_step": number(g.tokens as f64 / f64::from(g.steps)),
            "tokens_per_second": number(g.tokens as f64 / seconds),
            "first_canvas_ms": ms(g.first_canvas),
        });
        part("generation", value);
    }
    out
}

fn about(run: &Run) -> Value {
    match run.machine {
        Machine::Processor { level, threads, .. } => json!({
            "processor": processor(), "level": level.name(), "threads": threads, "exact": run.exact,
            "kv": run.measured.kv.name(),
        }),
        Machine::Device { cuda, .. } => json!({
            "device": cuda.info().name,
            "capability": format!("{}.{}", cuda.info().capability.0, cuda.info().capability.1),
            "processors": cuda.info().processors, "exact": run.exact, "kv": run.measured.kv.name(),
            "n_gpu_layers": run.plan.as_ref().map(|plan| plan.n_gpu_layers),
            "n_cpu_experts": run.plan.as_ref().map(|plan| plan.n_cpu_experts),
            // The times of passes are those without waits; phases are of a second pass, in which the host waits for each.
            "phases": "with a wait after each",
        }),
    }
}

fn launch_gaps(g: &LaunchGaps) -> Value {
    let (between, inside) = (g.between(), g.inside());
    json!({
        "nodes": g.replays.nodes, "step_ms": number(g.step * 1e3), "replay_ms": number(g.replays.seconds * 1e3),
        "padded_ms": number(g.replays.padded_seconds * 1e3), "padding": g.replays.padding,
        "between_us": number(between * 1e6), "each_us": number(g.each() * 1e6), "inside_us": number(inside * 1e6),
        "share_between": number(between / g.step), "share_inside": number(inside / g.step),
        "share": number((between + inside) / g.step),
    })
}

fn memory(run: &Run, file: u64) -> Value {
    let m = &run.measured;
    // On a GPU the host holds neither keys and values nor, for long, the file.
    let rest = |peak: u64, mapped: u64| peak as i64 - mapped as i64 - m.kv_bytes as i64;
    if let (Machine::Device { cuda, memory, .. }, Some(plan)) = (run.machine, &run.plan) {
        let since = |taken: Option<usize>| taken.map(|taken| taken as i64 - memory.before as i64);
        return json!({
            "device_bytes": cuda.info().memory,
            "context_bytes": memory.context,
            "device_loaded_bytes": since(m.device_loaded),
            "device_used_bytes": since(m.device_used),
            "unplanned_bytes": since(m.device_used).map(|used| used - plan.device_loaded() as i64),
            "plan": {
                "device_bytes": plan.device_loaded(), "weights_bytes": plan.weights, "slots_bytes": plan.slots,
                "kv_bytes": plan.kv, "activation_bytes": plan.activations, "work_bytes": plan.work,
                "reserve_bytes": plan.reserve, "host_weights_bytes": plan.host_weights,
            },
            "file_bytes": file, "kv_bytes": m.kv_bytes, "activation_bytes": m.activation_bytes,
            "host_peak_bytes": m.memory.map(|x| x.peak), "file_resident_bytes": m.memory.map(|x| x.file),
        });
    }
    json!({
        "peak_bytes": m.memory.map(|x| x.peak), "file_bytes": file, "file_resident_bytes": m.memory.map(|x| x.file),
        "file_huge_bytes": m.memory.and_then(|x| x.huge), "kv_bytes": m.kv_bytes, "activation_bytes": m.activation_bytes,
        "rest_bytes": m.memory.map(|x| rest(x.peak, x.file)),
    })
}

/// A pass: what it took, and each phase against the ceilings.
fn timed(run: &Run, t: &Timed) -> Value {
    let mut phases = Map::new();
    let mut sum = Work::default();
    for phase in Phase::ALL {
        let work = work::of(run.model, &t.pass, phase, &t.phases);
        sum = work::add(sum, work);
        phases.insert(phase.name().into(), phase_json(run, phase, work, t.phases[phase]));
    }
    let (in_phases, whole) = (t.phases.total(), t.waited.unwrap_or(t.all));
    let sampler =
        Spent { wall: whole.wall.saturating_sub(in_phases.wall), cpu: whole.cpu.saturating_sub(in_phases.cpu) };
    phases.insert("sampler".into(), phase_json(run, Phase::Other, Work::default(), sampler));
    let (wall, cpu) = (t.all.wall.as_secs_f64(), t.all.cpu.as_secs_f64());
    let layers = t.phases.layers.max(1) as f64;
    let slots = t.pass.rows as f64 * run.model.config().top_k as f64;
    let touched = t.phases.experts_touched as f64 / layers;
    // What a step takes that makes its soft embedding of all tokens, as any other engine does.
    let skipped = match t.pass.kind {
        Kind::Prompt => 0.0,
        Kind::Canvas { .. } => {
            work::dense_soft_embedding(run.model, t.pass.rows)
                - work::of(run.model, &t.pass, Phase::SoftEmbedding, &t.phases).flop
        }
    };
    // What reading the weights and the cache takes at least, at the ceiling of reads.
    let floor = sum.bytes / 1e9 / run.machine.read_gbs();
    let mut out = json!({
        "rows": t.pass.rows, "prefix": t.pass.start, "ms": number(wall * 1e3), "cpu_ms": number(cpu * 1e3),
        "gflop": number(sum.flop / 1e9), "gflop_with_dense_soft_embedding": number((sum.flop + skipped) / 1e9),
        "gb": number(sum.bytes / 1e9),
        "floor_ms": number(floor * 1e3), "times_floor": number(wall / floor),
        "gflops": number(sum.flop / wall / 1e9),
        "experts_touched": number(touched), "rows_per_expert": number(slots / touched),
        "rows_of_largest_expert": number(t.phases.largest_expert as f64 / layers),
    });
    if let Some(waited) = t.waited {
        out["ms_with_waits"] = ms(waited.wall);
    } else {
        out["gflops_per_cpu_second"] = number(sum.flop / cpu / 1e9);
        out["dense_gflops_per_cpu_second"] = number((sum.flop + skipped) / cpu / 1e9);
    }
    out["phases"] = phases.into();
    out
}

fn phase_json(run: &Run, phase: Phase, work: Work, spent: Spent) -> Value {
    let Peak { name, rate, by_cpu_time } = run.machine.peak(run.model, phase, run.exact);
    let (wall, cpu) = (spent.wall.as_secs_f64(), spent.cpu.as_secs_f64());
    let mut out = json!({"ms": number(wall * 1e3), "cpu_ms": number(cpu * 1e3)});
    if work.flop > 0.0 {
        out["gflop"] = number(work.flop / 1e9);
        out["gb"] = number(work.bytes / 1e9);
        out["gflops"] = number(work.flop / wall / 1e9);
        out["gbs"] = number(work.bytes / wall / 1e9);
        out["peak"] = name.into();
        out["share_of_peak"] = number(work.flop / wall / 1e9 / rate);
        if let Some(rate) = by_cpu_time {
            out["gflops_per_cpu_second"] = number(work.flop / cpu / 1e9);
            out["share_of_peak_by_cpu_time"] = number(work.flop / cpu / 1e9 / rate);
        }
        out["share_of_read"] = number(work.bytes / wall / 1e9 / run.machine.read_gbs());
    }
    out
}

fn processor() -> Option<String> {
    let info = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split(':').nth(1)?.trim().to_owned())
}

/// One line for each number: where it is in the JSON, and what it is.
pub fn csv(json: &Value) -> String {
    fn lines(path: &str, value: &Value, out: &mut String) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| lines(&below(name), value, out)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(i, value)| lines(&below(&i.to_string()), value, out));
            }
            Value::String(text) => *out += &format!("{path},\"{}\"\n", text.replace('"', "\"\"")),
            Value::Null => *out += &format!("{path},\n"),
            other => *out += &format!("{path},{other}\n"),
        }
    }
    let mut out = "what,value\n".to_owned();
    lines("", json, &mut out);
    out
}

/// For people.
pub fn table(json: &Value) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_table(json, &mut out);
    out
}

fn write_table(json: &Value, out: &mut String) -> std::fmt::Result {
    let text = |path: &str| match json.pointer(path) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(s)) => s.clone(),
        Some(Value::Number(n)) => n.to_string(),
        Some(other) => other.to_string(),
    };
    let megabytes =
        |path: &str| json.pointer(path).and_then(Value::as_f64).map_or("-".into(), |b| format!("{:.1}", b / 1e6));
    writeln!(
        out,
        "model       {}: {} MB, {} layers, vocabulary {}, experts {}, head {}",
        text("/model/file"),
        megabytes("/model/bytes"),
        text("/model/layers"),
        text("/model/vocab"),
        text("/model/experts_type"),
        text("/model/head_type")
    )?;
    let device = json["run"]["device"].is_string();
    if device {
        write!(out, "device      {}, compute capability {}, ", text("/run/device"), text("/run/capability"))?;
        write!(out, "{} processors", text("/run/processors"))?;
    } else {
        write!(out, "processor   {}, ", text("/run/processor"))?;
        write!(out, "{} with {} thread(s)", text("/run/level"), text("/run/threads"))?;
    }
    writeln!(out, ", K/V {}{}", text("/run/kv"), if json["run"]["exact"] == true { ", exact" } else { "" })?;
    for (name, key, unit) in [
        ("int8", "int8_gops", "GOPS"),
        ("bf16", "bf16_gflops", "GFLOP/s"),
        ("f32", "f32_gflops", "GFLOP/s"),
        ("read", "read_gbs", "GB/s"),
        ("copy", "copy_gbs", "GB/s"),
        ("upload", "upload_gbs", "GB/s"),
    ] {
        let at = |field: &str| text(&format!("/ceilings/{key}/{field}"));
        if json["ceilings"][key]["device"].is_number() {
            writeln!(out, "ceiling     {name:<6} {:>6} {unit}", at("device"))?;
        } else if json["ceilings"][key].is_object() {
            writeln!(
                out,
                "ceiling     {name:<5} {:>6} {unit} on one thread, {} on all",
                at("one_thread"),
                at("all_threads")
            )?;
        }
    }
    writeln!(out, "load        {} ms, of which tokenizer {} ms", text("/load/total_ms"), text("/load/tokenizer_ms"))?;
    if device {
        writeln!(out, "upload      {} GB/s, {} of the ceiling", text("/load/upload_gbs"), text("/load/upload_share"))?;
        writeln!(
            out,
            "memory      {} MB of the device's {} (planned {}, and {} in reserve): file {}, K/V {}, activations {}; host peak {} MB",
            megabytes("/memory/device_used_bytes"),
            megabytes("/memory/device_bytes"),
            megabytes("/memory/plan/device_bytes"),
            megabytes("/memory/plan/reserve_bytes"),
            megabytes("/memory/file_bytes"),
            megabytes("/memory/kv_bytes"),
            megabytes("/memory/activation_bytes"),
            megabytes("/memory/host_peak_bytes")
        )?;
    } else {
        writeln!(
            out,
            "memory      peak {} MB = file {} (of {}, {} in huge pages) + K/V {} + {} MB",
            megabytes("/memory/peak_bytes"),
            megabytes("/memory/file_resident_bytes"),
            megabytes("/memory/file_bytes"),
            megabytes("/memory/file_huge_bytes"),
            megabytes("/memory/kv_bytes"),
            megabytes("/memory/rest_bytes")
        )?;
    }
    if json["prefill"].is_object() {
        write!(out, "prefill     {} tokens: {} tokens/s", text("/prefill/rows"), text("/prefill/tokens_per_second"))?;
        if !device {
            write!(out, ", {} per processor second", text("/prefill/tokens_per_cpu_second"))?;
        }
        writeln!(out)?;
    }
    if json["gaps"].is_object() {
        let percent = |key: &str| json["gaps"][key].as_f64().map_or("-".into(), |x| format!("{:.1} %", 100.0 * x));
        writeln!(
            out,
            "gaps        {} of a step of {} ms: {} us ({}) before the next one, at most {} us ({}) at {} starts within",
            percent("share"),
            text("/gaps/step_ms"),
            text("/gaps/between_us"),
            percent("share_between"),
            text("/gaps/inside_us"),
            percent("share_inside"),
            text("/gaps/nodes")
        )?;
    }
    if json["generation"].is_object() {
        writeln!(
            out,
            "generation  {} steps per canvas, {} tokens per step, {} tokens/s, first canvas after {} ms",
            text("/generation/steps_per_canvas"),
            text("/generation/tokens_per_step"),
            text("/generation/tokens_per_second"),
            text("/generation/first_canvas_ms")
        )?;
    }
    if json["next_block"].is_object() {
        writeln!(
            out,
            "next block  encoding {} ms + first step {} ms = {} ms apart, {} ms in one pass; processor time {} and {} ms",
            text("/next_block/encode/ms"),
            text("/next_block/first_step_ms"),
            text("/next_block/apart_ms"),
            text("/next_block/shared_ms"),
            text("/next_block/apart_cpu_ms"),
            text("/next_block/shared_cpu_ms")
        )?;
    }
    for (name, title) in
        [("prefill", "prefill"), ("first_step", "first step"), ("step", "step, the median of those after the first")]
    {
        if json[name].is_object() {
            write_phases(&json[name], title, out)?;
        }
    }
    Ok(())
}

fn write_phases(part: &Value, title: &str, out: &mut String) -> std::fmt::Result {
    let text = |value: &Value| if value.is_null() { String::new() } else { value.to_string() };
    let waited = part["ms_with_waits"].as_f64();
    write!(
        out,
        "\n{title}: {} rows behind {}, {} ms ({} ms of processor time), {} times the {} ms that reading {} GB takes; {} GFLOP",
        text(&part["rows"]),
        text(&part["prefix"]),
        text(&part["ms"]),
        text(&part["cpu_ms"]),
        text(&part["times_floor"]),
        text(&part["floor_ms"]),
        text(&part["gb"]),
        text(&part["gflop"]),
    )?;
    if waited.is_none() {
        write!(
            out,
            ", {} GFLOP/s per processor second ({} with a dense soft embedding)",
            text(&part["gflops_per_cpu_second"]),
            text(&part["dense_gflops_per_cpu_second"]),
        )?;
    }
    writeln!(
        out,
        "; {} experts touched, {} rows each, {} at most",
        text(&part["experts_touched"]),
        text(&part["rows_per_expert"]),
        text(&part["rows_of_largest_expert"]),
    )?;
    if waited.is_some() {
        let ms = text(&part["ms_with_waits"]);
        writeln!(out, "{ms} ms with a wait after each phase, as below; the head makes the soft embedding as well")?;
    }
    writeln!(
        out,
        "{:<21} {:>9} {:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8}  peak",
        "phase", "ms", "time", "GFLOP", "GFLOP/s", "of peak", "by cpu", "GB", "GB/s", "of read"
    )?;
    let whole = waited.or(part["ms"].as_f64()).unwrap_or(f64::NAN);
    for (name, phase) in part["phases"].as_object().into_iter().flatten() {
        let fixed = |key: &str, digits: usize| phase[key].as_f64().map_or(String::new(), |x| format!("{x:.digits$}"));
        let percent = |key: &str| phase[key].as_f64().map_or(String::new(), |x| format!("{:.1} %", 100.0 * x));
        let share = phase["ms"].as_f64().map_or(String::new(), |ms| format!("{:.1} %", 100.0 * ms / whole));
        writeln!(
            out,
            "{name:<21} {:>9} {share:>7} {:>9} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8}  {}",
            fixed("ms", 2),
            fixed("gflop", 3),
            fixed("gflops", 1),
            percent("share_of_peak"),
            percent("share_of_peak_by_cpu_time"),
            fixed("gb", 4),
            fixed("gbs", 2),
            percent("share_of_read"),
            phase["peak"].as_str().unwrap_or_default()
        )?;
    }
    Ok(())
}
