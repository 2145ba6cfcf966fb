//! A client, and a proxy that says what the test wants.

use bytes::Bytes;
use cocoon_channel::{Channels, Command};
use cocoon_contract::address::{self, ProxyIdentity};
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::pseudo::PseudoRoot;
use cocoon_contract::state::ClientConst;
use cocoon_role_client::{Ask, Fault, Identity, Incoming, ProxySession, Turn};
use cocoon_units::{
    Address, Coefficient, Nanoton, PublicKey, RequestId, Secret, SecretBytes, Tokens,
};
use cocoon_wire::client::{self, ProxyConnectionAuth, ProxyConnectionAuthShort};
use cocoon_wire::proxy;
use cocoon_wire::tl::{self, Extensions, Text};
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
        wallet: Address::new(0, [20; 32]),
        secret: Secret::new(b"word".to_vec()),
        is_test: true,
        is_testnet: false,
        root: Address::new(0, [0; 32]),
        root_version: 3,
        network: root.root_state().unwrap().network,
        proxy_images: None,
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
    pub(crate) fn new() -> Self {
        Self::again(Channels::new(PaymentKind::ClientCharge))
    }

    /// A new connection of a client that knows something.
    pub(crate) fn again(channels: Channels) -> Self {
        let identity = identity();
        let (session, turn) = ProxySession::open(&identity, 50);
        let key = SigningKey::from_bytes(&[7; 32]);
        let mut scene = Self { identity, channels, session, asked: 0, key };
        scene.sent::<client::ConnectToProxy<'_>>(&turn, |hello| {
            let versions = hello.params.versions.unwrap();
            assert_eq!((versions.min, versions.max, hello.min_config_version), (1, 4, 3));
            assert_eq!(hello.params.is_test, Some(true));
        });
        scene
    }

    /// With a finished handshake of this version.
    pub(crate) fn ready(version: i32) -> Self {
        let mut scene = Self::new();
        let turn = scene.hello(Some(version)).unwrap();
        scene.sent::<client::AuthorizeWithProxyShort<'_>>(&turn, |auth| {
            assert_eq!(auth.data.0, b"word");
        });
        let turn = scene.authorized(None, 0, 0).unwrap();
        assert!(matches!(turn.incoming, Some(Incoming::Ready)));
        assert_eq!(scene.session.version(), version);
        scene
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

    /// Writes a request.
    pub(crate) fn ask(
        &mut self,
        request: RequestId,
        max_tokens: Tokens,
        timeout_ms: u64,
    ) -> Vec<u8> {
        let body = SecretBytes::new(Bytes::from_static(b"{\"a\":1}"));
        self.session.ask(
            &self.identity,
            &Ask {
                request,
                model: "qwen",
                path: "/v1/chat/completions",
                headers: &[("content-type", b"application/json")],
                body: &body,
                max_coefficient: Coefficient::ONE,
                max_tokens,
                timeout_ms,
                debug: true,
            },
        )
    }

    pub(crate) fn message(&mut self, data: Vec<u8>) -> Result<Turn, Fault> {
        self.session.message(&mut self.channels, &Bytes::from(data))
    }

    pub(crate) fn proxy(&self) -> (ProxyIdentity, Address, Address) {
        let proxy = ProxyIdentity {
            owner: Address::new(0, [1; 32]),
            public_key: PublicKey(self.key.verifying_key().to_bytes()),
            root: self.identity.root,
        };
        let network = &self.identity.network;
        let contract = address::proxy(&proxy, network).unwrap();
        let (owner, public_key) = (self.identity.wallet, proxy.public_key);
        let constants = ClientConst { owner, proxy: contract, public_key };
        let own = address::client(&constants, network).unwrap();
        (proxy, contract, own)
    }

    /// connectedToProxy, with something changed.
    pub(crate) fn hello_with(
        &mut self,
        change: impl FnOnce(&mut client::ConnectedToProxy<'_>),
    ) -> Result<Turn, Fault> {
        let (proxy, contract, own) = self.proxy();
        let texts = [proxy.owner, contract, own].map(|address| address.to_string());
        let mut hello = client::ConnectedToProxy {
            params: proxy::Params {
                extensions: Extensions::NONE,
                proxy_public_key: proxy.public_key,
                proxy_owner_address: Text::from(texts[0].as_str()),
                proxy_sc_address: Text::from(texts[1].as_str()),
                is_test: Some(true),
                proto_version: Some(4),
            },
            client_sc_address: Text::from(texts[2].as_str()),
            auth: ProxyConnectionAuth::Short(ProxyConnectionAuthShort {
                secret_hash: self.identity.secret_hash(),
                nonce: 0,
            }),
            signed_payment: proxy::SignedPayment::Empty,
        };
        change(&mut hello);
        let data = tl::encode(&hello);
        self.answer(&data)
    }

    pub(crate) fn hello(&mut self, version: Option<i32>) -> Result<Turn, Fault> {
        self.hello_with(|hello| hello.params.proto_version = version)
    }

    /// A payment of this total, signed for this client.
    pub(crate) fn payment(&self, tokens: u64) -> Vec<u8> {
        let (_, contract, own) = self.proxy();
        let kind = PaymentKind::ClientCharge;
        let payment = SignedPayment::sign(kind, 1, Tokens(tokens), own, contract, &self.key);
        payment.unwrap().to_boc().unwrap()
    }

    pub(crate) fn authorized(
        &mut self,
        payment: Option<&[u8]>,
        durable: i64,
        max: i64,
    ) -> Result<Turn, Fault> {
        self.answer(&tl::encode(&client::AuthorizationWithProxySuccess {
            signed_payment: signed(payment),
            tokens_committed_to_db: durable,
            max_tokens: max,
        }))
    }
}

pub(crate) fn signed(payment: Option<&[u8]>) -> proxy::SignedPayment<'_> {
    payment.map_or(proxy::SignedPayment::Empty, |b| proxy::SignedPayment::Signed(tl::Blob(b)))
}
