//! Our files in llama.cpp's Python reader.

use crate::tools::{Outcome, root, run};
use std::path::PathBuf;
use std::process::Command;

/// The Python packages of the independent GGUF check; `gguf` is llama.cpp's own reader.
const PACKAGES: [&str; 3] = ["gguf==0.19.0", "numpy==2.4.6", "safetensors==0.8.0"];

/// Every kind of file that we write, read by others.
pub fn files_in_other_readers() -> Outcome {
    let venv = root().join("target/venv");
    let python = venv.join("bin/python");
    let stamp = venv.join("installed");
    let wanted = PACKAGES.join("\n");
    if std::fs::read_to_string(&stamp).ok().as_deref() != Some(&wanted) {
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(PACKAGES))?;
        std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    }
    run(Command::new(&python).arg(root().join("tests/golden/check_gguf.py")).arg("read").args(own_files()?))
}

/// GGUF files that our writer makes: a conversion of each golden checkpoint, the built-in model, an importance matrix.
fn own_files() -> Result<Vec<PathBuf>, String> {
    let folder = root().join("target/xtask");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files = vec![root().join("examples/tiny/dgemma-tiny.gguf")];
    for (name, kind) in [("tiny-a", "f32"), ("tiny-b", "bf16"), ("tiny-k", "q8_0"), ("tiny-k", "f16")] {
        let out = folder.join(format!("{name}-{kind}.gguf"));
        let mut command = Command::new(root().join("target/release/dgemma-quantize")); // built by the tests
        run(command
            .arg("convert")
            .arg(root().join("tests/golden").join(name).join("hf"))
            .arg(&out)
            .args(["--type", kind]))?;
        files.push(out);
    }
    let (tiny, imatrix) = (root().join("examples/tiny"), folder.join("imatrix.gguf"));
    let mut command = Command::new(root().join("target/release/dgemma-quantize"));
    command.arg("imatrix").arg(&files[0]).arg("--text").arg(tiny.join("calibration.jsonl"));
    run(command.args(["--samples", "6", "--out"]).arg(&imatrix))?;
    files.push(imatrix);
    Ok(files)
}
