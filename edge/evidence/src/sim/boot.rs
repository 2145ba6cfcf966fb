//! What the simulated firmware measures while an image boots.

use cocoon_attest::Digest48;
use cocoon_attest::tdx::{BootEvent, BootLog, BootRegister};

const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
const SEPARATOR: u32 = 4;
const IPL: u32 = 0x0d;

/// Returns the boot log of an image: firmware, loader, kernel, command line.
pub(super) fn boot_log(image: &str) -> BootLog {
    let event = |register, kind, measured: &[u8], data: &[u8]| BootEvent {
        register,
        kind,
        digest: Digest48::sha384(&[measured]),
        data: data.to_vec(),
    };
    let secure_boot = variable("SecureBoot", &[1]);
    let separator = [0; 4];
    let kernel = format!("kernel of {image}");
    let line = format!("root=/dev/dm-0 image={image}");
    BootLog::from_events([
        event(BootRegister::Rtmr0, VARIABLE_DRIVER_CONFIG, &secure_boot, &secure_boot),
        event(BootRegister::Rtmr0, SEPARATOR, &separator, &separator),
        event(BootRegister::Rtmr1, BOOT_SERVICES_APPLICATION, kernel.as_bytes(), &[0; 32]),
        event(BootRegister::Rtmr1, SEPARATOR, &separator, &separator),
        event(
            BootRegister::Rtmr2,
            IPL,
            line.as_bytes(),
            format!("kernel_cmdline: {line}\0").as_bytes(),
        ),
    ])
}

/// Returns the log with one event that is about something else than what was measured.
pub(super) fn altered(log: &BootLog) -> BootLog {
    let mut events = log.events().to_vec();
    if let Some(event) = events.last_mut() {
        let line = b"kernel_cmdline: root=/dev/sda\0".to_vec();
        *event = BootEvent { digest: Digest48::sha384(&[b"root=/dev/sda"]), data: line, ..*event };
    }
    BootLog::from_events(events)
}

/// `UEFI_VARIABLE_DATA` of a variable without a vendor.
fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 16];
    out.extend_from_slice(&(name.len() as u64).to_le_bytes());
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    out.extend_from_slice(value);
    out
}
