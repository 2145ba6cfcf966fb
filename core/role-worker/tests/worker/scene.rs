//! A worker, and a proxy that says what the test wants.

use bytes::Bytes;
use cocoon_channel::{Channels, Command};
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_role_worker::{Fault, Identity, ProxySession, Turn};
use cocoon_units::{Address, Coefficient, ModelName, Nanoton, PublicKey, RequestId, Tokens};
use cocoon_wire::proxy::{self, RunQueryEx};
use cocoon_wire::tl::{self, Blob, Extensions, Text};
use cocoon_wire::{http, worker};
use ed25519_dalek::SigningKey;

pub(crate) const NOW: u64 = 1_700_000_000_000;
pub(crate) const REQUEST: RequestId = RequestId([6; 32]);

pub(crate) fn identity() -> Identity {
    let root = PseudoRoot {
        proxy_hashes: Default::default(),
        worker_hashes: Default::default(),
        model_hashes: Default::default(),
        model_types: Vec::new(),
        registered_proxies: Default::default(),
        last_proxy_seqno: 0,
        version: 3,
        params_version: 1,
        price_per_token: Nanoton(2),
        worker_fee_per_token: Nanoton(1),
        proxy_code_hex: String::new(),
        worker_code_hex: String::new(),
        client_code_hex: String::new(),
        owner: Address::new(0, [3; 32]),
    };
    Identity {
        owner: Address::new(0, [30; 32]),
        wallet: Address::new(0, [31; 32]),
        model: ModelName::new("qwen@abc:00").unwrap(),
        coefficient: Coefficient::ONE,
        max_active_requests: 4,
        proxy_count: 1,
        is_test: true,
        is_testnet: false,
        root: Address::new(0, [0; 32]),
        network: root.root_state().unwrap().network,
        proxy_images: None,
        keys: Default::default(),
    }
}

/// One connection, from the proxy's side.
pub(crate) struct Scene {
    pub(crate) identity: Identity,
    pub(crate) channels: Channels,
    pub(crate) session: ProxySession,
    pub(crate) asked: i64,
    pub(crate) key: SigningKey,
}

impl Scene {
    /// The handshake has begun: `asked` is the id of connectToProxy.
    pub(crate) fn new() -> Self {
        Self::again(Channels::new(PaymentKind::WorkerPayout))
    }

    /// A new connection of a worker that knows something.
    pub(crate) fn again(channels: Channels) -> Self {
        let identity = identity();
        let (session, turn) = ProxySession::open(&identity, 50, false);
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut scene = Self { identity, channels, session, asked: 0, key };
        scene.sent::<worker::ConnectToProxy<'_>>(&turn, |hello| {
            assert_eq!(hello.params.model.to_string(), "qwen@abc:00");
            let versions = hello.params.versions.unwrap();
            assert_eq!((versions.min, versions.max), (1, 4));
            let load = hello.params.load.unwrap();
            assert_eq!((load.is_test, load.proxy_cnt, load.max_active_requests), (true, 1, 4));
        });
        scene
    }

    /// With a finished handshake of this version.
    pub(crate) fn ready(version: i32) -> Self {
        let mut scene = Self::new();
        let turn = scene.hello(Some(version)).unwrap();
        scene.sent::<worker::CompareBalanceWithProxy>(&turn, |_| {});
        let turn = scene.compared(SignedPaymentOf::Empty, 0, 0, 0).unwrap();
        scene.sent::<worker::ProxyHandshakeComplete>(&turn, |_| {});
        scene.completed();
        assert_eq!(scene.session.version(), version);
        scene
    }

    pub(crate) fn completed(&mut self) -> Turn {
        let turn = self.answer(&tl::encode(&worker::ProxyHandshakeCompleted {})).unwrap();
        assert!(matches!(turn.incoming, Some(cocoon_role_worker::Incoming::Ready)));
        turn
    }

    /// The one query of a turn; remembers its id.
    pub(crate) fn sent<'t, T: tl::Boxed<'t>>(&mut self, turn: &'t Turn, look: impl FnOnce(T)) {
        let [Command::Query { id, data, .. }] = turn.send.as_slice() else {
            panic!("{:?} instead of one query", turn.send)
        };
        self.asked = *id;
        look(tl::decode(data).unwrap());
    }

    pub(crate) fn answer(&mut self, data: &[u8]) -> Result<Turn, Fault> {
        self.session.answered(&self.identity, &mut self.channels, NOW, self.asked, data)
    }

    pub(crate) fn message(&mut self, data: Vec<u8>) -> Result<Turn, Fault> {
        let data = Bytes::from(data);
        self.session.message(&self.identity, &mut self.channels, NOW, &data)
    }

    pub(crate) fn proxy(&self) -> (ProxyIdentity, Address, Address) {
        let proxy = ProxyIdentity {
            owner: Address::new(0, [1; 32]),
            public_key: PublicKey(self.key.verifying_key().to_bytes()),
            root: self.identity.root,
        };
        let network = &self.identity.network;
        let contract = address::proxy(&proxy, network).unwrap();
        let own = address::worker(self.identity.owner, contract, proxy.public_key, network);
        (proxy, contract, own.unwrap())
    }

    /// connectedToProxy, with something changed.
    pub(crate) fn hello_with(
        &mut self,
        change: impl FnOnce(&mut worker::ConnectedToProxy<'_>),
    ) -> Result<Turn, Fault> {
        let (proxy, contract, own) = self.proxy();
        let texts = [proxy.owner, contract, own].map(|address| self.identity.text(address));
        let mut hello = worker::ConnectedToProxy {
            params: proxy::Params {
                extensions: Extensions::NONE,
                proxy_public_key: proxy.public_key,
                proxy_owner_address: Text::from(texts[0].as_str()),
                proxy_sc_address: Text::from(texts[1].as_str()),
                is_test: Some(true),
                proto_version: Some(4),
            },
            worker_sc_address: Text::from(texts[2].as_str()),
        };
        change(&mut hello);
        let data = tl::encode(&hello);
        self.answer(&data)
    }

    pub(crate) fn hello(&mut self, version: Option<i32>) -> Result<Turn, Fault> {
        self.hello_with(|hello| hello.params.proto_version = version)
    }

    /// A payment of this total, signed for this worker.
    pub(crate) fn payment(&self, tokens: u64) -> Vec<u8> {
        let (_, contract, own) = self.proxy();
        let kind = PaymentKind::WorkerPayout;
        let payment = SignedPayment::sign(kind, 1, Tokens(tokens), own, contract, &self.key);
        payment.unwrap().to_boc().unwrap()
    }

    pub(crate) fn compared(
        &mut self,
        payment: SignedPaymentOf<'_>,
        durable: i64,
        max: i64,
        error_code: i32,
    ) -> Result<Turn, Fault> {
        self.answer(&tl::encode(&worker::CompareBalanceWithProxyResult {
            signed_payment: payment,
            tokens_committed_to_db: durable,
            max_tokens: max,
            error_code,
        }))
    }
}

pub(crate) type SignedPaymentOf<'a> = proxy::SignedPayment<'a>;

/// An http.request to the chat endpoint.
pub(crate) fn http_request(body: &[u8]) -> Vec<u8> {
    tl::encode(&http::Request {
        method: "POST".into(),
        url: "/v1/chat/completions".into(),
        http_version: "HTTP/1.0".into(),
        headers: vec![
            http::Header { name: "Content-Type".into(), value: Blob(b"application/json") },
            http::Header { name: "Authorization".into(), value: Blob(b"Bearer secret") },
            http::Header { name: "Host".into(), value: Blob(b"example") },
        ],
        payload: Blob(body),
    })
}

/// A query with this body.
pub(crate) fn run_query<'q>(query: &'q [u8]) -> RunQueryEx<'q> {
    RunQueryEx {
        query: Blob(query),
        signed_payment: proxy::SignedPayment::Empty,
        coefficient: 1_000,
        timeout: 100.0,
        request_id: REQUEST,
        extensions: Extensions::NONE,
        enable_debug: Some(false),
        private_key: None,
    }
}
