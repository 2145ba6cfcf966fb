//! The firmware's boot log, on constructed bytes.
//!
//! The layout comes from the specifications named at `BootLog`. It was also compared by hand, in
//! November 2026, with logs of real machines that are not part of this repository: test data of
//! google/go-eventlog at b9c4e7a (`testdata/eventlogs/ccel`), among them that of a Confidential VM of
//! Google Cloud with TDX (`cos-113-intel-tdx-dupe-separator.bin`), whose replay gives the three
//! registers that its own tests name.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cocoon_attest::tdx::{BootEvent, BootLog, BootRegister};
use cocoon_attest::{BOOT_LOG_LIMIT, BadEvidence, Digest48};
use proptest::prelude::*;

const VARIABLE: u32 = 0x8000_0001;
const IPL: u32 = 0x0d;
const SEPARATOR: u32 = 4;
const NO_ACTION: u32 = 3;

fn event(register: BootRegister, kind: u32, measured: &[u8], data: &[u8]) -> BootEvent {
    BootEvent { register, kind, digest: Digest48::sha384(&[measured]), data: data.to_vec() }
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn variable(name: &str, value: &[u8]) -> Vec<u8> {
    let mut out = vec![7; 16];
    out.extend_from_slice(&(name.len() as u64).to_le_bytes());
    out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    out.extend_from_slice(&wide(name));
    out.extend_from_slice(value);
    out
}

/// A boot as firmware, loader and kernel write it.
fn log() -> BootLog {
    let secure_boot = variable("SecureBoot", &[1]);
    let boot_order = variable("BootOrder", &[3, 0]);
    let zeros = [0; 4];
    BootLog::from_events([
        event(BootRegister::Rtmr0, VARIABLE, &secure_boot, &secure_boot),
        event(BootRegister::Rtmr0, 0x8000_0002, &[3, 0], &boot_order),
        event(BootRegister::Rtmr0, SEPARATOR, &zeros, &zeros),
        event(BootRegister::Rtmr1, 0x8000_0003, b"a file of the loader", &[0xa5; 40]),
        event(BootRegister::MrTd, 0x8000_000a, b"firmware", b"firmware"),
        event(BootRegister::Rtmr1, NO_ACTION, b"nothing", b"nothing"),
        event(BootRegister::Rtmr2, IPL, b"linux /vmlinuz ro", b"grub_cmd: linux /vmlinuz ro\0"),
        event(BootRegister::Rtmr2, IPL, &wide("ro quiet\0"), &wide("ro quiet\0")),
        event(BootRegister::Rtmr2, IPL, b"another file", b"/initrd"),
        event(BootRegister::Rtmr2, IPL, b"if a\n\tb\n", b"grub_cmd: if a\n\tb\n\0"),
    ])
}

#[test]
fn a_log_reads_as_written_with_padding_or_without() {
    let bytes = log().encode();
    assert_eq!(BootLog::read(&bytes).unwrap(), log());
    for padding in [vec![0xff; 4096], vec![0; 4096], vec![0xff; 4], Vec::new()] {
        let area = [bytes.as_slice(), &padding].concat();
        assert_eq!(BootLog::trim(&area).unwrap(), bytes);
        assert_eq!(BootLog::read(&area).is_ok(), padding.is_empty(), "padding travels");
    }
    for len in 0..bytes.len() {
        // Cut between two events it is a shorter log, anywhere else none.
        if let Ok(shorter) = BootLog::read(&bytes[..len]) {
            assert!(log().events().starts_with(shorter.events()), "cut to {len}");
        }
    }
}

#[test]
fn the_replay_is_that_of_the_registers_and_every_change_shows() {
    let extended = |register: BootRegister| {
        let events = log().events().to_vec();
        let of_it = events.into_iter().filter(|event| event.register == register);
        of_it
            .filter(|event| event.kind != NO_ACTION)
            .fold(Digest48::ZERO, |before, event| Digest48::sha384(&[&before.0, &event.digest.0]))
    };
    let names = [BootRegister::Rtmr0, BootRegister::Rtmr1, BootRegister::Rtmr2];
    let [rtmr0, rtmr1, rtmr2] = names.map(extended);
    let measured = [rtmr0, rtmr1, rtmr2, Digest48::sha384(&[b"what ran later"])];
    log().check(&measured).unwrap();
    let steps = log();
    let steps = steps.replay();
    assert_eq!(steps[2].after, Some(rtmr0));
    assert_eq!((steps[4].after, steps[5].after), (None, None), "these extend nothing");
    assert_eq!(steps[9].after, Some(rtmr2));

    let refused = |log: &BootLog, name: &str| match log.check(&measured) {
        Err(BadEvidence::BootLog { register, .. }) => assert_eq!(register, name),
        other => panic!("{other:?}"),
    };
    for (at, event) in log().events().iter().enumerate() {
        if !event.is_extended() {
            continue;
        }
        let changed = |change: &dyn Fn(&mut Vec<BootEvent>)| {
            let mut events = log().events().to_vec();
            change(&mut events);
            refused(&BootLog::from_events(events), event.register.name());
        };
        changed(&|events| drop(events.remove(at)));
        changed(&|events| events[at].digest.0[47] ^= 1);
        changed(&|events| events.insert(at, events[at].clone()));
        changed(&|events| events[at].kind = NO_ACTION);
    }
    // A register of which the log says nothing has to be as it was at reset.
    refused(&BootLog::default(), "RTMR0");
    // The system's own register counts where the log speaks of it.
    let more = event(BootRegister::Rtmr3, IPL, b"x", b"x");
    let more = BootLog::from_events(log().events().iter().cloned().chain([more]));
    refused(&more, "RTMR3");
}

#[test]
fn events_say_what_they_are_and_what_is_measured_of_it() {
    let told: Vec<(String, bool)> = log().events().iter().map(BootEvent::text).collect();
    let expected = [
        ("SecureBoot (1 bytes)", true),
        // The digest is over the value alone, not the name.
        ("BootOrder (2 bytes)", false),
        ("separator", true),
        ("40 bytes", false),
        ("firmware", true),
        ("nothing", true),
        // Without the loader's word, which no digest covers.
        ("linux /vmlinuz ro", true),
        ("ro quiet", true),
        ("/initrd", false),
        ("if a  b ", true),
    ];
    assert_eq!(told, expected.map(|(text, measured)| (text.to_owned(), measured)));
    let log = log();
    let order = &log.events()[1];
    assert_eq!(order.covered(), Some(&[3, 0][..]), "the value alone, not the name");
    assert_eq!(order.kind_name(), Some("EV_EFI_VARIABLE_BOOT"));
    let command = &log.events()[6];
    assert_eq!(command.covered(), Some(&b"linux /vmlinuz ro"[..]));
}

#[test]
fn what_no_digest_covers_is_not_called_measured() {
    let said = |kind, measured: &[u8], data: &[u8]| {
        event(BootRegister::Rtmr2, kind, measured, data).text()
    };
    let line: &[u8] = b"root=/dev/sda1 init=/bin/sh";
    let told = |text: &str, measured| (text.to_owned(), measured);
    // A command line under the name of a separator; what the profile defines is one.
    assert_eq!(said(SEPARATOR, line, line), told("root=/dev/sda1 init=/bin/sh", true));
    assert_eq!(said(SEPARATOR, line, &[0; 4]), told("separator", false));
    for data in [[0; 4], [0xff; 4], [1, 0, 0, 0]] {
        assert_eq!(said(SEPARATOR, &data, &data), told("separator", true));
    }
    assert_eq!(said(SEPARATOR, &[2; 4], &[2; 4]), told("4 bytes", true));
    // Words put before a command, and before none.
    let harmless = [b"kernel_cmdline ro quiet: ", line].concat();
    assert_eq!(said(IPL, line, &harmless), told("root=/dev/sda1 init=/bin/sh", true));
    assert_eq!(said(IPL, b"", b"secure boot is on: "), told("0 bytes", true));
    // A variable under another name.
    let renamed = variable("SecureBoot", &[1]);
    assert_eq!(said(VARIABLE, &[1], &renamed), told("SecureBoot (1 bytes)", false));
    assert_eq!(said(VARIABLE, b"", &variable("dbx", b"")), told("dbx (0 bytes)", false));
}

#[test]
fn everything_else_is_refused() {
    let good = log().encode();
    let change = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        BootLog::read(&bytes).unwrap_err()
    };
    for (at, byte, what) in [
        (4, 4, "the first event is no header"),
        (32, b'X', "another form"),
        (56, 0xff, "too many algorithms"),
        (60, 0x0b, "SHA-256 alone"),
        (62, 32, "SHA-384 of another length"),
        (65, 9, "a register that TDX has not"),
        (73, 2, "more digests than algorithms"),
        (77, 0x0b, "an algorithm that was not announced"),
    ] {
        assert!(matches!(change(at, byte), BadEvidence::Malformed { .. }), "{what}");
    }
    // Announced data of four gigabytes cost nothing.
    let mut greedy = good.clone();
    greedy[127..131].copy_from_slice(&[0xfe, 0xff, 0xff, 0xff]);
    BootLog::read(&greedy).unwrap_err();
    let long = event(BootRegister::Rtmr0, IPL, b"", &vec![b'a'; BOOT_LOG_LIMIT]);
    let long = BootLog::from_events([long]).encode();
    assert!(matches!(BootLog::read(&long), Err(BadEvidence::TooLong { .. })));
    let many = vec![event(BootRegister::Rtmr0, IPL, b"", b""); 5000];
    BootLog::read(&BootLog::from_events(many).encode()).unwrap_err();
}

proptest! {
    #[test]
    fn changed_logs_never_panic_and_never_lead_to_the_same_registers(
        at in any::<prop::sample::Index>(), byte in 1_u8..,
    ) {
        let good = log().encode();
        let mut bytes = good.clone();
        *at.get_mut(&mut bytes[..]) ^= byte;
        cocoon_attest::fuzz::boot_log(&bytes);
        if let Ok(changed) = BootLog::read(&bytes) {
            // What is not extended may say anything.
            let same = |a: &BootEvent, b: &BootEvent| match (a.is_extended(), b.is_extended()) {
                (false, false) => true,
                (true, true) => (a.register, a.digest) == (b.register, b.digest),
                _ => false,
            };
            let pairs = changed.events().iter().zip(log().events().to_vec());
            let is_same = pairs.clone().all(|(a, b)| same(a, &b));
            prop_assert_eq!(changed.check(&log().registers()).is_ok(), is_same);
        }
    }
}
