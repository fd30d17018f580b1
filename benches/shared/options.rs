//! What every bench can be asked.

use clap::Args;

#[derive(Args)]
pub(crate) struct Options {
    /// Writes one JSON object a line.
    #[arg(long)]
    pub(crate) json: bool,
    /// How often each side has its turn.
    #[arg(long, default_value_t = 21)]
    pub(crate) rounds: usize,
    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}
