//! Slow programs, slow peers, floods.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::site::{Site, connect, greeting, take, until, within};

#[tokio::test]
async fn a_program_that_says_nothing_is_left() {
    within(async {
        let site = Site::start(|both| both.0.limits.socks_ms = 200).await;
        let mut silent = connect(site.socks).await;
        let mut half = connect(site.socks).await;
        half.write_all(&[5, 200, 0]).await.unwrap();
        assert_eq!(silent.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(half.read(&mut [0]).await.unwrap_or(0), 0);
        until(&site.outer, |counts| counts.failed == 2 && counts.closed == 2).await;
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_does_no_work_is_left() {
    within(async {
        let site = Site::start(|both| both.0.limits.accept_ms = 300).await;
        let mut idle = connect(site.reverse).await;
        take(&mut idle, 24).await;
        assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
        let mut wrong = connect(site.reverse).await;
        take(&mut wrong, 24).await;
        wrong.write_all(&[9; 12]).await.unwrap();
        assert_eq!(wrong.read(&mut [0]).await.unwrap_or(0), 0);
        until(&site.inner, |counts| counts.failed == 2).await;
        assert_eq!(site.inner.counts().opened, 0);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn who_does_not_take_its_bytes_is_left() {
    within(async {
        let site = Site::start(|both| both.0.limits.stall_ms = 300).await;
        let program = connect(site.forward).await;
        let mut behind = site.accepted().await;
        // Until every buffer on the way is full; the program never reads.
        let flood = async {
            let bytes = vec![0; 1 << 20];
            while behind.write_all(&bytes).await.is_ok() {}
        };
        flood.await;
        until(&site.outer, |counts| counts.timed_out + counts.closed > 0).await;
        drop(program);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn silence_ends_a_connection_sooner_when_half_of_it_is_over() {
    within(async {
        let site = Site::start(|both| both.0.limits.half_closed_ms = 300).await;
        let mut program = connect(site.forward).await;
        program.write_all(b"x").await.unwrap();
        let mut behind = site.accepted().await;
        take(&mut behind, 1).await;
        program.shutdown().await.unwrap();
        assert_eq!(behind.read(&mut [0]).await.unwrap(), 0, "the end is passed on");
        // It never answers: the router gives up, not at once and not never.
        assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0);
        until(&site.outer, |counts| counts.closed == 1).await;
        site.stop().await;

        let site = Site::start(|both| both.0.limits.idle_ms = 300).await;
        let mut program = connect(site.forward).await;
        let _behind = site.accepted().await;
        assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0);
        until(&site.outer, |counts| counts.timed_out + counts.closed > 0).await;
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_flood_is_turned_away_and_everything_is_given_back() {
    within(async {
        let site = Site::start(|both| {
            both.0.limits.connections_per_address = 8;
            both.0.limits.handshakes_per_address = 8;
            both.0.limits.connections = 64;
        })
        .await;
        let mut flood = Vec::new();
        for _ in 0..100 {
            flood.push(connect(site.reverse).await);
        }
        until(&site.inner, |counts| counts.turned_away == 92).await;
        drop(flood);
        until(&site.inner, |counts| counts.closed == 8).await;
        // There is room again, and open connections count too.
        let mut kept = Vec::new();
        for _ in 0..8 {
            let mut program = connect(site.forward).await;
            program.write_all(b"x").await.unwrap();
            let mut behind = site.accepted().await;
            take(&mut behind, 1).await;
            kept.push((program, behind));
        }
        let mut ninth = connect(site.forward).await;
        assert_eq!(ninth.read(&mut [0]).await.unwrap_or(0), 0);
        assert_eq!(site.inner.counts().turned_away, 93);
        drop(kept);
        site.stop().await;
    })
    .await;
}

/// Resident memory of this process, KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

async fn one(site: &Site) {
    let mut program = connect(site.socks).await;
    program.write_all(&greeting(site.reverse)).await.unwrap();
    program.write_all(b"x").await.unwrap();
    let mut behind = site.accepted().await;
    take(&mut behind, 1).await;
    drop(behind);
    let mut rest = Vec::new();
    program.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test]
async fn a_thousand_connections_leave_nothing_behind() {
    within(async {
        let site = Site::start(|_| {}).await;
        for _ in 0..200 {
            one(&site).await;
        }
        let before = resident_kib();
        for _ in 0..1000 {
            one(&site).await;
        }
        until(&site.outer, |counts| counts.closed == 1200).await;
        let grown = resident_kib().saturating_sub(before);
        assert!(grown < 8 << 10, "{grown} KiB more after a thousand connections");
        // A program that resets in the middle is no different.
        let program: TcpStream = connect(site.forward).await;
        program.set_zero_linger().unwrap();
        drop(program);
        until(&site.outer, |counts| counts.closed == 1201).await;
        tokio::time::timeout(Duration::from_secs(30), site.stop()).await.unwrap();
    })
    .await;
}
