//! The older TDX device: a report by ioctl, then a quote from the host's quoting service.
//!
//! Interfaces: Linux, `include/uapi/linux/tdx-guest.h`; Intel TDX quote generation service,
//! message format 1.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cocoon_attest::gpu::GpuEvidence;
use cocoon_attest::tdx::TdReport;
use cocoon_attest::{BadEvidence, Measurement, QUOTE_LIMIT};

use super::bootlog::{ACPI_TABLES, read_boot_log};
use super::files::KernelFiles;
use crate::fault::EvidenceFault;
use crate::provider::{EvidenceProvider, QuoteSubject, TeeEvidence, TeeKind};

const DEVICE: &str = "/dev/tdx_guest";
const REPORT_LEN: usize = 1024;
const REPORT_DATA_LEN: usize = 64;

/// `_IOWR('T', 1, struct tdx_report_req)`: 64 bytes in, 1024 bytes out.
const GET_REPORT: libc::c_ulong = 0xc440_5401;

/// Host, and the port of its quoting service.
const HOST_CID: u32 = 2;
const QUOTING_PORT: u32 = 4050;

/// Longest answer of the quoting service.
const ANSWER_LIMIT: usize = QUOTE_LIMIT + 1024;

const HEADER_LEN: usize = 16;
const GET_QUOTE_REQUEST: u32 = 0;
const GET_QUOTE_ANSWER: u32 = 1;

/// Turns a report of this machine into a quote.
pub trait QuotingService: Send + Sync {
    /// Opens one exchange.
    ///
    /// # Errors
    /// The service cannot be reached.
    fn open(&self) -> io::Result<Box<dyn Exchange>>;
}

/// A stream to the quoting service.
pub trait Exchange: Read + Write {}

impl<T: Read + Write> Exchange for T {}

/// The TEE of this machine through the older device.
pub struct TdxDevice<Q = VsockQuotingService> {
    path: PathBuf,
    service: Q,
    gpu: Option<GpuEvidence>,
}

impl TdxDevice<VsockQuotingService> {
    /// Where the kernel offers it.
    pub const PATH: &str = DEVICE;

    /// Returns the device of this machine; it is opened for each quote.
    #[must_use]
    pub fn new() -> Self {
        Self { path: DEVICE.into(), service: VsockQuotingService, gpu: None }
    }
}

impl Default for TdxDevice<VsockQuotingService> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q: QuotingService> TdxDevice<Q> {
    /// Gives the GPU evidence of boot.
    #[must_use]
    pub fn with_gpu(mut self, gpu: GpuEvidence) -> Self {
        self.gpu = Some(gpu);
        self
    }

    fn report(&self, report_data: &[u8; 64]) -> Result<[u8; REPORT_LEN], EvidenceFault> {
        let fault = |source| EvidenceFault::Device {
            what: "asking for a TD report",
            path: self.path.clone(),
            source,
        };
        let device = std::fs::File::open(&self.path).map_err(fault)?;
        let mut request = [0_u8; REPORT_DATA_LEN + REPORT_LEN];
        request[..REPORT_DATA_LEN].copy_from_slice(report_data);
        get_report(&device, &mut request).map_err(fault)?;
        let mut report = [0; REPORT_LEN];
        report.copy_from_slice(&request[REPORT_DATA_LEN..]);
        Ok(report)
    }
}

impl<Q: QuotingService> EvidenceProvider for TdxDevice<Q> {
    fn kind(&self) -> TeeKind {
        TeeKind::Tdx
    }

    fn quote(&self, subject: QuoteSubject<'_>) -> Result<TeeEvidence, EvidenceFault> {
        let report_data = subject.report_data();
        let quote = quote_of(&self.service, &self.report(&report_data)?)?;
        if TdReport::read(&quote)?.report_data != report_data {
            let expected = "what this process asked for";
            return Err(EvidenceFault::Unusable(BadEvidence::NotBound { expected }));
        }
        Ok(TeeEvidence { tdx_quote: Some(quote), ..TeeEvidence::default() })
    }

    fn measurement(&self) -> Result<Measurement, EvidenceFault> {
        let evidence = self.quote(QuoteSubject::CertificateKey(&[0; 32]))?;
        let quote = evidence.tdx_quote.unwrap_or_default();
        Ok(Measurement::Td(Box::new(TdReport::read(&quote)?.measurement)))
    }

    fn boot_log(&self) -> Option<Vec<u8>> {
        read_boot_log(&KernelFiles, Path::new(ACPI_TABLES)).ok().flatten()
    }

    fn gpu(&self) -> Option<GpuEvidence> {
        self.gpu.clone()
    }
}

/// Asks the quoting service for a quote over a report.
fn quote_of(
    service: &dyn QuotingService,
    report: &[u8; REPORT_LEN],
) -> Result<Vec<u8>, EvidenceFault> {
    let fault = |detail: String| EvidenceFault::QuotingService { detail };
    let mut stream = service.open().map_err(|error| fault(error.to_string()))?;
    stream.write_all(&request(report)).map_err(|error| fault(error.to_string()))?;
    let mut len = [0; 4];
    stream.read_exact(&mut len).map_err(|error| fault(error.to_string()))?;
    let len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
    if len > ANSWER_LIMIT {
        return Err(fault(format!("an answer of {len} bytes")));
    }
    let mut answer = vec![0; len];
    stream.read_exact(&mut answer).map_err(|error| fault(error.to_string()))?;
    quote_in(&answer).map_err(fault)
}

/// Returns the request: its length (big endian), the header, the report without key ids.
fn request(report: &[u8; REPORT_LEN]) -> Vec<u8> {
    let size = (HEADER_LEN + 8 + REPORT_LEN) as u32;
    let mut out = size.to_be_bytes().to_vec();
    out.extend_from_slice(&1_u16.to_le_bytes());
    out.extend_from_slice(&0_u16.to_le_bytes());
    for word in [GET_QUOTE_REQUEST, size, 0, REPORT_LEN as u32, 0] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(report);
    out
}

/// Reads the answer: header, length of the key id, length of the quote, both.
pub(crate) fn quote_in(answer: &[u8]) -> Result<Vec<u8>, String> {
    let word = |at: usize| -> Result<u32, String> {
        let bytes = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map(u32::from_le_bytes).ok_or_else(|| "the answer ends early".to_owned())
    };
    let (kind, error) = (word(4)?, word(12)?);
    if kind != GET_QUOTE_ANSWER || error != 0 {
        return Err(format!("an answer of kind {kind} with the error {error:#x}"));
    }
    let length = |at| word(at).map(|len| usize::try_from(len).unwrap_or(usize::MAX));
    let (id_len, quote_len) = (length(HEADER_LEN)?, length(HEADER_LEN + 4)?);
    let start = (HEADER_LEN + 8).checked_add(id_len);
    let end = start.and_then(|start| start.checked_add(quote_len));
    match (start, end) {
        (Some(start), Some(end)) if quote_len > 0 => {
            answer.get(start..end).map(Vec::from).ok_or_else(|| "the answer ends early".to_owned())
        }
        _ => Err("an empty quote".to_owned()),
    }
}

/// The quoting service of the host over a virtual socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct VsockQuotingService;

impl QuotingService for VsockQuotingService {
    fn open(&self) -> io::Result<Box<dyn Exchange>> {
        let socket = vsock(HOST_CID, QUOTING_PORT)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        socket.set_write_timeout(Some(Duration::from_secs(30)))?;
        Ok(Box::new(socket))
    }
}

/// Fills the second part of `request` from the first.
#[allow(unsafe_code, reason = "an ioctl has no safe form; see SAFETY")]
fn get_report(
    device: &std::fs::File,
    request: &mut [u8; REPORT_DATA_LEN + REPORT_LEN],
) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, and the kernel reads and
    // writes exactly the 1088 bytes that `request` has and that the number encodes.
    let status = unsafe { libc::ioctl(device.as_raw_fd(), GET_REPORT, request.as_mut_ptr()) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Connects a virtual socket. Reading, writing and timeouts of a stream socket do not depend
/// on its family, so the standard library's Unix stream carries it.
#[allow(unsafe_code, reason = "virtual sockets are not in the standard library; see SAFETY")]
fn vsock(cid: u32, port: u32) -> io::Result<std::os::unix::net::UnixStream> {
    use std::os::fd::{FromRawFd as _, OwnedFd};
    // SAFETY: no pointers; the descriptor is checked and owned at once.
    let raw = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `raw` was just made by us and belongs to nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: a structure of integers, for which zeros are valid.
    let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
    address.svm_family = libc::AF_VSOCK as libc::sa_family_t;
    address.svm_cid = cid;
    address.svm_port = port;
    let len = size_of::<libc::sockaddr_vm>() as libc::socklen_t;
    // SAFETY: the address lives through the call and `len` is its size.
    let status = unsafe {
        libc::connect(socket.as_raw_fd(), (&raw const address).cast::<libc::sockaddr>(), len)
    };
    if status == 0 { Ok(socket.into()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_and_answers_have_the_layout_of_the_service() {
        let request = request(&[7; REPORT_LEN]);
        assert_eq!(request.len(), 4 + 16 + 8 + 1024);
        assert_eq!(
            hex::encode(&request[..28]),
            concat!(
                "00000418", "01000000", "00000000", "18040000", "00000000", "00040000", "00000000",
            )
        );
        let mut answer = vec![1, 0, 0, 0, 1, 0, 0, 0, 29, 0, 0, 0, 0, 0, 0, 0];
        answer.extend([2, 0, 0, 0, 3, 0, 0, 0, 0xaa, 0xaa, 1, 2, 3]);
        assert_eq!(quote_in(&answer).unwrap(), [1, 2, 3]);
        answer[12] = 1;
        quote_in(&answer).unwrap_err();
    }

    proptest! {
        #[test]
        fn arbitrary_answers_never_panic(answer in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = quote_in(&answer);
        }
    }
}
