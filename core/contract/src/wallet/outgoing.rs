//! Messages that a wallet is asked to send, and the external message around an order.

use cocoon_units::{Address, Nanoton};

use crate::Fault;
use crate::address::StateInit;
use crate::cell::{Cell, Writer};

/// Where initial state and body of a message go: both are accepted everywhere, but the choice
/// enters the hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Into references, as Cocoon wallets do.
    References,
    /// Into the message cell as far as they fit, as common wallet software does.
    Compact,
}

/// An internal message that a wallet is asked to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// Receiver.
    pub to: Address,
    /// Value.
    pub value: Nanoton,
    /// Whether a refused message comes back. Never set together with a deployment.
    pub bounce: bool,
    /// Deploys the receiver.
    pub state_init: Option<StateInit>,
    /// Body.
    pub body: Option<Cell>,
}

const WHAT: &str = "internal message";

impl Outgoing {
    /// A message to a contract that exists: bounces.
    #[must_use]
    pub fn to_contract(to: Address, value: Nanoton, body: Cell) -> Self {
        Self { to, value, bounce: true, state_init: None, body: Some(body) }
    }

    /// A deployment without a body: does not bounce.
    #[must_use]
    pub fn deploy(state_init: StateInit, value: Nanoton) -> Self {
        let to = state_init.address();
        Self { to, value, bounce: false, state_init: Some(state_init), body: None }
    }

    /// The mode that Cocoon nodes send it with: fees come from the value, unless it is one
    /// nanoton (protocol notes 5.1).
    #[must_use]
    pub fn mode(&self) -> u8 {
        if self.value > Nanoton(1) { 0 } else { super::MODE_PAY_FEES }
    }

    /// Builds the message cell.
    ///
    /// # Errors
    /// [`Fault::Build`] when body or state is too deep.
    pub fn cell(&self, layout: Layout) -> Result<Cell, Fault> {
        let flags = if self.bounce { 0b01_1000 } else { 0b01_0000 };
        self.rest(Writer::new(WHAT).uint(flags, 6), layout)
    }

    /// The message as it arrives, with its sender: for rehearsals. Chains fill the sender in by
    /// themselves.
    ///
    /// # Errors
    /// [`Fault::Build`] when body or state is too deep.
    pub fn cell_from(&self, source: &Address, layout: Layout) -> Result<Cell, Fault> {
        let flags = if self.bounce { 0b0110 } else { 0b0100 };
        self.rest(Writer::new(WHAT).uint(flags, 4).address(source), layout)
    }

    /// All after the sender.
    fn rest(&self, writer: Writer, layout: Layout) -> Result<Cell, Fault> {
        let writer = writer.address(&self.to).coins(self.value).zeros(105);
        let writer = match (&self.state_init, layout) {
            (None, _) => writer.bit(false),
            (Some(init), Layout::References) => writer.uint(0b11, 2).reference(init.cell()?),
            (Some(init), Layout::Compact) => writer.uint(0b10, 2).contents(&init.cell()?),
        };
        let refs = match (&self.state_init, layout) {
            (None, _) => 0,
            (Some(_), Layout::References) => 1,
            (Some(_), Layout::Compact) => 2,
        };
        with_body(writer, self.body.as_ref(), layout, refs)?.build()
    }
}

/// Appends a body to a message of which `refs` references are taken.
fn with_body(
    writer: Writer,
    body: Option<&Cell>,
    layout: Layout,
    refs: u8,
) -> Result<Writer, Fault> {
    let Some(body) = body else {
        return Ok(writer.bit(false));
    };
    let slice = body.as_slice().map_err(|reason| Fault::Layout { what: WHAT, reason })?;
    let fits = slice.size_bits() < writer.free_bits() && slice.size_refs() + refs <= 4;
    Ok(match layout {
        Layout::Compact if fits => writer.bit(false).contents(body),
        _ => writer.bit(true).reference(body.clone()),
    })
}

/// Builds the external message that carries a wallet's body to the chain.
///
/// `state_init` goes along with the first message of a wallet.
///
/// # Errors
/// [`Fault::Build`] when body or state is too deep.
pub fn external(
    to: &Address,
    state_init: Option<&StateInit>,
    body: &Cell,
    layout: Layout,
) -> Result<Cell, Fault> {
    let writer = Writer::new("external message").uint(0b1000, 4).address(to).uint(0, 4);
    let slice = body.as_slice().map_err(|reason| Fault::Layout { what: WHAT, reason })?;
    let (writer, refs) = match state_init {
        None => (writer.bit(false), 0),
        Some(init) => {
            let cell = init.cell()?;
            // Two flag bits, then five bits of state.
            let fits = slice.size_bits() + 5 + 2 < writer.free_bits();
            if layout == Layout::Compact && fits {
                (writer.uint(0b10, 2).contents(&cell), 2)
            } else {
                (writer.uint(0b11, 2).reference(cell), 1)
            }
        }
    };
    with_body(writer, Some(body), layout, refs)?.build()
}
