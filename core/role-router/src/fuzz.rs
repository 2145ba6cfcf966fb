//! Entry points for fuzzers: every reader here on arbitrary bytes.
//!
//! Each function returns normally for every input or panics on a broken law.

use crate::policy::PolicyTable;
use crate::port::PortSpec;
use crate::reference::ReferenceFile;
use crate::socks::{SocksServer, SocksStep};

/// A program's SOCKS conversation, in one piece and byte by byte: both must agree.
///
/// # Panics
/// When a law is broken.
pub fn socks(data: &[u8]) {
    for take_user in [false, true] {
        assert_eq!(converse(take_user, data, data.len()), converse(take_user, data, 1));
    }
}

/// What the server says to bytes that come in pieces: its output, and its last step.
fn converse(take_user: bool, data: &[u8], piece: usize) -> (Vec<u8>, Option<SocksStep>) {
    let mut server = SocksServer::new(take_user);
    let (mut out, mut rest) = (Vec::new(), data);
    loop {
        match server.step() {
            SocksStep::Write(bytes) => out.extend(bytes),
            SocksStep::More => {
                let taken = rest.len().min(piece.max(1)).min(server.room());
                if taken == 0 {
                    return (out, None);
                }
                let (now, later) = rest.split_at(taken);
                server.push(now);
                rest = later;
            }
            end => return (out, Some(end)),
        }
    }
}

/// Any file of the reference, and any text of its command line.
pub fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if let Ok(file) = ReferenceFile::read(&text) {
        let mut table = PolicyTable::default();
        for (name, spec) in file.policies {
            let _ = table.put(&name, spec);
        }
        for port in file.ports {
            let _ = table.find(&port.policy);
        }
    }
    let _ = PortSpec::socks(&text, true);
    let _ = PortSpec::forward(&text, true);
    let _ = PortSpec::reverse(&text, true);
    let _ = PortSpec::legacy(&text, true);
    let _ = PolicyTable::default().put_text(&text);
}
