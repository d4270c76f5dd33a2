//! The canvas, redrawn in place at each step. It is drawn on standard error and wiped before the text, so that standard
//! output never holds more than the text.

use crate::Result;
use dgemma::engine::StepInfo;
use dgemma::tokenizer::{Kind, Tokenizer};
use std::io::{self, IsTerminal, Write};

/// Accepted: keeps its token for the next step.
const ACCEPTED: &str = "\x1b[32m";
/// The draft differs from the previous step's.
const CHANGED: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// A drawing on the terminal.
pub struct Visual {
    columns: usize,
    /// Rows that fit, the line below the canvas included.
    rows: usize,
    colours: bool,
    /// The draft of the step before.
    previous: Vec<u32>,
    /// Rows that are on the screen now.
    drawn: usize,
}

impl Visual {
    /// A drawing, if both outputs are terminals: the text takes its place there.
    pub fn on_terminal() -> Option<Visual> {
        let (columns, rows) = size()?;
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Some(Visual { columns, rows, colours, previous: Vec::new(), drawn: 0 })
    }

    /// Draws a step over the previous one.
    pub fn draw(&mut self, tokenizer: &Tokenizer, step: &StepInfo) -> Result<()> {
        let frame = self.frame(tokenizer, step)?;
        self.previous = step.draft.to_vec();
        // In one write, so that no half-drawn canvas shows.
        let all = self.to_top() + &frame;
        self.drawn = frame.matches('\n').count();
        Ok(io::stderr().write_all(all.as_bytes())?)
    }

    /// Wipes the drawing.
    pub fn erase(&mut self) -> Result<()> {
        let all = self.to_top();
        self.drawn = 0;
        self.previous.clear();
        Ok(io::stderr().write_all(all.as_bytes())?)
    }

    /// To the first row of the drawing, and everything below wiped.
    fn to_top(&self) -> String {
        if self.drawn > 0 { format!("\r\x1b[{}A\x1b[J", self.drawn) } else { String::new() }
    }

    fn frame(&self, tokenizer: &Tokenizer, step: &StepInfo) -> Result<String> {
        let mut rows = Rows { text: String::new(), left: self.columns, rows: 1, columns: self.columns };
        for at in 0..step.draft.len() {
            let (token, style) = match (step.accepted[at], self.previous.get(at) == Some(&step.draft[at])) {
                (true, _) => (step.drawn[at], ACCEPTED),
                (false, true) => (step.draft[at], ""),
                (false, false) => (step.draft[at], CHANGED),
            };
            let style = if self.colours { style } else { "" };
            if !rows.push(&label(tokenizer, token)?, style, self.rows.saturating_sub(2)) {
                break;
            }
        }
        let accepted = step.accepted.iter().filter(|yes| **yes).count();
        let mean = step.entropy.iter().sum::<f32>() / step.entropy.len().max(1) as f32;
        let status = format!(
            "block {}, step {}/{}, T {:.2}, accepted {accepted}/{}, mean entropy {mean:.3}",
            step.block + 1,
            step.step + 1,
            step.max_steps,
            step.temperature,
            step.draft.len(),
        );
        let status: String = status.chars().take(self.columns.saturating_sub(1)).collect();
        Ok(format!("{}\n{status}\n", rows.text))
    }
}

/// Text laid out in rows of a terminal.
struct Rows {
    text: String,
    /// Columns left in the current row.
    left: usize,
    rows: usize,
    columns: usize,
}

impl Rows {
    /// Adds a token; false when it would be in a row that no longer fits.
    fn push(&mut self, label: &str, style: &str, max_rows: usize) -> bool {
        self.text += style;
        for c in label.chars() {
            let width = width(c);
            if width > self.left {
                if self.rows >= max_rows {
                    return false;
                }
                self.text.push('\n');
                self.rows += 1;
                self.left = self.columns;
            }
            self.text.push(c);
            self.left = self.left.saturating_sub(width);
        }
        if !style.is_empty() {
            self.text += PLAIN;
        }
        true
    }
}

/// A token as something that stays on its row and moves no cursor.
fn label(tokenizer: &Tokenizer, token: u32) -> Result<String> {
    let piece = tokenizer.piece(token)?;
    Ok(match tokenizer.kind(token)? {
        Kind::Byte => "·".into(),
        _ => piece.replace('\u{2581}', " ").replace('\n', "↵").replace(char::is_control, "·"),
    })
}

/// Columns that `c` takes on most terminals.
fn width(c: char) -> usize {
    match c as u32 {
        0x300..=0x36f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f => 2,
        0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

/// Columns and rows of the terminal, if both outputs are one.
fn size() -> Option<(usize, usize)> {
    if !io::stdout().is_terminal() || !io::stderr().is_terminal() {
        return None;
    }
    #[cfg(unix)]
    {
        // SAFETY: `winsize` is plain data, for which zeros are valid, and what this request fills in.
        let size = unsafe {
            let mut size: libc::winsize = std::mem::zeroed();
            libc::ioctl(libc::STDERR_FILENO, libc::TIOCGWINSZ, &mut size);
            size
        };
        if size.ws_col > 0 && size.ws_row > 0 {
            return Some((size.ws_col.into(), size.ws_row.into()));
        }
    }
    Some((80, 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_break_at_the_width_and_end_at_the_height() {
        let mut rows = Rows { text: String::new(), left: 4, rows: 1, columns: 4 };
        assert!(rows.push("abc", "", 2) && rows.push("字d", "", 2));
        assert_eq!(rows.text, "abc\n字d");
        assert!(rows.push("e", "", 2) && !rows.push("f", "", 2));
    }
}
