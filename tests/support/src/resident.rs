//! The memory of this process, on Linux.

/// Returns how many bytes of memory this process has.
///
/// ```
/// assert!(switchboard_test_support::resident() > 100_000);
/// ```
///
/// # Panics
///
/// The system does not tell.
pub fn resident() -> usize {
    // In pages: all, and those that are in memory.
    let pages = std::fs::read_to_string("/proc/self/statm").expect("/proc of Linux");
    let resident = pages.split(' ').nth(1).expect("a second number");
    let resident: usize = resident.parse().expect("a number");
    resident * 4096
}
