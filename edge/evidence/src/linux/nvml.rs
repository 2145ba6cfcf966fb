//! NVIDIA GPUs through the library that comes with their driver.
//!
//! Interface: NVIDIA Management Library reference guide, "Confidential Computing definitions" and
//! "nvmlDevice definitions related to Confidential Computing" (R590). The library is opened at
//! run time, so that nothing of it is needed to build or where there is no GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use cocoon_attest::gpu::{GpuEvidence, GpuMode};

use crate::fault::EvidenceFault;
use crate::gpu::{CHAIN_LIMIT, GpuProvider, REPORT_LIMIT};

/// Name under which drivers install the library.
const LIBRARY: &CStr = c"libnvidia-ml.so.1";

const SUCCESS: c_int = 0;
const NOT_SUPPORTED: c_int = 3;

/// `nvmlConfComputeSystemState_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct SystemState {
    environment: c_uint,
    feature: c_uint,
    devtools: c_uint,
}

/// `nvmlConfComputeGpuCertificate_t`.
#[repr(C)]
struct Certificate {
    chain_len: c_uint,
    attestation_chain_len: c_uint,
    chain: [u8; 0x1000],
    attestation_chain: [u8; CHAIN_LIMIT],
}

/// `nvmlConfComputeGpuAttestationReport_t`.
#[repr(C)]
struct Report {
    has_cec_report: c_uint,
    report_len: c_uint,
    cec_report_len: c_uint,
    nonce: [u8; 32],
    report: [u8; REPORT_LIMIT],
    cec_report: [u8; 0x1000],
}

type Init = unsafe extern "C" fn() -> c_int;
type Count = unsafe extern "C" fn(*mut c_uint) -> c_int;
type ByIndex = unsafe extern "C" fn(c_uint, *mut *mut c_void) -> c_int;
type GetState = unsafe extern "C" fn(*mut SystemState) -> c_int;
type GetCertificate = unsafe extern "C" fn(*mut c_void, *mut Certificate) -> c_int;
type GetReport = unsafe extern "C" fn(*mut c_void, *mut Report) -> c_int;

/// The one GPU of this machine, through NVIDIA's library.
///
/// Written after the reference guide; tried against a stand-in of the library, never with a GPU.
#[derive(Clone, Debug)]
pub struct Nvml {
    library: CString,
}

impl Default for Nvml {
    /// The library where the system's loader finds it.
    fn default() -> Self {
        Self { library: LIBRARY.to_owned() }
    }
}

impl Nvml {
    /// The library in this file. A path with a zero byte is the path up to it.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        let bytes = path.as_os_str().as_bytes().split(|byte| *byte == 0).next();
        Self { library: CString::new(bytes.unwrap_or_default()).unwrap_or_default() }
    }
}

impl GpuProvider for Nvml {
    fn evidence(&self, nonce: [u8; 32]) -> Result<GpuEvidence, EvidenceFault> {
        let library = Library::open(&self.library)?;
        library.evidence(nonce)
    }
}

/// The opened library. It is never closed: drivers keep threads of their own in it.
struct Library(*mut c_void);

#[allow(unsafe_code, reason = "the driver's library is C; see SAFETY at each call")]
impl Library {
    fn open(library: &CStr) -> Result<Self, EvidenceFault> {
        // SAFETY: the name is a C string that outlives the call; the driver's own initialisers run.
        let handle = unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) };
        if handle.is_null() {
            let path = PathBuf::from(library.to_string_lossy().into_owned());
            let source = std::io::Error::from(std::io::ErrorKind::NotFound);
            return Err(EvidenceFault::Device { what: "opening NVIDIA's library", path, source });
        }
        Ok(Self(handle))
    }

    fn symbol(&self, name: &'static CStr) -> Result<*mut c_void, EvidenceFault> {
        // SAFETY: the handle is open, the name is a C string.
        let found = unsafe { libc::dlsym(self.0, name.as_ptr().cast::<c_char>()) };
        if found.is_null() {
            return Err(fault(format!(
                "the driver is too old, it does not offer {}",
                name.to_string_lossy()
            )));
        }
        Ok(found)
    }

    fn evidence(&self, nonce: [u8; 32]) -> Result<GpuEvidence, EvidenceFault> {
        // SAFETY: these are the types that the reference guide gives for these names; a symbol is
        // never null here.
        let (init, count, by_index, get_state, get_certificate, get_report) = unsafe {
            (
                std::mem::transmute::<*mut c_void, Init>(self.symbol(c"nvmlInit_v2")?),
                std::mem::transmute::<*mut c_void, Count>(self.symbol(c"nvmlDeviceGetCount_v2")?),
                std::mem::transmute::<*mut c_void, ByIndex>(
                    self.symbol(c"nvmlDeviceGetHandleByIndex_v2")?,
                ),
                std::mem::transmute::<*mut c_void, GetState>(
                    self.symbol(c"nvmlSystemGetConfComputeState")?,
                ),
                std::mem::transmute::<*mut c_void, GetCertificate>(
                    self.symbol(c"nvmlDeviceGetConfComputeGpuCertificate")?,
                ),
                std::mem::transmute::<*mut c_void, GetReport>(
                    self.symbol(c"nvmlDeviceGetConfComputeGpuAttestationReport")?,
                ),
            )
        };
        let mut gpus = 0;
        let mut state = SystemState::default();
        let mut device = std::ptr::null_mut();
        let mut certificate = Box::new(Certificate {
            chain_len: 0,
            attestation_chain_len: 0,
            chain: [0; 0x1000],
            attestation_chain: [0; CHAIN_LIMIT],
        });
        let mut report = Box::new(Report {
            has_cec_report: 0,
            report_len: 0,
            cec_report_len: 0,
            nonce,
            report: [0; REPORT_LIMIT],
            cec_report: [0; 0x1000],
        });
        // SAFETY: the library is initialised before it is used; every pointer is to a value of the
        // type the reference guide names, which outlives the call.
        unsafe {
            done("starting NVIDIA's library", init())?;
            done("counting the GPUs", count(&raw mut gpus))?;
            if gpus != 1 {
                return Err(fault(format!("{gpus} GPUs; exactly one can be shown")));
            }
            done("asking for the confidential mode", get_state(&raw mut state))?;
            done("opening the GPU", by_index(0, &raw mut device))?;
            done("reading the GPU's certificate", get_certificate(device, &raw mut *certificate))?;
            done("having the GPU sign", get_report(device, &raw mut *report))?;
        }
        composed(
            (&report.report, report.report_len),
            (&certificate.attestation_chain, certificate.attestation_chain_len),
            (state.feature, state.devtools),
        )
    }
}

/// Cuts what the driver wrote to the lengths it names.
fn composed(
    (report, report_len): (&[u8], c_uint),
    (chain, chain_len): (&[u8], c_uint),
    (feature, devtools): (c_uint, c_uint),
) -> Result<GpuEvidence, EvidenceFault> {
    let cut = |bytes: &[u8], len: c_uint, what| {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let cut = bytes.get(..len).filter(|bytes| !bytes.is_empty());
        cut.map(<[u8]>::to_vec).ok_or_else(|| fault(format!("it gave {len} bytes of {what}")))
    };
    let mut chain_pem = cut(chain, chain_len, "certificates")?;
    // The driver counts the C string's end.
    while chain_pem.last() == Some(&0) {
        chain_pem.pop();
    }
    Ok(GpuEvidence {
        report: cut(report, report_len, "report")?,
        chain_pem,
        mode: GpuMode { confidential: feature == 1, developer: devtools == 1 },
    })
}

fn done(what: &'static str, code: c_int) -> Result<(), EvidenceFault> {
    match code {
        SUCCESS => Ok(()),
        NOT_SUPPORTED => Err(fault(format!(
            "{what}: not supported; the GPU is not in confidential mode, or cannot be"
        ))),
        code => Err(fault(format!("{what}: code {code}"))),
    }
}

fn fault(detail: String) -> EvidenceFault {
    EvidenceFault::Gpu { detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_driver_wrote_is_cut_to_its_lengths() {
        let mut chain = [0; CHAIN_LIMIT];
        chain[..3].copy_from_slice(b"PEM");
        let report = [7; REPORT_LIMIT];
        let evidence = composed((&report, 5), (&chain, 4), (1, 0)).unwrap();
        assert_eq!(evidence.report, [7; 5]);
        assert_eq!(evidence.chain_pem, b"PEM");
        assert_eq!(evidence.mode, GpuMode { confidential: true, developer: false });
        let open = composed((&report, 5), (&chain, 4), (0, 1)).unwrap();
        assert_eq!(open.mode, GpuMode { confidential: false, developer: true });
        // Lengths beyond the structures, or nothing at all.
        for (report_len, chain_len) in [(0x2001, 4), (u32::MAX, 4), (0, 4), (5, 0x1401), (5, 0)] {
            assert!(composed((&report, report_len), (&chain, chain_len), (1, 0)).is_err());
        }
    }

    #[test]
    fn structures_have_the_sizes_of_the_reference_guide() {
        assert_eq!(std::mem::size_of::<SystemState>(), 12);
        assert_eq!(std::mem::size_of::<Certificate>(), 8 + 0x1000 + 0x1400);
        assert_eq!(std::mem::size_of::<Report>(), 12 + 32 + 0x2000 + 0x1000);
    }

    #[test]
    fn a_machine_without_the_driver_says_so() {
        // Where there is one, it either shows evidence or says what is wrong with the GPU.
        match Nvml::default().evidence([1; 32]) {
            Ok(evidence) => assert!(!evidence.report.is_empty()),
            Err(fault) => assert!(!fault.to_string().is_empty()),
        }
    }
}
