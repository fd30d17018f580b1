//! Tests that may find that they cannot run here.

use libtest_mimic::{Completion, Failed, Trial};

/// Makes a test of what `run` does, which may also find that it cannot run here.
pub fn trial<Run, Running>(name: String, run: Run) -> Trial
where
    Run: FnOnce() -> Running + Send + 'static,
    Running: Future<Output = Completion>,
{
    Trial::ignorable_test(name, || {
        let runtime = tokio::runtime::Runtime::new().map_err(Failed::from)?;
        // What fails panics, which the harness catches.
        Ok(runtime.block_on(run()))
    })
}
