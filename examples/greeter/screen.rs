//! Where the show is seen: a terminal, whose last lines are drawn again and again, or anything
//! else, which gets plain lines.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
};

/// Standard output.
pub(crate) struct Screen {
    is_terminal: bool,
    /// How many lines the block has that is there now.
    drawn: usize,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            drawn: 0,
        }
    }

    /// Whether it can be drawn on.
    pub(crate) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Writes what stays, above the block.
    pub(crate) fn tell(&mut self, text: impl Display) -> io::Result<()> {
        let erase = self.erase();
        write(format!("{erase}{text}\n"))
    }

    /// Writes what stays, and matters most.
    pub(crate) fn stress(&mut self, text: &str) -> io::Result<()> {
        match self.is_terminal {
            true => self.tell(format!("\x1b[1m{text}\x1b[0m")),
            false => self.tell(text),
        }
    }

    /// Draws the block, in place of the last one.
    pub(crate) fn draw(&mut self, block: &str) -> io::Result<()> {
        let erase = self.erase();
        self.drawn = block.lines().count();
        // In a narrow terminal lines are cut off: wrapped ones would be counted wrongly.
        write(format!("{erase}\x1b[?7l{block}\x1b[?7h\n"))
    }

    /// Returns what takes the block away: up to its first line, and all that follows erased.
    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }
}

/// Writes in one go, so that nobody sees the block erased.
fn write(text: String) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}
