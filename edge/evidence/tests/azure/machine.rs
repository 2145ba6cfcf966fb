//! A machine of Azure, as far as its devices show it.

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use cocoon_attest::channel::Statement;
use cocoon_attest::snp::SnpProduct;
use cocoon_attest::tdx::TdReport;
use cocoon_attest::{Digest32, Verdict, certificate_report_data, verify};
use cocoon_evidence::azure::{TdQuotes, Tpm};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm, SimulatedVtpm};
use cocoon_evidence::{EvidenceFault, EvidenceProvider as _, QuoteSubject, TeeEvidence};

pub(crate) const NOW_S: u64 = 1_795_262_400;
pub(crate) const KEY: [u8; 32] = [0x42; 32];

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

pub(crate) fn platform(snp: Option<SnpProduct>) -> SimulatedPlatform {
    let form = SimulatedPlatformForm { snp, paravisor: true, ..SimulatedPlatformForm::default() };
    SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap()
}

/// The paravisor's report over what the platform gave.
pub(crate) fn hcl(evidence: &TeeEvidence) -> Vec<u8> {
    let text = evidence.runtime_data.clone().unwrap();
    let (kind, hardware) = match (&evidence.sev_report, &evidence.tdx_quote) {
        (Some(report), _) => (2_u32, report.clone()),
        (None, Some(quote)) => {
            let mut report = vec![0; 1024];
            report[128..192].copy_from_slice(&TdReport::read(quote).unwrap().report_data);
            (4, report)
        }
        (None, None) => panic!("no report"),
    };
    let mut out = b"HCLA".to_vec();
    out.resize(32, 0);
    out.extend_from_slice(&hardware);
    out.resize(32 + 1184, 0);
    for word in [0, 1, kind, 1, text.len() as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&text);
    out.resize(2600, 0);
    out
}

/// What a vTPM does wrong while its registers are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It extends a register after each of this many readings.
    Extends(u32),
    /// It has no such key, or no bank of SHA-256.
    Refuses(u32),
    /// It answers this command with this many bytes less, or one more.
    Cut(u32, usize),
    Longer(u32),
    /// It gives registers of another bank.
    OtherBank,
    /// It signs with a key of its own.
    OtherKey,
    /// It signs other extra data than asked for.
    OtherExtraData,
}

pub(crate) struct FakeTpm {
    pub(crate) platform: Arc<SimulatedPlatform>,
    /// The statement of a connection that it knows besides the certificate's key.
    pub(crate) statement: Mutex<Option<Statement>>,
    fault: Option<Fault>,
    /// Pieces of registers read so far.
    readings: Mutex<u32>,
    user_data: Mutex<Option<Vec<u8>>>,
    /// Reports that are still about something else after each writing.
    pub(crate) stale: Mutex<u32>,
    pub(crate) commands: Mutex<Vec<Vec<u8>>>,
}

impl FakeTpm {
    pub(crate) fn with(self, fault: Fault) -> Self {
        Self { fault: Some(fault), ..self }
    }

    fn report(&self) -> Vec<u8> {
        let statement = self.statement.lock().unwrap();
        if let Some(statement) = statement.as_ref()
            && self.user_data.lock().unwrap().as_deref() == Some(&statement.report_data()[..])
        {
            return hcl(&self.platform.quote(QuoteSubject::Channel(statement)).unwrap());
        }
        let known = certificate_report_data(&KEY).to_vec();
        let mut stale = self.stale.lock().unwrap();
        let current = *stale == 0 && self.user_data.lock().unwrap().as_ref() == Some(&known);
        *stale = stale.saturating_sub(1);
        let key = if current { KEY } else { [0; 32] };
        hcl(&self.platform.quote(QuoteSubject::CertificateKey(&key)).unwrap())
    }
}

impl FakeTpm {
    /// Answers `TPM2_PCR_Read` for eight registers.
    fn registers(&self, selection: &[u8]) -> Vec<u8> {
        assert_eq!(selection[..7], [0, 0, 0, 1, 0, 0x0b, 3]);
        let mut readings = self.readings.lock().unwrap();
        *readings += 1;
        let mut body = readings.to_be_bytes().to_vec();
        body.extend_from_slice(selection);
        if self.fault == Some(Fault::OtherBank) {
            body[9] = 4;
        }
        let vtpm = self.platform.vtpm().unwrap();
        let mut values: Vec<Digest32> = Vec::new();
        for (number, value) in vtpm.registers() {
            if selection[7 + usize::from(number / 8)] >> (number % 8) & 1 == 1 {
                values.push(*value);
            }
        }
        // The value of before: what is signed is that of now.
        if matches!(self.fault, Some(Fault::Extends(times)) if *readings <= times * 3) {
            values[0].0[0] ^= 1;
        }
        body.extend_from_slice(&(values.len() as u32).to_be_bytes());
        for value in values {
            body.extend_from_slice(&[0, 32]);
            body.extend_from_slice(&value.0);
        }
        body
    }

    /// Answers `TPM2_Quote`: parameters behind their length, then the session.
    fn signed(&self, command: &[u8]) -> Vec<u8> {
        // The password session, the extra data, no scheme of the caller's, all registers.
        assert_eq!(hex::encode(&command[14..27]), "00000009400000090000000000");
        let (len, extra_data) = (&command[27..29], &command[29..61]);
        assert_eq!(
            (len, hex::encode(&command[61..])),
            (&[0, 32][..], "001000000001000b03ffffff".to_owned())
        );
        let mut extra_data = Digest32::from(<[u8; 32]>::try_from(extra_data).unwrap());
        if self.fault == Some(Fault::OtherExtraData) {
            extra_data.0[0] ^= 1;
        }
        let own = SimulatedVtpm::boot("worker");
        let vtpm = match self.fault {
            Some(Fault::OtherKey) => own.as_ref().unwrap(),
            _ => self.platform.vtpm().unwrap(),
        };
        let quote = vtpm.quote(&extra_data).unwrap();
        let mut parameters = (quote.attest.len() as u16).to_be_bytes().to_vec();
        parameters.extend_from_slice(&quote.attest);
        parameters.extend_from_slice(&quote.signature);
        let mut body = (parameters.len() as u32).to_be_bytes().to_vec();
        body.extend_from_slice(&parameters);
        body.extend_from_slice(&[0, 0, 1, 0, 0]);
        body
    }

    /// Says the answer, unless it is one that goes wrong.
    fn say(&self, code: u32, mut body: Vec<u8>) -> Vec<u8> {
        match self.fault {
            Some(Fault::Refuses(refused)) if refused == code => {
                vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x8b]
            }
            Some(Fault::Cut(cut, len)) if cut == code => {
                body.truncate(body.len().saturating_sub(len));
                good(&body)
            }
            Some(Fault::Longer(longer)) if longer == code => {
                body.push(0);
                good(&body)
            }
            _ => good(&body),
        }
    }
}

fn good(body: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 0x01];
    out.extend_from_slice(&(body.len() as u32 + 10).to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(body);
    out
}

impl Tpm for &FakeTpm {
    fn transmit(&self, command: &[u8]) -> io::Result<Vec<u8>> {
        self.commands.lock().unwrap().push(command.to_vec());
        assert_eq!(command.len(), u32::from_be_bytes(command[2..6].try_into().unwrap()) as usize);
        let word = |at: usize| u32::from_be_bytes(command[at..at + 4].try_into().unwrap());
        let half =
            |at: usize| usize::from(u16::from_be_bytes(command[at..at + 2].try_into().unwrap()));
        let public = |len: usize| {
            let mut body = vec![0, 14];
            body.extend_from_slice(&command[10..14]);
            body.extend_from_slice(&[0, 11, 0, 2, 0, 2, 0, 0]);
            body.extend_from_slice(&(len as u16).to_be_bytes());
            good(&body)
        };
        match word(6) {
            0x17e => return Ok(self.say(0x17e, self.registers(&command[10..]))),
            0x158 => {
                assert_eq!(word(10), 0x8100_0003, "the paravisor's key");
                return Ok(self.say(0x158, self.signed(command)));
            }
            _ => {}
        }
        Ok(match (word(6), word(10)) {
            (0x169, 0x0140_0001) => public(2600),
            (0x169, 0x0140_0002) if self.user_data.lock().unwrap().is_some() => public(64),
            (0x169, _) => vec![0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0x8b],
            (0x12a, _) => {
                *self.user_data.lock().unwrap() = Some(vec![0; 64]);
                good(&[0; 9])
            }
            (0x137, _) => {
                let len = half(31);
                *self.user_data.lock().unwrap() = Some(command[33..33 + len].to_vec());
                good(&[0; 9])
            }
            (0x14e, _) => {
                let (len, at) = (half(31), half(33));
                let content = self.report();
                let mut body = vec![0; 4];
                body.extend_from_slice(&(len as u16).to_be_bytes());
                body.extend_from_slice(&content[at..at + len]);
                good(&body)
            }
            _ => panic!("an unknown command"),
        })
    }
}

pub(crate) struct Quotes(pub(crate) Arc<SimulatedPlatform>);

impl TdQuotes for Quotes {
    fn quote(&self, td_report: &[u8]) -> Result<Vec<u8>, EvidenceFault> {
        // The simulated TEE takes typed subjects only, so the service knows two reports.
        let quotes = [KEY, [0; 32]].map(|key| {
            self.0.quote(QuoteSubject::CertificateKey(&key)).unwrap().tdx_quote.unwrap()
        });
        let covers =
            |quote: &Vec<u8>| TdReport::read(quote).unwrap().report_data == td_report[128..192];
        Ok(quotes.into_iter().find(covers).unwrap())
    }
}

/// Reports are read in several pieces, so the platform makes many; none differ but by their subject.
pub(crate) fn tpm(snp: Option<SnpProduct>, stale: u32) -> FakeTpm {
    let platform = Arc::new(platform(snp));
    FakeTpm {
        platform,
        statement: Mutex::default(),
        fault: None,
        readings: Mutex::default(),
        user_data: Mutex::default(),
        stale: Mutex::new(stale),
        commands: Mutex::default(),
    }
}

pub(crate) fn judged(
    platform: &SimulatedPlatform,
    evidence: &TeeEvidence,
    key: &[u8; 32],
) -> Verdict {
    let collateral = platform.collateral(NOW_S).unwrap();
    let evidence = evidence.to_peer_evidence(key);
    verify(&evidence, &collateral, &platform.policy(), NOW_S * 1000)
}
