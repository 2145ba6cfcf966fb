//! Refuses a processor on which the engine would die of an illegal instruction.

use crate::fault::EngineFault;

/// Checks that the processor has what llama.cpp was compiled for.
///
/// Its default flags on x86-64 are `-mavx2 -mfma -mf16c -mbmi2` (with AVX and SSE4.2 below
/// them); without this check the first matrix product ends the process with SIGILL. The
/// sources are the CPUID leaves 1 and 7 (Intel SDM volume 2A, CPUID).
///
/// # Errors
/// [`EngineFault::Processor`] lists what is missing; only another machine or an external
/// model server helps.
pub fn check_processor() -> Result<(), EngineFault> {
    let missing: Vec<&str> =
        required().into_iter().filter(|(_, present)| !present).map(|(name, _)| name).collect();
    if missing.is_empty() {
        Ok(())
    } else {
        Err(EngineFault::Processor { missing: missing.join(", ") })
    }
}

#[cfg(target_arch = "x86_64")]
fn required() -> Vec<(&'static str, bool)> {
    vec![
        ("SSE4.2", std::is_x86_feature_detected!("sse4.2")),
        ("AVX", std::is_x86_feature_detected!("avx")),
        ("AVX2", std::is_x86_feature_detected!("avx2")),
        ("FMA", std::is_x86_feature_detected!("fma")),
        ("F16C", std::is_x86_feature_detected!("f16c")),
        ("BMI2", std::is_x86_feature_detected!("bmi2")),
    ]
}

/// Other architectures are compiled for their baseline, which every processor has.
#[cfg(not(target_arch = "x86_64"))]
fn required() -> Vec<(&'static str, bool)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_agrees_with_the_list() {
        let all_present = required().iter().all(|(_, present)| *present);
        assert_eq!(check_processor().is_ok(), all_present);
    }
}
