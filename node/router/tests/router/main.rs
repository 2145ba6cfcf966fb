//! The router over real sockets: recorded programs of both lines, slow and broken peers, floods.

#![allow(clippy::unwrap_used, reason = "a failure fails the test")]

mod certificates;
mod evidence;
mod hostile;
mod recorded;
mod site;

use cocoon_role_router::reply;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::site::{Site, connect, greeting, take, within};

#[tokio::test]
async fn bytes_go_both_ways_and_ends_are_passed_on() {
    within(async {
        let site = Site::start(|_| {}).await;
        let mut program = connect(site.socks).await;
        program.write_all(&greeting(site.reverse)).await.unwrap();
        assert_eq!(take(&mut program, 2).await, [5, 0]);
        assert_eq!(take(&mut program, 10).await[..2], [5, 0]);
        let mut behind = site.accepted().await;
        // More than any buffer between them, both ways at once.
        let large = vec![3u8; 4 << 20];
        let (mut read, mut write) = program.split();
        let (mut behind_read, mut behind_write) = behind.split();
        let (there, back) = (large.clone(), large.clone());
        let send = async {
            write.write_all(&there).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let answer = async {
            behind_write.write_all(&back).await.unwrap();
        };
        let mut came = Vec::new();
        // The program ends its direction; what comes back goes on.
        let receive = behind_read.read_to_end(&mut came);
        let ((), (), received) = tokio::join!(send, answer, async {
            let received = receive.await;
            received.unwrap()
        });
        assert!(received == large.len() && came == large);
        behind_write.write_all(b"after the end").await.unwrap();
        behind_write.shutdown().await.unwrap();
        let mut came = Vec::new();
        read.read_to_end(&mut came).await.unwrap();
        assert_eq!(came.len(), large.len() + 13);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_forward_port_needs_no_socks() {
    within(async {
        let site = Site::start(|_| {}).await;
        let mut program = connect(site.forward).await;
        program.write_all(b"hello").await.unwrap();
        let mut behind = site.accepted().await;
        assert_eq!(take(&mut behind, 5).await, b"hello");
        behind.write_all(b"back").await.unwrap();
        assert_eq!(take(&mut program, 4).await, b"back");
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_user_name_chooses_the_policy() {
    within(async {
        let site = Site::start(|config| {
            config.set_username(true);
        })
        .await;
        let ask = |name: &[u8]| {
            let request = greeting(site.reverse).split_off(3);
            let user = [&[1, u8::try_from(name.len()).unwrap()][..], name, &[0]].concat();
            [&[5, 1, 2][..], &user, &request].concat()
        };
        let mut program = connect(site.socks).await;
        program.write_all(&ask(b"any")).await.unwrap();
        assert_eq!(take(&mut program, 4).await, [5, 2, 1, 0]);
        assert_eq!(take(&mut program, 10).await[1], 0);
        drop(site.accepted().await);
        let mut program = connect(site.socks).await;
        program.write_all(&ask(b"nobody")).await.unwrap();
        assert_eq!(take(&mut program, 4).await, [5, 2, 1, 0]);
        assert_eq!(take(&mut program, 10).await[1], reply::NOT_ALLOWED);
        // A peer without evidence is not admitted where evidence is asked for.
        let mut program = connect(site.socks).await;
        program.write_all(&ask(b"tee")).await.unwrap();
        take(&mut program, 14).await;
        assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0, "closed");
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_place_that_cannot_be_reached_is_said() {
    within(async {
        let site = Site::start(|_| {}).await;
        let nobody = {
            let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            socket.local_addr().unwrap()
        };
        let mut program = connect(site.socks).await;
        program.write_all(&greeting(nobody)).await.unwrap();
        assert_eq!(take(&mut program, 2).await, [5, 0]);
        assert_eq!(take(&mut program, 10).await[1], reply::HOST_UNREACHABLE);
        site.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_stop_lets_open_connections_end_and_then_closes_them() {
    within(async {
        let site = Site::start(|config| config.0.drain_s = 60).await;
        let mut program = connect(site.forward).await;
        program.write_all(b"x").await.unwrap();
        let mut behind = site.accepted().await;
        take(&mut behind, 1).await;
        site.stop.now();
        // Nobody new comes in, the open one goes on.
        site.refuses_new().await;
        behind.write_all(b"y").await.unwrap();
        assert_eq!(take(&mut program, 1).await, b"y");
        drop((program, behind));
        site.ended().await;

        let site = Site::start(|config| config.0.drain_s = 0).await;
        let mut program = connect(site.forward).await;
        program.write_all(b"x").await.unwrap();
        let mut behind = site.accepted().await;
        take(&mut behind, 1).await;
        site.stop.now();
        site.ended().await;
        assert_eq!(program.read(&mut [0]).await.unwrap_or(0), 0, "closed");
    })
    .await;
}
