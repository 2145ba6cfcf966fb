//! Collateral over real sockets, its store, and what it refuses.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use cocoon_attest::snp::SnpProduct;
use cocoon_attest::{CannotCheck, Collateral, CollateralNeed, Outcome, PckIssuer, verify};
use cocoon_evidence::collateral::{
    CollateralSource, CollateralStore, HttpAnswer, HttpGet, KeptOnDisk, MakerServices, StoreLimits,
    WebHttp,
};
use cocoon_evidence::sim::{
    DevPki, Misbehave, SimulatedPlatform, SimulatedPlatformForm, SimulatedService,
};
use cocoon_evidence::{EvidenceFault, EvidenceProvider as _, QuoteSubject};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

const NOW_S: u64 = 1_795_262_400;
const NOW_MS: u64 = NOW_S * 1000;
const DAY_MS: u64 = 86_400_000;
const KEY: [u8; 32] = [0x42; 32];

static PKI: LazyLock<Arc<DevPki>> =
    LazyLock::new(|| Arc::new(DevPki::generate(NOW_S).expect("keys can be drawn")));

fn platform(snp: Option<SnpProduct>, lie: Option<Misbehave>) -> SimulatedPlatform {
    let form = SimulatedPlatformForm { snp, lie, ..SimulatedPlatformForm::default() };
    SimulatedPlatform::boot(Arc::clone(&PKI), form).unwrap()
}

fn need(platform: &SimulatedPlatform) -> CollateralNeed {
    let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
    CollateralNeed::of(&evidence.to_peer_evidence(&KEY)).unwrap()
}

/// Serves a simulated service on a port of this machine; returns its address.
async fn serve(service: SimulatedService) -> String {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = Arc::new(service);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = Arc::clone(&service);
            let respond = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let path = request.uri().path_and_query().map(ToString::to_string);
                let answer = service.respond(&path.unwrap_or_default());
                async move {
                    let mut response = hyper::Response::builder().status(answer.status);
                    for (name, value) in &answer.headers {
                        response = response.header(name, value);
                    }
                    response.body(Full::new(Bytes::from(answer.body)))
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), respond);
            tokio::spawn(connection);
        }
    });
    format!("http://{address}")
}

#[tokio::test]
async fn collateral_of_both_makers_is_fetched_over_sockets_and_verifies() {
    for snp in [None, Some(SnpProduct::Genoa), Some(SnpProduct::Turin)] {
        let platform = platform(snp, None);
        let url = serve(SimulatedService::new(&PKI, &platform, NOW_S).unwrap()).await;
        let source = MakerServices::new(WebHttp::new().unwrap(), url.clone(), url);
        let collateral = source.fetch(&need(&platform), NOW_MS).await.unwrap();
        let evidence = platform.quote(QuoteSubject::CertificateKey(&KEY)).unwrap();
        let peer = evidence.to_peer_evidence(&KEY);
        let verdict = verify(&peer, &collateral, &platform.policy(), NOW_MS);
        assert_eq!(verdict.outcome(), Outcome::Accept, "{verdict:#?}");
    }
}

#[tokio::test]
async fn services_that_fail_are_nobodys_bad_evidence() {
    let platform = platform(None, None);
    let url = serve(SimulatedService::new(&PKI, &platform, NOW_S).unwrap()).await;
    let source = MakerServices::new(WebHttp::new().unwrap(), url.clone(), url);
    let other = CollateralNeed::Snp { product: SnpProduct::Genoa };
    let fault = source.fetch(&other, NOW_MS).await.unwrap_err();
    assert!(fault.to_string().contains("status 404"), "{fault}");
    let nobody =
        MakerServices::new(WebHttp::new().unwrap(), "https://127.0.0.1:1", "ftp://127.0.0.1:1");
    assert!(matches!(
        nobody.fetch(&need(&platform), NOW_MS).await.unwrap_err(),
        EvidenceFault::Service { .. }
    ));
    let fault = nobody.fetch(&other, NOW_MS).await.unwrap_err();
    assert!(fault.to_string().contains("neither http nor https"), "{fault}");
}

#[tokio::test]
async fn collateral_is_kept_on_disk_and_refused_when_it_is_stale_or_damaged() {
    let directory = tempfile::tempdir().unwrap();
    let platform = platform(None, None);
    let need = need(&platform);
    let url = serve(SimulatedService::new(&PKI, &platform, NOW_S).unwrap()).await;
    let open = |url: &str| {
        let source = MakerServices::new(WebHttp::new().unwrap(), url, url);
        let kept = KeptOnDisk::new(source, directory.path().join("collateral")).unwrap();
        CollateralStore::new(kept, StoreLimits::default())
    };
    let store = open(&url);
    assert!(store.peek(&need, NOW_MS).is_none());
    let fetched = store.find(&need, NOW_MS).await.unwrap();
    assert_eq!(store.peek(&need, NOW_MS).as_deref(), Some(&*fetched));
    // The next start asks nobody.
    let again = open("http://127.0.0.1:1");
    assert_eq!(again.load(NOW_MS).await, 1);
    assert_eq!(again.find(&need, NOW_MS).await.unwrap(), fetched);
    // A year later it counts no more: nothing is at hand, and nothing is said against anybody.
    let late_ms = NOW_MS + 365 * DAY_MS;
    let late = open("http://127.0.0.1:1");
    assert_eq!(late.load(late_ms).await, 0);
    assert!(again.peek(&need, late_ms).is_none());
    assert!(matches!(late.find(&need, late_ms).await, Err(EvidenceFault::Service { .. })));
    // Damaged and foreign files are passed over.
    for file in std::fs::read_dir(directory.path().join("collateral")).unwrap() {
        std::fs::write(file.unwrap().path(), b"{\"need\":").unwrap();
    }
    std::fs::write(directory.path().join("collateral/other.txt"), b"text").unwrap();
    assert_eq!(open(&url).load(NOW_MS).await, 0);
}

/// A source that counts, and fails on demand.
struct Counting {
    platform: SimulatedPlatform,
    issued_s: AtomicUsize,
    fetches: AtomicUsize,
    down: AtomicBool,
}

impl CollateralSource for Counting {
    async fn fetch(
        &self,
        _need: &CollateralNeed,
        _now_ms: u64,
    ) -> Result<Collateral, EvidenceFault> {
        self.fetches.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.down.load(Ordering::SeqCst) {
            return Err(EvidenceFault::Service { url: "test".into(), detail: "down".into() });
        }
        self.platform.collateral(self.issued_s.load(Ordering::SeqCst) as u64)
    }
}

fn counting() -> Arc<Counting> {
    Arc::new(Counting {
        platform: platform(None, None),
        issued_s: AtomicUsize::new(NOW_S as usize),
        fetches: AtomicUsize::new(0),
        down: AtomicBool::new(false),
    })
}

#[tokio::test]
async fn store_fetches_once_renews_ahead_and_never_serves_stale() {
    let source = counting();
    let store = CollateralStore::new(Arc::clone(&source), StoreLimits::default());
    let need = need(&source.platform);
    let fetches = || source.fetches.load(Ordering::SeqCst);
    let all = futures_util::future::join_all((0..20).map(|_| store.find(&need, NOW_MS))).await;
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(fetches(), 1);
    // Past half of its life it is renewed; while the service is down, the old one serves.
    source.down.store(true, Ordering::SeqCst);
    let later = NOW_MS + 20 * DAY_MS;
    store.find(&need, later).await.unwrap();
    store.find(&need, later + 1000).await.unwrap();
    assert_eq!(fetches(), 2, "a failed renewal is not repeated at once");
    store.find(&need, later + 31_000).await.unwrap();
    assert_eq!(fetches(), 3);
    // Past its end nothing serves.
    let end = NOW_MS + 31 * DAY_MS;
    store.find(&need, end).await.unwrap_err();
    store.find(&need, end + 1000).await.unwrap_err();
    assert_eq!(fetches(), 4, "a failure is remembered for a while");
    source.down.store(false, Ordering::SeqCst);
    source.issued_s.store((end / 1000) as usize, Ordering::SeqCst);
    store.find(&need, end + 31_000).await.unwrap();
}

#[tokio::test]
async fn stale_snapshots_and_stale_answers_are_refused() {
    let source = counting();
    let store = CollateralStore::new(Arc::clone(&source), StoreLimits::default());
    let need = need(&source.platform);
    let snapshot = source.platform.collateral(NOW_S).unwrap();
    let late = NOW_MS + 40 * DAY_MS;
    let refused = store.put(&need, snapshot.clone(), late).await.unwrap_err();
    assert!(matches!(refused, CannotCheck::StaleCollateral { .. }), "{refused}");
    // A service that hands out old collateral is no better than none.
    let fault = store.find(&need, late).await.unwrap_err();
    assert!(matches!(fault, EvidenceFault::Collateral(CannotCheck::StaleCollateral { .. })));
    store.put(&need, snapshot, NOW_MS).await.unwrap();
    let before = source.fetches.load(Ordering::SeqCst);
    store.find(&need, NOW_MS).await.unwrap();
    assert_eq!(source.fetches.load(Ordering::SeqCst), before);
    assert!(store.find(&CollateralNeed::Nothing, NOW_MS).await.unwrap().tdx.is_none());
}

#[tokio::test]
async fn strangers_who_name_many_platforms_do_not_fill_the_store() {
    let source = counting();
    source.down.store(true, Ordering::SeqCst);
    let limits = StoreLimits { platforms: 8, ..StoreLimits::default() };
    let store = CollateralStore::new(Arc::clone(&source), limits);
    for number in 0..100_u8 {
        let fmspc = [number, 0, 0, 0, 0, 0];
        let need = CollateralNeed::Tdx { fmspc, issuer: PckIssuer::Platform };
        store.find(&need, NOW_MS).await.unwrap_err();
    }
    assert_eq!(store.len(), 8);
}

/// A service that answers anything.
struct Anything(HttpAnswer);

impl HttpGet for Anything {
    async fn get(&self, _url: &str) -> Result<HttpAnswer, EvidenceFault> {
        Ok(self.0.clone())
    }
}

proptest! {
    #[test]
    fn arbitrary_answers_never_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        json in "\\{\"(tcbInfo|enclaveIdentity)\":\\{\\},\"signature\":\"[0-9a-f]{0,8}\"\\}",
        chain in ".{0,40}",
        use_json in any::<bool>(),
    ) {
        let headers = ["sgx-pck-crl-issuer-chain", "tcb-info-issuer-chain", "sgx-enclave-identity-issuer-chain"]
            .map(|name| (name.to_owned(), chain.clone()))
            .to_vec();
        let body = if use_json { json.into_bytes() } else { body };
        let answer = HttpAnswer { status: 200, headers, body };
        let source = MakerServices::new(Anything(answer), "x://", "x://");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for need in [
            CollateralNeed::Tdx { fmspc: [0; 6], issuer: PckIssuer::Platform },
            CollateralNeed::Snp { product: SnpProduct::Genoa },
        ] {
            let fetched = runtime.block_on(source.fetch(&need, NOW_MS));
            prop_assert!(fetched.is_err() || fetched.unwrap().dates(NOW_S).is_err());
        }
    }
}
