//! One contract instance: what follows from the root's parameters and this proxy's key.

use std::sync::Arc;

use bytes::Bytes;
use cocoon_contract::address;
use cocoon_contract::payment::{PaymentKind, SignedPayment};
use cocoon_contract::root::RootState;
use cocoon_contract::state::ClientConst;
use cocoon_ledger::AccountId;
use cocoon_units::{Address, ImageHash, ModelName, PriceTable, PublicKey, Tokens};
use cocoon_wire::proxy;
use cocoon_wire::tl::{Extensions, Text};

use crate::fault::StartFault;
use crate::settings::Identity;

/// Addresses, prices and lists in force. A change of `params_version` makes a new instance.
pub(crate) struct Instance {
    pub(crate) root: Arc<RootState>,
    pub(crate) prices: PriceTable,
    pub(crate) public_key: PublicKey,
    pub(crate) contract: Address,
    pub(crate) contract_text: String,
    pub(crate) owner_text: String,
}

impl Instance {
    pub(crate) fn new(identity: &Identity, root: Arc<RootState>) -> Result<Self, StartFault> {
        let prices = root.network.params.price_table();
        prices.check().map_err(StartFault::Prices)?;
        let public_key = identity.public_key();
        let owner =
            address::ProxyIdentity { owner: identity.owner, public_key, root: identity.root };
        let contract = address::proxy(&owner, &root.network).map_err(StartFault::Address)?;
        Ok(Self {
            prices,
            public_key,
            contract,
            contract_text: identity.text(contract),
            owner_text: identity.text(identity.owner),
            root,
        })
    }

    /// `params_version` of the root, the epoch of the books.
    pub(crate) fn epoch(&self) -> u32 {
        self.root.network.params.params_version
    }

    pub(crate) fn client_contract(&self, owner: Address) -> Result<Address, StartFault> {
        let constants = ClientConst { owner, proxy: self.contract, public_key: self.public_key };
        address::client(&constants, &self.root.network).map_err(StartFault::Address)
    }

    pub(crate) fn worker_contract(&self, owner: Address) -> Result<Address, StartFault> {
        address::worker(owner, self.contract, self.public_key, &self.root.network)
            .map_err(StartFault::Address)
    }

    /// Whether the root lists this image for workers.
    pub(crate) fn lists_image(&self, image: ImageHash) -> bool {
        self.root.worker_hashes.contains(&cocoon_contract::cell::Hash(image.0))
    }

    /// Whether the root lists this model, by the hash of its full name.
    pub(crate) fn lists_model(&self, model: &ModelName) -> bool {
        self.root.model_hashes.contains(&cocoon_contract::cell::Hash(model.hash()))
    }

    /// How the proxy introduces itself (protocol notes 3.2): the version only when it is above
    /// 0, our additions only when the peer announced them.
    pub(crate) fn introduction(
        &self,
        is_test: bool,
        version: i32,
        extensions: Extensions,
    ) -> proxy::Params<'_> {
        proxy::Params {
            extensions,
            proxy_public_key: self.public_key,
            proxy_owner_address: Text::from(self.owner_text.as_str()),
            proxy_sc_address: Text::from(self.contract_text.as_str()),
            is_test: Some(is_test),
            proto_version: (version > 0).then_some(version),
        }
    }
}

/// A signed payment, made when first needed and kept while its total stands.
#[derive(Default)]
pub(crate) struct Payment {
    made: Option<(Tokens, Bytes)>,
}

impl Payment {
    /// The payment for `tokens`, signed now unless the kept one is for the same total.
    pub(crate) fn for_total(
        &mut self,
        identity: &Identity,
        kind: PaymentKind,
        contract: Address,
        tokens: Tokens,
        query_id: impl FnOnce() -> u64,
    ) -> Option<Bytes> {
        if let Some((total, body)) = &self.made
            && *total == tokens
        {
            return Some(body.clone());
        }
        let body = sign(identity, kind, contract, tokens, query_id())?;
        self.made = Some((tokens, body.clone()));
        Some(body)
    }
}

/// Signs a body for the chain. `None` cannot happen: the fields always fit.
pub(crate) fn sign(
    identity: &Identity,
    kind: PaymentKind,
    contract: Address,
    tokens: Tokens,
    query_id: u64,
) -> Option<Bytes> {
    SignedPayment::sign(kind, query_id, tokens, contract, identity.wallet, &identity.key)
        .and_then(|payment| payment.to_boc())
        .ok()
        .map(Bytes::from)
}

/// What is known of an account beside its counters.
pub(crate) struct Party {
    pub(crate) contract: Address,
    pub(crate) contract_text: String,
    pub(crate) owner_text: String,
    pub(crate) payment: Payment,
    /// Total that payments are signed for: covered by a commit whose confirmation is durable.
    pub(crate) signable: Tokens,
    /// Requests of it that run or wait.
    pub(crate) running: usize,
    /// SHA-256 of a client's secret, when its contract was seen.
    pub(crate) secret_hash: Option<[u8; 32]>,
    /// A charge, refund or payout is on its way to the chain.
    pub(crate) in_flight: bool,
    /// Query id of that order.
    pub(crate) order_id: Option<u64>,
    /// The chain shows more tokens charged than the books ever counted: they are an old copy,
    /// nothing more is promised to this account.
    pub(crate) behind_chain: bool,
    /// Total of the last order sent to the chain.
    pub(crate) ordered: Tokens,
}

impl Party {
    pub(crate) fn new(identity: &Identity, account: AccountId, contract: Address) -> Self {
        Self {
            contract,
            contract_text: identity.text(contract),
            owner_text: identity.text(Identity::address_of(account)),
            payment: Payment::default(),
            signable: Tokens::ZERO,
            running: 0,
            secret_hash: None,
            in_flight: false,
            order_id: None,
            behind_chain: false,
            ordered: Tokens::ZERO,
        }
    }
}
