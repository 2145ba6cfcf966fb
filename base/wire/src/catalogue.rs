//! Every constructor this crate knows, by id.
//!
//! For tools that look into recorded traffic and for tests; the nodes use the typed
//! enumerations of each namespace.

use std::fmt::Debug;

use crate::tl::{Boxed, Constructor as _, constructor_id, decode, encode};
use crate::{
    TlFault, client, cocoon, config, http, key_manager, key_manager_db, proxy, proxy_db,
    root_config, sealed_key, tcp, ton, worker,
};

/// One constructor or function of the schema.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name in the schema.
    pub name: &'static str,
    /// Constructor id.
    pub id: u32,
    /// Reads exactly one such object and writes it again.
    pub reencode: fn(&[u8]) -> Result<Vec<u8>, TlFault>,
    /// Reads exactly one such object and shows it; contents of `bytes` fields and keys are
    /// not shown.
    pub describe: fn(&[u8]) -> Result<String, TlFault>,
}

/// Reads and writes again.
fn reencode<'tl, T: Boxed<'tl>>(bytes: &'tl [u8]) -> Result<Vec<u8>, TlFault> {
    decode::<T>(bytes).map(|value| encode(&value))
}

/// Reads and shows.
fn describe<'tl, T: Boxed<'tl> + Debug>(bytes: &'tl [u8]) -> Result<String, TlFault> {
    decode::<T>(bytes).map(|value| format!("{value:?}"))
}

macro_rules! catalogue {
    ($($path:ident::$name:ident,)*) => {
        &[$( Entry {
            name: $path::$name::NAME,
            id: $path::$name::ID,
            reencode: |bytes| reencode::<$path::$name>(bytes),
            describe: |bytes| describe::<$path::$name>(bytes),
        }, )*]
    };
}

/// All of them, both lines and our own.
pub const ALL: &[Entry] = catalogue! {
    tcp::Ping,
    tcp::Pong,
    tcp::Message,
    tcp::QueryAnswer,
    tcp::QueryError,
    tcp::Query,
    tcp::Connected,
    tcp::Connect,
    ton::BlockIdExt,
    ton::Answer,
    ton::Query,
    config::ProxyRunner,
    config::ProxyRunnerBase,
    config::WorkerRunner,
    config::WorkerRunnerBase,
    config::ClientRunner,
    config::KeyStorageRunner,
    config::KeyStorageRunnerBase,
    root_config::RegisteredProxy,
    root_config::RegisteredPublicKey,
    root_config::Pseudo,
    root_config::PseudoBase,
    root_config::ConfigV7,
    root_config::ConfigV5,
    proxy_db::ClientInfo,
    proxy_db::ClientInfoV2,
    proxy_db::WorkerInfo,
    proxy_db::PendingBlockchainSeqnoCommit,
    proxy_db::ConfigEmpty,
    proxy_db::ConfigV4,
    proxy_db::ConfigV4Disabled,
    proxy_db::OldClient,
    proxy_db::OldWorker,
    proxy_db::OldInstance,
    key_manager_db::ConfigEmpty,
    key_manager_db::ConfigV1,
    key_manager_db::Key,
    key_manager_db::KeyBase,
    client::TokensUsed,
    client::Params,
    client::ProxyConnectionAuthShort,
    client::ProxyConnectionAuthLong,
    client::AuthorizationWithProxySuccess,
    client::AuthorizationWithProxyFailed,
    client::ConnectedToProxy,
    client::QueryAnswer,
    client::QueryAnswerError,
    client::QueryAnswerPart,
    client::QueryAnswerPartError,
    client::QueryFinalInfo,
    client::QueryAnswerEx,
    client::QueryAnswerErrorEx,
    client::QueryAnswerPartEx,
    client::Refund,
    client::RefundRejected,
    client::WorkerType,
    client::WorkerTypes,
    client::WorkerInstanceV2,
    client::WorkerTypeV2,
    client::WorkerTypesV2,
    client::PaymentStatus,
    client::ConnectToProxy,
    client::AuthorizeWithProxyShort,
    client::AuthorizeWithProxyLong,
    client::RunQuery,
    client::RunQueryEx,
    client::RequestRefund,
    client::UpdatePaymentStatus,
    client::GetWorkerTypes,
    client::GetWorkerTypesV2,
    proxy::Params,
    proxy::ClientRequestPayment,
    proxy::QueryAnswer,
    proxy::QueryAnswerError,
    proxy::QueryAnswerPart,
    proxy::QueryAnswerPartError,
    proxy::QueryFinalInfo,
    proxy::QueryAnswerEx,
    proxy::QueryAnswerErrorEx,
    proxy::QueryAnswerPartEx,
    proxy::WorkerRequestPayment,
    proxy::RunQuery,
    proxy::RunQueryEx,
    proxy::SignedPaymentData,
    proxy::SignedPaymentEmpty,
    worker::Params,
    worker::EnabledDisabled,
    worker::NewCoefficient,
    worker::ConnectedToProxy,
    worker::CompareBalanceWithProxyResult,
    worker::ExtendedCompareBalanceWithProxyResult,
    worker::ProxyHandshakeCompleted,
    worker::PaymentStatus,
    worker::ChangedModel,
    worker::ConnectToProxy,
    worker::CompareBalanceWithProxy,
    worker::ExtendedCompareBalanceWithProxy,
    worker::ProxyHandshakeComplete,
    worker::UpdatePaymentStatus,
    worker::ChangeModel,
    key_manager::PrivateKey,
    key_manager::PrivateKeys,
    key_manager::GetWorkerPrivateKeys,
    key_manager::GetWorkerPrivateKeysBase,
    key_manager::GetProxyPrivateKeys,
    key_manager::GetProxyPrivateKeysBase,
    http::Header,
    http::Response,
    http::Request,
    cocoon::CancelQuery,
    cocoon::OnlyWorkers,
    cocoon::Attest,
    cocoon::Leaving,
    cocoon::Receipt,
    cocoon::Worker,
    cocoon::Workers,
    cocoon::Report,
    cocoon::ListWorkers,
    cocoon::GetReport,
    cocoon::GetEndorsedReport,
    cocoon::GetFullReport,
    cocoon::Introduce,
    cocoon::Introduced,
    sealed_key::GetPersistentKey,
    sealed_key::PersistentKey,
};

/// The entry of the object that starts with these bytes.
#[must_use]
pub fn find(bytes: &[u8]) -> Option<&'static Entry> {
    let id = constructor_id(bytes)?;
    ALL.iter().find(|entry| entry.id == id)
}
