//! Recorded programs of the reference through our two routers, both lines.

use cocoon_router::RouterConfig;
use cocoon_wire::peer_info::{Line, PeerInfo};
use cocoon_wire::socks;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::{Site, connect, take, within};

/// What a program said to its router and was told, and what came and went behind the other one.
struct Recording {
    socks: (&'static [u8], &'static [u8]),
    inner: (&'static [u8], &'static [u8]),
    line: Line,
}

macro_rules! recording {
    ($line:ident, $folder:literal, $socks:literal, $inner:literal) => {
        Recording {
            socks: recording!(@$folder, $socks),
            inner: recording!(@$folder, $inner),
            line: Line::$line,
        }
    };
    (@$folder:literal, $name:literal) => {
        (
            include_bytes!(concat!("../../../../testdata/captures/", $folder, "/", $name, ".c2s.bin"))
                .as_slice(),
            include_bytes!(concat!("../../../../testdata/captures/", $folder, "/", $name, ".s2c.bin"))
                .as_slice(),
        )
    };
}

/// Length and blob, and the frames after it.
fn split_blob(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (length, _) = bytes.split_first_chunk().unwrap();
    bytes.split_at(4 + u32::from_le_bytes(*length) as usize)
}

/// The word must say the same as the recorded one, less key and ports.
fn same_word(ours: &[u8], recorded: &[u8], line: Line) {
    let read = |bytes| {
        let (info, taken) = PeerInfo::decode_prefixed(bytes, line).unwrap().unwrap();
        assert_eq!(taken, bytes.len());
        (info.attestation, info.collateral_root, info.source_ip.to_string())
    };
    assert_eq!(read(ours), read(recorded));
    assert_eq!(ours.len(), recorded.len());
}

async fn replay(recording: &Recording) {
    let site = Site::start(|both| {
        both.set_info();
        if recording.line == Line::Base {
            let base = toml_line("base");
            both.0.line = base.line;
        }
    })
    .await;
    let (said, told) = recording.socks;
    let (greeting, rest) = said.split_at(3);
    let (_, frames) = rest.split_at(socks::REQUEST_BYTES);
    let std::net::SocketAddr::V4(target) = site.reverse else { panic!("IPv6") };
    let mut program = connect(site.socks).await;
    let mut first = greeting.to_vec();
    first.extend(socks::encode_connect(target));
    first.extend(frames);
    // In pieces that cut everything, the first frames before the reply is there.
    for piece in first.chunks(5) {
        program.write_all(piece).await.unwrap();
    }
    let mut behind = site.accepted().await;
    let (recorded, recorded_frames) = split_blob(recording.inner.0);
    let blob = take(&mut behind, recorded.len()).await;
    same_word(&blob, recorded, recording.line);
    assert_eq!(take(&mut behind, recorded_frames.len()).await, recorded_frames);
    assert_eq!(recorded_frames, frames, "the recordings are of one connection");
    behind.write_all(recording.inner.1).await.unwrap();
    behind.shutdown().await.unwrap();
    let (recorded_replies, recorded_rest) = told.split_at(2 + socks::REQUEST_BYTES);
    let replies = take(&mut program, recorded_replies.len()).await;
    assert_eq!(replies[..8], recorded_replies[..8], "all but the port");
    let (recorded, recorded_frames) = split_blob(recorded_rest);
    let blob = take(&mut program, recorded.len()).await;
    same_word(&blob, recorded, recording.line);
    let mut came = Vec::new();
    program.read_to_end(&mut came).await.unwrap();
    assert!(came.starts_with(recorded_frames), "every frame came");
    assert_eq!(came, recording.inner.1);
    drop((program, behind));
    site.stop().await;
}

/// The setting as a file writes it.
fn toml_line(text: &str) -> RouterConfig {
    let layers = cocoon_host::config::Layers::defaults(&RouterConfig::default()).unwrap();
    layers.set(&format!("line={text}")).unwrap().build().unwrap()
}

#[tokio::test]
async fn recorded_programs_of_the_present_line_pass() {
    within(async {
        for recording in [
            recording!(Live, "live", "A_099_8116", "A_121_11101"),
            recording!(Live, "live", "A_104_8116", "A_123_11102"),
            recording!(Live, "live", "A_103_8116", "A_122_13101"),
            recording!(Live, "live", "B_101_8116", "B_124_11102"),
        ] {
            replay(&recording).await;
        }
    })
    .await;
}

#[tokio::test]
async fn recorded_programs_of_the_older_line_pass() {
    within(async {
        for recording in [
            recording!(Base, "base", "A_082_8116", "A_126_11101"),
            recording!(Base, "base", "A_085_8116", "A_140_11102"),
            recording!(Base, "base", "B_000_8116", "B_005_11102"),
        ] {
            replay(&recording).await;
        }
    })
    .await;
}
