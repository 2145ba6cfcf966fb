//! The hand on NVIDIA's library, against a library that a C compiler made (`driver.c`): a real one needs
//! a GPU in confidential mode.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cocoon_attest::BadEvidence;
use cocoon_attest::gpu::check;
use cocoon_evidence::EvidenceFault;
use cocoon_evidence::gpu::GpuProvider as _;
use cocoon_evidence::linux::Nvml;
use cocoon_evidence::sim::{DevPki, SimulatedGpu, SimulatedPlatform, SimulatedPlatformForm};
use tempfile::TempDir;

/// 2026-11-21T12:00:00Z.
const NOW_S: u64 = 1_795_262_400;
const NONCE: [u8; 32] = [0x5a; 32];

/// A folder with what the GPU answers.
struct Stage {
    folder: TempDir,
    pki: Arc<DevPki>,
}

impl Stage {
    fn new() -> Self {
        let pki = Arc::new(DevPki::generate(NOW_S).unwrap());
        let gpu = SimulatedGpu::new(&pki, 1, None).unwrap().evidence(NONCE).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("report"), &gpu.report).unwrap();
        std::fs::write(folder.path().join("chain"), &gpu.chain_pem).unwrap();
        Self { folder, pki }
    }

    /// Compiles the library with these macros in place of the ordinary ones, each into a file of its
    /// own: one that is open stays open.
    fn library(&self, name: &str, defines: &[(&str, u32)]) -> PathBuf {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nvml/driver.c");
        let library = self.folder.path().join(format!("{name}.so"));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-Wall", "-Werror"]);
        compiler.arg(format!("-DFILES=\"{}\"", self.folder.path().display()));
        let plain = [("GPUS", 1), ("FEATURE", 1), ("DEVTOOLS", 0), ("CODE", 0), ("MORE", 0)];
        for (name, value) in plain {
            let other = defines.iter().find(|(other, _)| *other == name);
            let value = other.map_or(value, |(_, value)| *value);
            compiler.arg(format!("-D{name}={value}"));
        }
        if defines.iter().any(|(name, _)| *name == "LACKS") {
            compiler.arg("-DLACKS");
        }
        compiler.arg("-o").arg(&library).arg(source);
        let output = compiler.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    }

    fn asked(&self, name: &str, defines: &[(&str, u32)]) -> Result<(), String> {
        let library = Nvml::at(&self.library(name, defines));
        let evidence = library.evidence(NONCE).map_err(|fault| fault.to_string())?;
        let form = SimulatedPlatformForm { gpu_nonce: Some(NONCE), ..Default::default() };
        let policy = SimulatedPlatform::boot(Arc::clone(&self.pki), form).unwrap().policy();
        let checked = check(&evidence, Some(&NONCE), &policy.gpu, &policy.roots, NOW_S);
        checked.map(|_| ()).map_err(|bad: BadEvidence| bad.to_string())
    }
}

#[test]
fn what_the_library_hands_over_is_what_a_verifier_reads() {
    let stage = Stage::new();
    stage.asked("plain", &[]).unwrap();
    // The nonce reaches the GPU: for another one this GPU has no report.
    let other = Nvml::at(&stage.library("other", &[])).evidence([1; 32]).unwrap_err();
    assert_eq!(other.to_string(), "the GPU: having the GPU sign: code 2");
}

#[test]
fn modes_that_hide_nothing_are_refused() {
    let stage = Stage::new();
    let refused = |name, defines: &[(&str, u32)]| stage.asked(name, defines).unwrap_err();
    let off = refused("off", &[("FEATURE", 0)]);
    assert!(off.ends_with("confidential mode is off"), "{off}");
    let developer = refused("developer", &[("DEVTOOLS", 1)]);
    assert!(developer.ends_with("developer mode is on"), "{developer}");
    // A mode that this code does not know is no confidential one.
    let unknown = refused("unknown", &[("FEATURE", 9)]);
    assert!(unknown.ends_with("confidential mode is off"), "{unknown}");
}

#[test]
fn a_driver_that_cannot_or_lies_is_named() {
    let stage = Stage::new();
    let fault = |name, defines: &[(&str, u32)]| {
        let library = Nvml::at(&stage.library(name, defines));
        let fault = library.evidence(NONCE).unwrap_err();
        assert!(matches!(fault, EvidenceFault::Gpu { .. }), "{fault}");
        fault.to_string()
    };
    let none = fault("none", &[("GPUS", 0)]);
    assert!(none.contains("0 GPUs; exactly one can be shown"), "{none}");
    let two = fault("two", &[("GPUS", 2)]);
    assert!(two.contains("2 GPUs; exactly one can be shown"), "{two}");
    let unable = fault("unable", &[("CODE", 3)]);
    assert!(unable.contains("having the GPU sign: not supported"), "{unable}");
    let lost = fault("lost", &[("CODE", 15)]);
    assert!(lost.contains("having the GPU sign: code 15"), "{lost}");
    let long = fault("long", &[("MORE", 0x2000)]);
    assert!(long.contains("bytes of report"), "{long}");
    let old = fault("old", &[("LACKS", 1)]);
    assert!(old.contains("nvmlDeviceGetConfComputeGpuAttestationReport"), "{old}");
    let absent = Nvml::at(Path::new("/nowhere/libnvidia-ml.so.1")).evidence(NONCE).unwrap_err();
    assert!(matches!(absent, EvidenceFault::Device { .. }), "{absent}");
}
