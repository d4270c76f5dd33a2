//! The examples of C, C++ and Rust, built as their readers would and run with the built-in model. Go's and Node's are run by
//! the tests of `bindings`.

#[path = "common/native.rs"]
mod native;

use dgemma::engine::{Context, ContextParams, GenerateParams, Model, ModelParams};
use dgemma::gguf::writer::{Plan, to_bytes};
use dgemma::gguf::{Gguf, Value};
use native::{ANSWER, PROMPT, cc, cxx, model, program, root, run};
use serde_json::{Value as Json, json};
use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// The Rust one; cargo builds it with all tests, but not for this one alone.
fn hello_rs() -> PathBuf {
    let build = ["build", "--quiet", "--release", "--locked", "--example", "hello"];
    assert!(Command::new(env!("CARGO")).args(build).current_dir(root()).status().unwrap().success());
    let target = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    target.join("examples/hello")
}

/// All languages print the same.
#[test]
fn hello_in_c_cpp_and_rust() {
    let c = cc().into_iter().map(|cc| program(&cc, "examples/hello.c", &["-std=c99"]));
    let cpp = cxx().into_iter().map(|cxx| program(&cxx, "examples/hello.cpp", &["-std=c++17"]));
    for hello in c.chain(cpp).chain([hello_rs()]) {
        assert_eq!(run(&hello, &[model(), PROMPT.into()]), format!("{ANSWER}\n"), "{}", hello.display());
        let wrong = Command::new(&hello).args([Path::new("no/such/file.gguf"), PROMPT.as_ref()]).output().unwrap();
        let said = [wrong.stdout, wrong.stderr].concat();
        assert!(String::from_utf8_lossy(&said).contains("no/such/file.gguf"), "{}", hello.display());
        assert_eq!(wrong.status.code(), Some(1), "{}", hello.display());
        println!("{}: ok", hello.file_name().unwrap().display());
    }
}

fn chat(file: &Path) -> Child {
    static CHAT: OnceLock<PathBuf> = OnceLock::new();
    let chat = CHAT.get_or_init(|| program(&cxx()[0], "examples/chat.cpp", &["-std=c++17"]));
    let mut command = Command::new(chat);
    command.arg(file).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// What the chat is to print, from the engine itself: answers, and a report for each.
struct Expected {
    context: Context,
    messages: Vec<Json>,
    out: String,
    err: String,
    reused: usize,
}

impl Expected {
    fn turn(&mut self, text: &str) {
        let model = self.context.model().clone();
        self.messages.push(json!({"role": "user", "content": text}));
        let tokens = model.encode_chat(&Json::from(self.messages.clone()), None).unwrap();
        let reused = self.context.set_tokens(&tokens).unwrap();
        let params = GenerateParams { max_tokens: self.context.size(), ..GenerateParams::new(&model) };
        let answer = self.context.generate(&params, |_| ControlFlow::Continue(())).unwrap();
        let text = model.tokenizer().decode(&answer.tokens, false).unwrap();
        let (all, steps) = (tokens.len(), answer.perf.total_steps());
        self.out += &format!("{text}\n");
        self.err += &format!("[{reused} of {all} tokens reused, {steps} steps]\n");
        self.messages.push(json!({"role": "assistant", "content": text}));
        self.reused = reused;
    }
}

#[test]
fn a_chat_answers_as_the_engine_does_and_reuses_what_is_encoded() {
    let model = Model::load(&model(), &ModelParams::default()).unwrap();
    let context = model.context(&ContextParams::default()).unwrap();
    let mut expected = Expected { context, messages: vec![], out: String::new(), err: String::new(), reused: 0 };
    let mut child = chat(&native::model());
    let mut stdin = child.stdin.take().unwrap();
    for line in [PROMPT, "Say \"tab\there\\\" 2 times.", "Sort the digits 52914."] {
        writeln!(stdin, "{line}\n").unwrap(); // the empty line is no message
        expected.turn(line);
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected.out);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected.err);
    assert_eq!(output.status.code(), Some(0));
    assert!(expected.out.starts_with("19\n") && expected.reused > 40, "{} {}", expected.out, expected.reused);
    print!("{}{}", expected.out, expected.err);
}

/// The built-in model with sampler numbers that never let a canvas end.
fn endless() -> PathBuf {
    let file = Gguf::open(&model()).unwrap();
    let mut keys = file.metadata().entries().to_vec();
    keys.retain(|(key, _)| !key.ends_with("eb_max_steps") && !key.ends_with("eb_confidence_threshold"));
    keys.push(("diffusion.eb_max_steps".into(), Value::U32(1_000_000)));
    keys.push(("diffusion.eb_confidence_threshold".into(), Value::F32(0.0)));
    let tensor = |t: &dgemma::gguf::TensorInfo| {
        let plan = Plan { name: t.name.clone(), shape: t.shape.clone(), format: t.format };
        (plan, file.tensor(&t.name).unwrap().data.to_vec())
    };
    let tensors: Vec<_> = file.tensors().iter().map(tensor).collect();
    let path = native::folder().join("endless.gguf");
    std::fs::write(&path, to_bytes(&keys, &tensors).unwrap()).unwrap();
    path
}

/// Ctrl-C stops an answer that would take for ever, and the chat goes on to the next.
#[test]
fn an_interrupt_stops_the_answer_and_not_the_chat() {
    let mut child = chat(&endless());
    let mut stdin = child.stdin.take().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    for _ in 0..2 {
        writeln!(stdin, "{PROMPT}").unwrap();
        // Pressed before the answer is under way, it is answered with a hint.
        let pressed = (0..600).any(|_| {
            std::thread::sleep(Duration::from_millis(100));
            // SAFETY: the child has not been waited for, so the number is still its own.
            assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
            std::iter::from_fn(|| lines.recv_timeout(Duration::from_millis(100)).ok())
                .any(|line| line.starts_with("[cancelled; "))
        });
        assert!(pressed, "no answer was cancelled");
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn the_readmes_show_the_examples_as_they_are() {
    let read = |name: &str| std::fs::read_to_string(root().join(name)).unwrap();
    let readme = read("README.md");
    for (language, name) in [("c", "hello.c"), ("cpp", "hello.cpp")] {
        let example = read(&format!("examples/{name}"));
        assert!(readme.contains(&format!("```{language}\n{example}```")), "README.md does not show {name} as it is");
    }
    let guide = read("examples/README.md");
    for name in ["hello.c", "hello.cpp", "hello.rs", "chat.cpp"] {
        assert!(guide.contains(name), "examples/README.md says nothing about {name}");
    }
}
