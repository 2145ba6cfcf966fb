//! Core dumps: they would put prompts and keys on disk in clear.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Forbids core dumps of this process: to files by the limit, to a collector's pipe (which the
/// limit does not hold) by the process's dumpable flag. Other processes of the same user cannot
/// read its memory either (prctl(2), core(5)). Children inherit the limit, not the flag.
///
/// # Errors
/// The system's: say so, and do not serve.
pub fn forbid() -> std::io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
