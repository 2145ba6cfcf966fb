//! `cocoon gen-cert` and `cocoon image-hash`: evidence in files.

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use cocoon_attest::{Digest48, ImageReading, Measurement, TdMeasurement};
use cocoon_evidence::linux::{ConfigfsTsm, TdxDevice};
use cocoon_evidence::sim::{DevPki, SimulatedPlatform, SimulatedPlatformForm};
use cocoon_evidence::{EvidenceProvider, QuoteSubject};
use cocoon_host::clock;
use cocoon_host::hardware::HardwareConfig;
use cocoon_ratls::{CertificateRequest, Credentials, LIFETIME_S, NodeKey, OwnEvidence};
use cocoon_ratls::{PeerCertificate, certificate_der};
use serde_json::json;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::mistake;

/// How far ahead of the clock a certificate may begin, seconds (protocol notes, wire 2.4).
const AHEAD_S_MAX: u64 = 60;
/// Largest file that is read for evidence.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where evidence comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Tee {
    /// None: a certificate that any policy but "any" refuses.
    None,
    /// This machine's, by the kernel's report interface: TDX or SEV-SNP.
    Machine,
    /// This machine's TDX, by the older device.
    TdxDevice,
    /// A software TEE under development roots. It protects nothing.
    Simulated,
    /// What the reference's test nodes show. Anybody can make it.
    #[cfg(feature = "dangerous-fake-evidence")]
    FakeTee,
    /// The same of the reference's older line.
    #[cfg(feature = "dangerous-fake-evidence")]
    FakeTdx,
}

/// Options of `cocoon gen-cert`.
#[derive(Clone, Debug, Args)]
pub(crate) struct GenCertOptions {
    /// Beginning of the names: NAME_cert.pem, NAME_key.pem, NAME_image_hash.b64.
    name: PathBuf,
    /// Where the evidence comes from.
    #[arg(long, value_enum, default_value_t = Tee::Machine)]
    tee: Tee,
    /// Key to certify (PKCS#8 PEM, Ed25519); a new one is drawn when left out.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// AMD's certificate of this chip (PEM), for SEV-SNP.
    #[arg(long, value_name = "FILE")]
    vcek: Option<PathBuf>,
    /// Start of the validity, Unix seconds; now when left out.
    #[arg(long, value_name = "SECONDS")]
    from: Option<u64>,
    /// Length of the validity in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = LIFETIME_S)]
    lifetime: u32,
    /// File of the simulated platform's roots; made when it is not there.
    #[arg(long, value_name = "FILE", default_value = "simulated-roots.json")]
    roots: PathBuf,
    /// Name of the image that the simulated machine booted.
    #[arg(long, value_name = "NAME", default_value = "worker")]
    image: String,
    /// Number of the simulated machine.
    #[arg(long, value_name = "N", default_value_t = 1)]
    machine: u64,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Options of `cocoon image-hash`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ImageHashOptions {
    /// A TDX quote, a TD report, a SEV-SNP report, an SGX quote, or a certificate (PEM) with one.
    #[arg(required_unless_present_any = ["mrtd", "measurement"])]
    file: Option<PathBuf>,
    /// TDX: measurement of the initial contents, hex.
    #[arg(long, value_name = "HEX", conflicts_with = "file")]
    mrtd: Option<String>,
    /// TDX: the four runtime registers, hex, with commas between.
    #[arg(long, value_name = "HEX,HEX,HEX,HEX", requires = "mrtd", value_delimiter = ',')]
    rtmr: Vec<String>,
    /// TDX: the configuration that the host gives, hex; zero when left out.
    #[arg(long, value_name = "HEX", requires = "mrtd")]
    mrconfigid: Option<String>,
    /// SEV-SNP: the launch measurement, hex.
    #[arg(long, value_name = "HEX", conflicts_with_all = ["file", "mrtd"])]
    measurement: Option<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// `cocoon gen-cert`
pub(crate) fn gen_cert(options: &GenCertOptions) -> Result<()> {
    let now_s = clock::now_ms() / 1000;
    let from_s = options.from.unwrap_or(now_s);
    if from_s > now_s + AHEAD_S_MAX {
        let ahead = from_s - now_s;
        return Err(mistake(format_args!(
            "--from is {ahead} s in the future; at most {AHEAD_S_MAX} s are possible"
        )));
    }
    let names = ["_cert.pem", "_key.pem", "_image_hash.b64"].map(|end| {
        let mut name = options.name.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    });
    let [certificate_at, key_at, hash_at] = &names;
    if let Some(there) = names.iter().find(|path| !options.force && path.exists()) {
        return Err(mistake(format_args!("{} is there; --force replaces it", there.display())));
    }
    let key = match &options.key {
        Some(path) => NodeKey::from_pkcs8_pem(&read(path)?).map_err(mistake)?,
        None => NodeKey::from_seed(cocoon_host::keys::fresh().expose())?,
    };
    let (evidence, measurement) = evidence(options, &key)?;
    let request = CertificateRequest {
        not_before_unix_s: i64::try_from(from_s).unwrap_or(i64::MAX),
        lifetime_s: options.lifetime,
        evidence,
        ..CertificateRequest::new(from_s, 0)
    };
    let made = Credentials::make(key.clone(), &request).map_err(mistake)?;
    let hash = measurement.image_hash();
    // The key first: a router that looks in between finds a certificate of the old key, and waits.
    write(key_at, key.to_pkcs8_pem().as_bytes(), 0o600)?;
    write(certificate_at, made.certificate_pem().as_bytes(), 0o644)?;
    write(hash_at, hash.to_base64().as_bytes(), 0o644)?;
    if options.json {
        println!(
            "{}",
            json!({
                "certificate": certificate_at,
                "key": key_at,
                "public_key": hex::encode(key.public_key()),
                "image_hash": hash.to_base64(),
                "not_before_s": from_s,
                "not_after_s": made.not_after_unix_s(),
            })
        );
        return Ok(());
    }
    println!("certificate  {}", certificate_at.display());
    println!("key          {}", key_at.display());
    println!("image hash   {} ({})", hash.to_base64(), hash_at.display());
    Ok(())
}

fn evidence(options: &GenCertOptions, key: &NodeKey) -> Result<(OwnEvidence, Measurement)> {
    let provider: Box<dyn EvidenceProvider> = match options.tee {
        Tee::None => {
            return Ok((OwnEvidence::None, Measurement::Td(Box::<TdMeasurement>::default())));
        }
        Tee::Machine => {
            let mut machine = ConfigfsTsm::detect().map_err(mistake)?;
            if let Some(path) = &options.vcek {
                machine = machine.with_vcek_pem(read(path)?);
            }
            Box::new(machine)
        }
        Tee::TdxDevice => Box::new(TdxDevice::new()),
        Tee::Simulated => {
            let now_s = clock::now_ms() / 1000;
            let pki = Arc::new(DevPki::load_or_generate(&options.roots, now_s).map_err(mistake)?);
            let form = SimulatedPlatformForm {
                image: options.image.clone(),
                number: options.machine,
                ..SimulatedPlatformForm::default()
            };
            Box::new(SimulatedPlatform::boot(pki, form)?)
        }
        #[cfg(feature = "dangerous-fake-evidence")]
        Tee::FakeTee => {
            use cocoon_evidence::fake::{FakeLine, FakeTee};
            Box::new(FakeTee(FakeLine::Live))
        }
        #[cfg(feature = "dangerous-fake-evidence")]
        Tee::FakeTdx => {
            use cocoon_evidence::fake::{FakeLine, FakeTee};
            Box::new(FakeTee(FakeLine::Base))
        }
    };
    let made = provider.quote(QuoteSubject::CertificateKey(key.public_key()))?;
    let measurement = provider.measurement()?;
    let evidence = match (made.tdx_quote, made.sev_report, made.sev_vcek_pem) {
        (Some(quote), None, _) => OwnEvidence::Tdx { quote },
        (None, Some(report), Some(vcek_pem)) => OwnEvidence::Sev { report, vcek_pem },
        (None, Some(_), None) => {
            return Err(mistake("the platform gave no VCEK certificate: write --vcek FILE"));
        }
        _ => anyhow::bail!("the platform gave no evidence"),
    };
    Ok((evidence, measurement))
}

/// `cocoon image-hash`
pub(crate) fn image_hash(options: &ImageHashOptions) -> Result<()> {
    let reading = match (&options.file, &options.mrtd, &options.measurement) {
        (Some(path), ..) => of_file(path)?,
        (None, Some(mrtd), _) => {
            let rtmr: Vec<Digest48> =
                options.rtmr.iter().map(|text| register("--rtmr", text)).collect::<Result<_>>()?;
            let rtmr = rtmr.try_into().map_err(|_| mistake("--rtmr takes four registers"))?;
            let config = options.mrconfigid.as_deref().map(|text| register("--mrconfigid", text));
            let td = TdMeasurement {
                mr_td: register("--mrtd", mrtd)?,
                mr_config_id: config.transpose()?.unwrap_or_default(),
                rtmr,
                ..TdMeasurement::default()
            };
            ImageReading::of("TDX measurements", &Measurement::Td(Box::new(td)))
        }
        (None, None, Some(text)) => {
            let launch = Measurement::Snp(register("--measurement", text)?);
            ImageReading::of("SEV-SNP measurement", &launch)
        }
        (None, None, None) => return Err(mistake("write a file, --mrtd or --measurement")),
    };
    print(&reading, options.json);
    Ok(())
}

fn register(flag: &'static str, text: &str) -> Result<Digest48> {
    Digest48::read(flag, text.trim()).map_err(mistake)
}

fn of_file(path: &Path) -> Result<ImageReading> {
    let bytes = read(path)?;
    let shown = path.display();
    let named = |fault: &dyn std::fmt::Display| mistake(format_args!("{shown}: {fault}"));
    if !bytes.starts_with(b"-----BEGIN") {
        return ImageReading::of_file(&bytes).map_err(|fault| named(&fault));
    }
    let der = certificate_der(&bytes).map_err(|fault| named(&fault))?;
    let evidence = PeerCertificate::read(&der).map_err(|fault| named(&fault))?.evidence;
    match evidence.tdx_quote.or(evidence.sev_report) {
        Some(shown) => ImageReading::of_file(&shown).map_err(|fault| named(&fault)),
        None => Err(named(&"the certificate carries no critical evidence")),
    }
}

fn print(reading: &ImageReading, json: bool) {
    if json {
        let parts: Vec<_> = reading
            .parts
            .iter()
            .map(|part| {
                json!({ "name": part.name, "covers": part.covers, "bytes": hex::encode(&part.bytes) })
            })
            .collect();
        let hash = reading.hash;
        println!(
            "{}",
            json!({
                "kind": reading.kind,
                "parts": parts,
                "image_hash": hash.to_base64(),
                "image_hash_hex": hash.to_string(),
            })
        );
        return;
    }
    println!("{}: nothing of it is verified here\n", reading.kind);
    for part in &reading.parts {
        println!("{:<14} {}\n               {}", part.name, hex::encode(&part.bytes), part.covers);
    }
    println!("\nimage hash = SHA-256 of these, one after the other");
    println!(
        "  {}  (hex)\n  {}  (as the registry lists it)",
        reading.hash,
        reading.hash.to_base64()
    );
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let named = |fault: std::io::Error| mistake(format_args!("{}: {fault}", path.display()));
    let length = std::fs::metadata(path).map_err(named)?.len();
    if length > FILE_BYTES_MAX {
        return Err(mistake(format_args!("{}: {length} bytes are no evidence", path.display())));
    }
    std::fs::read(path).map_err(named)
}

/// Writes beside the place first, so that nobody finds half a file.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".partial");
    let shown = || format!("cannot write {}", path.display());
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(mode);
    let mut file = options.open(&fresh).with_context(shown)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(shown)?;
    std::fs::rename(&fresh, path).with_context(shown)
}

/// Options of `cocoon measure-gpu`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MeasureGpuOptions {
    /// Where to leave the GPU's evidence, for `gpu_file` of the node's settings.
    file: PathBuf,
    /// Which drivers and firmware are accepted: the policy file of the node's settings.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
}

/// `cocoon measure-gpu`
pub(crate) fn measure_gpu(options: &MeasureGpuOptions) -> Result<()> {
    let config = HardwareConfig {
        gpu_file: options.file.clone(),
        policy_file: options.policy.clone(),
        ..HardwareConfig::default()
    };
    let digest = config.measure_gpu().map_err(|fault| anyhow::anyhow!(fault))?;
    println!("{digest}");
    Ok(())
}
