//! The allocator's memory.
//!
//! glibc keeps what was freed below the top of its heaps: after a thousand connections a node of
//! 20 MB stays at 55 MB for good. malloc_trim(3) gives whole free pages back wherever they lie.

/// Gives free memory back to the system; says whether there was any. Takes milliseconds for each
/// hundred megabytes and stops allocations for parts of it: call it seldom, off the loop.
///
/// Does nothing where the C library is not glibc.
#[must_use]
pub fn give_back() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // SAFETY: malloc_trim(3) takes any number, may be called from any thread at any time, and
        // touches memory that nobody owns.
        #[allow(unsafe_code, reason = "a call of the C library that has no safe form")]
        let gave = unsafe { libc::malloc_trim(0) };
        gave == 1
    }
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    false
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    fn resident_kb() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        number.and_then(|number| number.parse().ok()).expect("a resident size")
    }

    #[test]
    fn what_lies_free_below_the_top_is_given_back() {
        // Small pieces, so that they come from the heap; the last one keeps its top in place.
        let mut pieces: Vec<Vec<u8>> = (0..40_000).map(|_| vec![1; 2_000]).collect();
        let last = pieces.pop();
        drop(pieces);
        let before = resident_kb();
        assert!(super::give_back());
        let after = resident_kb();
        assert!(after + 40_000 < before, "{before} kB before, {after} kB after");
        drop(last);
    }
}
