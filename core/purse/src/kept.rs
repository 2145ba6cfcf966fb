//! The byte form of what is on its way, for the file that a restart reads.

use cocoon_contract::address::StateInit;
use cocoon_contract::boc;
use cocoon_contract::cell::{Cell, Hash};
use cocoon_contract::wallet::Outgoing;
use cocoon_units::{Address, Nanoton};
use serde::{Deserialize, Serialize};

use crate::PurseFault;
use crate::batch::{Arrival, Batch};
use crate::order::{Label, Order};

/// First byte of the form.
const VERSION: u8 = 1;
/// Largest form that is read, bytes: a batch of deployments fits many times.
const LEN_MAX: usize = 4 << 20;

/// Everything that may be on its way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) batch: Option<Batch>,
    pub(crate) arrivals: Vec<Arrival>,
}

#[derive(Serialize, Deserialize)]
struct KeptForm {
    wallet: (i8, [u8; 32]),
    batch: Option<BatchForm>,
    arrivals: Vec<ArrivalForm>,
}

#[derive(Serialize, Deserialize)]
struct BatchForm {
    seqno: u32,
    since_lt: u64,
    valid_until_s: u32,
    bodies: Vec<[u8; 32]>,
    orders: Vec<OrderForm>,
    boc: Vec<u8>,
    failures: u32,
}

#[derive(Serialize, Deserialize)]
struct OrderForm {
    label: u64,
    to: (i8, [u8; 32]),
    value: u64,
    bounce: bool,
    state_init: Option<(Vec<u8>, Vec<u8>)>,
    body: Option<Vec<u8>>,
}

#[derive(Serialize, Deserialize)]
struct ArrivalForm {
    label: u64,
    to: (i8, [u8; 32]),
    message: [u8; 32],
    after_lt: u64,
}

fn address((workchain, hash): (i8, [u8; 32])) -> Address {
    Address::new(workchain, hash)
}

fn pair(address: Address) -> (i8, [u8; 32]) {
    (address.workchain, address.hash)
}

/// Writes the form.
pub(crate) fn encode(wallet: Address, kept: &Kept) -> Vec<u8> {
    let batch = kept.batch.as_ref().map(|batch| BatchForm {
        seqno: batch.seqno,
        since_lt: batch.since_lt,
        valid_until_s: batch.valid_until_s,
        bodies: batch.bodies.iter().map(|body| body.0).collect(),
        orders: batch.orders.iter().map(order_form).collect(),
        boc: batch.boc.clone(),
        failures: batch.failures,
    });
    let arrivals = kept.arrivals.iter().map(|arrival| ArrivalForm {
        label: arrival.label.0,
        to: pair(arrival.to),
        message: arrival.message.0,
        after_lt: arrival.after_lt,
    });
    let form = KeptForm { wallet: pair(wallet), batch, arrivals: arrivals.collect() };
    let mut bytes = vec![VERSION];
    // The only failure of a growing buffer is running out of memory.
    bytes.extend(postcard::to_stdvec(&form).unwrap_or_default());
    bytes
}

/// Reads the form.
pub(crate) fn decode(wallet: Address, bytes: &[u8]) -> Result<Kept, PurseFault> {
    let (kept_wallet, kept) = read(bytes)?;
    if kept_wallet != wallet {
        return Err(PurseFault::OtherWallet { kept: kept_wallet, ours: wallet });
    }
    Ok(kept)
}

/// Reads the form and forgets it: the entry point of fuzzing.
///
/// # Errors
/// [`PurseFault::Kept`] when the bytes are none.
pub fn decode_kept(bytes: &[u8]) -> Result<(), PurseFault> {
    read(bytes).map(|_| ())
}

fn read(bytes: &[u8]) -> Result<(Address, Kept), PurseFault> {
    if bytes.len() > LEN_MAX {
        return Err(PurseFault::Kept("it is longer than it can be"));
    }
    let (version, rest) = bytes.split_first().ok_or(PurseFault::Kept("it is empty"))?;
    if *version != VERSION {
        return Err(PurseFault::Kept("its version is not known"));
    }
    let malformed = PurseFault::Kept("it is damaged");
    let Ok((form, [])) = postcard::take_from_bytes::<KeptForm>(rest) else {
        return Err(malformed);
    };
    let batch = form.batch.map(batch).transpose().map_err(|_| malformed)?;
    let arrivals = form.arrivals.into_iter().map(|arrival| Arrival {
        label: Label(arrival.label),
        to: address(arrival.to),
        message: Hash(arrival.message),
        after_lt: arrival.after_lt,
    });
    Ok((address(form.wallet), Kept { batch, arrivals: arrivals.collect() }))
}

fn order_form(order: &Order) -> OrderForm {
    let message = &order.message;
    OrderForm {
        label: order.label.0,
        to: pair(message.to),
        value: message.value.0,
        bounce: message.bounce,
        state_init: message
            .state_init
            .as_ref()
            .map(|init| (boc::encode(&init.code), boc::encode(&init.data))),
        body: message.body.as_ref().map(boc::encode),
    }
}

fn batch(form: BatchForm) -> Result<Batch, cocoon_contract::Fault> {
    let orders = form.orders.into_iter().map(order).collect::<Result<_, _>>()?;
    Ok(Batch {
        seqno: form.seqno,
        since_lt: form.since_lt,
        valid_until_s: form.valid_until_s,
        bodies: form.bodies.into_iter().map(Hash).collect(),
        orders,
        boc: form.boc,
        failures: form.failures,
    })
}

fn order(form: OrderForm) -> Result<Order, cocoon_contract::Fault> {
    let cell = |bytes: Vec<u8>| boc::decode(&bytes, boc::Limits::STATE);
    let state_init = match form.state_init {
        Some((code, data)) => Some(StateInit { code: cell(code)?, data: cell(data)? }),
        None => None,
    };
    let body: Option<Cell> = form.body.map(cell).transpose()?;
    let message = Outgoing {
        to: address(form.to),
        value: Nanoton(form.value),
        bounce: form.bounce,
        state_init,
        body,
    };
    Ok(Order { label: Label(form.label), message })
}
