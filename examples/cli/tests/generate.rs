//! `generate` and `chat`: what goes where, what repeats, what stops.

mod common;
use common::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Duration;

#[test]
fn the_text_goes_to_standard_output_and_the_rest_does_not() {
    let model = micro();
    let arguments = ["generate", "-m", &model, "--max-tokens", "20", "--steps", "5", "Hello"];
    let run = good(&arguments);
    assert!(run.out.ends_with('\n') && run.out.len() > 1, "{:?}", run.out);
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    for part in ["10 steps, 5.0 per canvas", " ms per step", "20 tokens, ", " tokens/s", "first canvas after "] {
        assert!(run.err.contains(part), "{part:?} in {}", run.err);
    }
    assert_eq!(good(&arguments).out, run.out, "the same seed gives the same text");
    let with = |more: &[&str]| good(&[&arguments[..], more].concat()).out;
    assert_ne!(with(&["--seed", "1"]), run.out);
    assert_eq!(with(&["--threads", "1", "--chunk", "3", "--context", "100"]), run.out);
    // Without a terminal there is nothing to draw on.
    assert_eq!(with(&["--visual"]), run.out);
    // The template puts a turn around the prompt.
    assert_ne!(with(&["--raw"]), run.out);
    assert_ne!(with(&["--system", "Be brief."]), run.out);
    let from_stdin = run_with(&["generate", "-m", &model, "--max-tokens", "20", "--steps", "5", "-"], "Hello");
    assert_eq!(from_stdin.out, run.out);
}

/// One line and status 1, whatever is wrong.
#[test]
fn errors() {
    let model = micro();
    let error = |arguments: &[&str]| {
        let run = run(arguments);
        assert_eq!(run.status, Some(1), "{arguments:?}: {}", run.err);
        assert!(run.out.is_empty() && run.err.lines().count() == 1, "{}", run.err);
        run.err
    };
    assert!(error(&["generate", "-m", "none.gguf", "x"]).starts_with("dgemma: none.gguf: "));
    assert!(error(&["generate", "-m", &model, "--steps", "0", "x"]).contains("argument `steps`"));
    assert!(error(&["generate", "-m", &model, "--t-min", "0", "x"]).contains("argument `t_min`"));
    assert!(error(&["generate", "-m", &model, "--context", "17", "--raw", "many words here"]).contains("too small"));
    assert!(error(&["generate", "-m", &model, "--context", "1", "x"]).contains("context_size"));
    assert!(error(&["info", "-m", &golden("tiny-a/tokenizer.json").display().to_string()]).contains("tokenizer.json"));
}

/// `dgemma ... | head -1`: no panic, no message.
#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_it_quietly() {
    use std::os::unix::process::ExitStatusExt;
    let mut command = dgemma();
    command.args(["generate", "-m", &micro(), "--max-tokens", "3000", "--steps", "2", "Hello"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGPIPE));
    assert_eq!(err, "");
}

#[test]
fn a_conversation_reuses_what_it_has_encoded() {
    let model = micro();
    let arguments = ["chat", "-m", &model, "--max-tokens", "16", "--steps", "3"];
    let run = run_with(&arguments, "hello\n\nagain\n/reset\nhello\n/exit\nnever read\n");
    assert_eq!(run.status, Some(0), "{}", run.err);
    let reports: Vec<&str> = run.err.lines().collect();
    assert_eq!(reports.len(), 3, "{}", run.err);
    assert!(!reports[0].contains("reused") && reports[1].contains(" reused"), "{}", run.err);
    let first = run_with(&arguments, "hello\n");
    assert_eq!(first.status, Some(0));
    assert!(run.out.starts_with(&first.out) && run.out.ends_with(&first.out), "after /reset, as at the beginning");
    // A message too long for the context is refused, and the next one is answered.
    let run = run_with(&[&arguments[..], &["--context", "60"]].concat(), &format!("{}\nhello\n", "long ".repeat(50)));
    assert_eq!(run.status, Some(0), "{}", run.err);
    assert!(run.err.starts_with("dgemma: context of 60 tokens is too small") && run.out == first.out, "{}", run.err);
}

/// Ctrl-C stops an answer that would take for ever, and the conversation goes on.
#[cfg(unix)]
#[test]
fn an_interrupt_cancels_the_answer_and_not_the_program() {
    let mut command = dgemma();
    command.args(["chat", "-m", &micro(), "--steps", "1000000", "--confidence", "0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let (send, lines) = std::sync::mpsc::channel();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
    for _ in 0..2 {
        writeln!(stdin, "hello").unwrap();
        let mut presses = 0;
        loop {
            std::thread::sleep(Duration::from_secs(1));
            // SAFETY: the child has not been waited for, so the number is still its own.
            assert_eq!(unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) }, 0);
            // Pressed too early, it is answered with a hint.
            if lines.recv_timeout(Duration::from_secs(5)).is_ok_and(|line| line.contains("cancelled")) {
                break;
            }
            presses += 1;
            assert!(presses < 20, "no answer was cancelled");
        }
    }
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// On a terminal the canvas is drawn and wiped, and what remains is the text.
#[cfg(unix)]
#[test]
fn the_canvas_is_drawn_on_a_terminal() {
    use std::os::fd::FromRawFd;
    let (mut leader, mut follower) = (0, 0);
    let size = libc::winsize { ws_row: 24, ws_col: 40, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the pointers are to live variables, and null where the call allows it.
    let opened = unsafe {
        libc::openpty(
            &mut leader,
            &mut follower,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            (&raw const size).cast_mut(),
        )
    };
    assert_eq!(opened, 0);
    // SAFETY: both descriptors were just opened and belong to nobody else.
    let (mut leader, follower) = unsafe { (std::fs::File::from_raw_fd(leader), std::fs::File::from_raw_fd(follower)) };
    let model = micro();
    let arguments = ["generate", "-m", &model, "--max-tokens", "16", "--steps", "3", "Hello"];
    let mut command = dgemma();
    command.args(arguments).arg("--visual").stdin(Stdio::null());
    let mut child = command.stdout(follower.try_clone().unwrap()).stderr(follower).spawn().unwrap();
    drop(command);
    let mut screen = Vec::new();
    // On Linux the last read fails when nobody has the terminal open any more.
    let _ = leader.read_to_end(&mut screen);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let screen = String::from_utf8_lossy(&screen).replace("\r\n", "\n");
    assert_eq!(screen.matches("block 1, step ").count(), 3, "{screen:?}");
    assert!(screen.contains("step 3/3, T 0.53, accepted ") && screen.contains("\x1b[32m"), "{screen:?}");
    let after = screen.rsplit("\x1b[J").next().unwrap();
    assert!(after.starts_with(&good(&arguments).out), "{after:?}");
}
