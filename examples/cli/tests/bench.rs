//! `bench`: the numbers are plausible, and say the same in each form.

mod common;
use common::*;
use serde_json::Value;

fn f64(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// Sums of rounded numbers: each has four digits.
fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 5e-3 * want.abs() + 1e-3, "{what}: {got}, expected {want}");
}

fn check_pass(name: &str, pass: &Value, head: bool) {
    let phases = pass["phases"].as_object().unwrap();
    assert_eq!(phases.len(), 9, "{name}");
    let sum = |key: &str| phases.values().filter_map(|phase| phase[key].as_f64()).sum::<f64>();
    close(&format!("{name}: milliseconds"), sum("ms"), f64(&pass["ms"]));
    close(&format!("{name}: processor milliseconds"), sum("cpu_ms"), f64(&pass["cpu_ms"]));
    close(&format!("{name}: GFLOP"), sum("gflop"), f64(&pass["gflop"]));
    close(&format!("{name}: GB"), sum("gb"), f64(&pass["gb"]));
    for phase in ["attention projections", "attention", "dense", "router", "experts"] {
        let phase = &phases[phase];
        assert!(f64(&phase["ms"]) > 0.0 && f64(&phase["gflop"]) > 0.0, "{name}: {phase}");
        assert!(f64(&phase["share_of_peak"]) > 0.0, "{name}: {phase}");
    }
    assert_eq!(phases["head"].get("gflop").is_some(), head, "{name}");
    let touched = f64(&pass["experts_touched"]);
    assert!((1.0..=8.0).contains(&touched), "{name}: {touched} experts");
    assert!(f64(&pass["rows_of_largest_expert"]) >= f64(&pass["rows_per_expert"]), "{name}");
}

/// What holds between two times that were measured one after the other, unless something else had the processor for one of
/// them: the first of these that does not hold.
fn times_disagree(json: &Value) -> Option<String> {
    let ceilings = json["ceilings"].as_object().unwrap().iter().filter(|(_, ceiling)| !ceiling.is_null());
    let ceilings = ceilings.map(|(name, ceiling)| {
        let (one, all) = (f64(&ceiling["one_thread"]), f64(&ceiling["all_threads"]));
        (all < 3.0 * one, format!("{name}: {ceiling}"))
    });
    let passes = ["prefill", "first_step", "step"].map(|name| (name, json[name]["phases"].as_object().unwrap()));
    let phases = passes.iter().flat_map(|(name, phases)| phases.values().map(move |phase| (name, phase)));
    // A ceiling is a ceiling; what the clock resolves of these small phases is worth some percent.
    let shares =
        phases.filter_map(|(name, phase)| Some((phase["share_of_peak"].as_f64()? < 1.1, format!("{name}: {phase}"))));
    let load = &json["load"];
    let load =
        (f64(&load["tokenizer_ms"]) < f64(&load["total_ms"]) && f64(&load["total_ms"]) < 2000.0, load.to_string());
    ceilings.chain(shares).chain([load]).find(|(holds, _)| !holds).map(|(_, what)| what)
}

/// On a busy machine one run in many has a time that says nothing; none in five would be a mistake of the program.
#[test]
fn the_numbers_of_the_built_in_model_are_plausible() {
    let mut wrong = Vec::new();
    while wrong.len() < 5 {
        let run = good(&["bench", "--json", "--steps", "3", "--generations", "2", "--threads", "2"]);
        let json: Value = serde_json::from_str(&run.out).unwrap();
        check_built_in(&json);
        match times_disagree(&json) {
            Some(what) => wrong.push(what),
            None => return,
        }
    }
    panic!("in five runs: {wrong:#?}");
}

fn check_built_in(json: &Value) {
    let ceilings = json["ceilings"].as_object().unwrap();
    for (name, ceiling) in ceilings.iter().filter(|(_, ceiling)| !ceiling.is_null()) {
        assert!(f64(&ceiling["one_thread"]) > 0.5 && f64(&ceiling["all_threads"]) > 0.5, "{name}: {ceiling}");
    }
    assert_eq!((&json["model"]["vocab"], &json["run"]["threads"]), (&Value::from(512), &Value::from(2)));
    check_pass("prefill", &json["prefill"], false);
    check_pass("first step", &json["first_step"], true);
    check_pass("step", &json["step"], true);
    assert_eq!(json["step"]["ms_each"].as_array().unwrap().len(), 2);
    // The router of 6 layers: [32 rows, 64] times [64, 8].
    let router = f64(&json["step"]["phases"]["router"]["gflop"]);
    close("router", router * 1e9, 2.0 * 6.0 * 32.0 * 64.0 * 8.0);
    // Self-conditioning is what a first step has not.
    assert!(f64(&json["step"]["phases"]["dense"]["gflop"]) > f64(&json["first_step"]["phases"]["dense"]["gflop"]));
    let generation = &json["generation"];
    for key in ["steps_per_canvas", "tokens_per_step", "tokens_per_second", "first_canvas_ms"] {
        assert!(f64(&generation[key]) > 0.0, "{key}: {generation}");
    }
    if cfg!(target_os = "linux") {
        let memory = &json["memory"];
        assert!(f64(&memory["peak_bytes"]) > f64(&memory["file_bytes"]), "{memory}");
        assert!(f64(&memory["rest_bytes"]) < 200e6, "{memory}");
        assert!(f64(&memory["file_huge_bytes"]) <= f64(&memory["file_resident_bytes"]), "{memory}");
    }
}

/// A made-up model, a forced level, and the other two forms.
#[test]
fn shapes_levels_and_forms() {
    let shape = ["bench", "--shape", "tiny", "--type", "Q4_0", "--steps", "2", "--level", "scalar", "--prefix", "20"];
    let run = good(&[&shape[..], &["--csv", "--kv", "f16"]].concat());
    let mut lines = run.out.lines();
    assert_eq!(lines.next(), Some("what,value"));
    assert!(lines.all(|line| line.contains(',')), "{}", run.out);
    for line in
        ["run.level,\"scalar\"", "run.kv,\"f16\"", "model.experts_type,\"Q4_0\"", "prefill.rows,20", "step.prefix,20"]
    {
        assert!(run.out.lines().any(|l| l == line), "{line} is not in {}", run.out);
    }
    let table = good(&[&shape[..], &["--next-block"]].concat()).out;
    for part in [
        "next block  encoding ",
        "ceiling     int8",
        "prefill     20 tokens: ",
        "\nfirst step: 64 rows behind 20",
        "\nexperts ",
    ] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    // Long prefixes are not encoded.
    let long = good(&["bench", "--shape", "tiny", "--steps", "1", "--prefix", "2049", "--json"]);
    let json: Value = serde_json::from_str(&long.out).unwrap();
    assert!(json.get("prefill").is_none() && json["first_step"]["prefix"] == 2049, "{json}");
    let wrong = run_with(&["bench", "--level", "mmx"], "");
    assert_eq!(wrong.status, Some(1));
    assert!(wrong.err.contains("--level mmx: this processor has scalar"), "{}", wrong.err);
}

/// On a GPU, or on the stand-in driver, where the numbers mean nothing: `cargo xtask cuda-host` runs it there.
#[test]
fn a_device_is_measured_against_its_own_ceilings() {
    let run = ["bench", "--backend", "cuda", "--shape", "tiny", "--type", "Q8_0", "--prefix", "20", "--steps", "2"];
    let first = run_with(&[&run[..], &["--json"]].concat(), "");
    if first.status != Some(0) {
        assert!(first.err.contains("no NVIDIA driver") || first.err.contains("CUDA devices"), "{}", first.err);
        eprintln!("skipped: a_device_is_measured_against_its_own_ceilings: {}", first.err.trim());
        assert!(std::env::var_os("DGEMMA_REQUIRE_CUDA").is_none_or(|v| v != "1"), "a CUDA device is required");
        return;
    }
    let json: Value = serde_json::from_str(&first.out).unwrap();
    for key in ["int8_gops", "bf16_gflops", "read_gbs", "copy_gbs", "upload_gbs"] {
        assert!(f64(&json["ceilings"][key]["device"]) > 0.0, "{key}: {}", json["ceilings"]);
    }
    for name in ["prefill", "first_step", "step"] {
        let pass = &json[name];
        let phases = pass["phases"].as_object().unwrap();
        // Phases sum to the pass that waits after each; the time of the pass itself is another one's.
        let sum: f64 = phases.values().filter_map(|phase| phase["ms"].as_f64()).sum();
        close(&format!("{name}: milliseconds"), sum, f64(&pass["ms_with_waits"]));
        close(&format!("{name}: floor"), f64(&pass["floor_ms"]) * f64(&pass["times_floor"]), f64(&pass["ms"]));
        assert!((1.0..=16.0).contains(&f64(&pass["experts_touched"])), "{name}: {pass}");
        for phase in ["attention projections", "attention", "dense", "router", "experts"] {
            assert!(f64(&phases[phase]["share_of_peak"]) > 0.0, "{name}: {phase}");
            assert!(phases[phase].get("share_of_peak_by_cpu_time").is_none(), "{name}: {phase}");
        }
    }
    assert!(f64(&json["generation"]["first_canvas_ms"]) > 0.0 && f64(&json["prefill"]["tokens_per_second"]) > 0.0);
    let (load, link) = (&json["load"], f64(&json["ceilings"]["upload_gbs"]["device"]));
    close("upload", f64(&load["upload_share"]) * link, f64(&load["upload_gbs"]));
    assert!(f64(&load["upload_gbs"]) > 0.0, "{load}");
    assert!(json["run"]["device"].is_string(), "{}", json["run"]);
    check_gaps(&json["gaps"]);
    check_device_memory(&json["memory"], 0.95);
    let level = run_with(&["bench", "--backend", "cuda", "--level", "scalar"], "");
    assert!(level.err.contains("--level is for --backend cpu"), "{}", level.err);
    let short = [&run[..7], &["--prefix", "4", "--steps", "1", "--generations", "0"]].concat();
    let table = good(&short).out;
    for part in ["\ngaps        ", " starts within\n", " (planned "] {
        assert!(table.contains(part), "{part:?} is not in {table}");
    }
    // A part on the host: less on the device, and no record whose gaps could be measured.
    let weights = f64(&json["memory"]["plan"]["weights_bytes"]);
    let part = good(&[&short[..], &["--n-gpu-layers", "3", "--n-cpu-experts", "4", "--json"]].concat()).out;
    let json: Value = serde_json::from_str(&part).unwrap();
    assert_eq!((f64(&json["run"]["n_gpu_layers"]), f64(&json["run"]["n_cpu_experts"])), (3.0, 4.0));
    let plan = &json["memory"]["plan"];
    assert!(f64(&plan["weights_bytes"]) < weights && f64(&plan["slots_bytes"]) > 0.0, "{plan}");
    assert!(f64(&plan["host_weights_bytes"]) > 0.0 && json.get("gaps").is_none(), "{json}");
    check_device_memory(&json["memory"], 0.9);
    assert!(f64(&json["first_step"]["ms"]) > 0.0, "{}", json["first_step"]);
}

/// Sums and shares of what was measured.
fn check_gaps(gaps: &Value) {
    let [step, replay, padded] = ["step_ms", "replay_ms", "padded_ms"].map(|key| f64(&gaps[key]));
    assert!(step > 0.0 && replay > 0.0 && padded > 0.0, "{gaps}");
    // Differences of rounded numbers.
    let near = |what: &str, got: f64, want: f64, of: f64| assert!((got - want).abs() < 2e-3 * of, "{what}: {gaps}");
    near("between", f64(&gaps["between_us"]), (step - replay) * 1e3, step * 1e3);
    let each = (padded - replay) * 1e3 / f64(&gaps["padding"]);
    near("inside", f64(&gaps["inside_us"]), each * f64(&gaps["nodes"]), step * 1e3);
    let shares = [f64(&gaps["share_between"]), f64(&gaps["share_inside"])];
    near("share", f64(&gaps["share"]), shares[0] + shares[1], 1.0);
    near("share between", shares[0], 1.0 - replay / step, 1.0);
    // A kernel or a copy for everything that a layer does, an empty one for each kernel.
    assert!(f64(&gaps["nodes"]) > f64(&gaps["padding"]) && f64(&gaps["padding"]) > 5.0 * 20.0, "{gaps}");
}

/// What was taken against the plan, of which `share` is used at least.
fn check_device_memory(memory: &Value, share: f64) {
    let (plan, used) = (&memory["plan"], f64(&memory["device_used_bytes"]));
    let parts = ["weights_bytes", "slots_bytes", "kv_bytes", "activation_bytes", "work_bytes"];
    let planned = f64(&plan["device_bytes"]);
    assert_eq!(parts.iter().map(|part| f64(&plan[part])).sum::<f64>(), planned, "{plan}");
    assert_eq!(f64(&memory["unplanned_bytes"]), used - planned, "{memory}");
    assert!(used >= share * planned && used <= planned + f64(&plan["reserve_bytes"]), "{memory}");
    assert!(f64(&memory["device_loaded_bytes"]) >= f64(&plan["weights_bytes"]), "{memory}");
    assert!(memory["context_bytes"].is_number(), "{memory}");
}
