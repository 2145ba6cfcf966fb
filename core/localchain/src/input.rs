//! Everything that can happen to a chain, as values with a byte form: writing them down before
//! they are applied is a complete log, because equal inputs make equal chains.

use cocoon_units::{Address, Nanoton};

use crate::Fault;

/// Failures on demand. All off in a new chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trouble {
    /// No block is made, whatever the clock says.
    pub standing_still: bool,
    /// A block is made only when at least this much time has passed since the last one.
    pub late_ms: u64,
    /// So many of the next external messages are taken, then lost.
    pub lose_externals: u32,
}

/// One thing that happens to the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// An external message arrives, as a bag of cells.
    External(Vec<u8>),
    /// The faucet is asked for coins.
    Faucet {
        /// Who gets them.
        to: Address,
        /// How many.
        amount: Nanoton,
    },
    /// The block clock strikes.
    Tick {
        /// Time, milliseconds since 1970; never smaller than before.
        now_ms: u64,
    },
    /// Failures are switched on or off.
    Trouble(Trouble),
}

const EXTERNAL: u8 = 1;
const FAUCET: u8 = 2;
const TICK: u8 = 3;
const TROUBLE: u8 = 4;

impl Input {
    /// The byte form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self {
            Self::External(boc) => {
                bytes.push(EXTERNAL);
                bytes.extend_from_slice(boc);
            }
            Self::Faucet { to, amount } => {
                bytes.push(FAUCET);
                bytes.extend_from_slice(&to.workchain.to_be_bytes());
                bytes.extend_from_slice(&to.hash);
                bytes.extend_from_slice(&amount.0.to_be_bytes());
            }
            Self::Tick { now_ms } => {
                bytes.push(TICK);
                bytes.extend_from_slice(&now_ms.to_be_bytes());
            }
            Self::Trouble(trouble) => {
                bytes.push(TROUBLE);
                trouble.write(&mut bytes);
            }
        }
        bytes
    }

    /// Reads the byte form back.
    ///
    /// # Errors
    /// [`Fault::Snapshot`] when the bytes are none: the log is damaged from here on.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Fault> {
        let (tag, rest) =
            bytes.split_first().ok_or_else(|| Fault::Snapshot("empty log record".to_owned()))?;
        let mut reader = Reader(rest);
        let input = match *tag {
            EXTERNAL => return Ok(Self::External(rest.to_vec())),
            FAUCET => {
                let [workchain] = reader.take::<1>()?;
                let to = Address::new(i8::from_be_bytes([workchain]), reader.take()?);
                Self::Faucet { to, amount: Nanoton(reader.u64()?) }
            }
            TICK => Self::Tick { now_ms: reader.u64()? },
            TROUBLE => Self::Trouble(Trouble::read(&mut reader)?),
            other => return Err(Fault::Snapshot(format!("log record of unknown kind {other}"))),
        };
        reader.finish()?;
        Ok(input)
    }
}

impl Trouble {
    pub(crate) fn write(self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.standing_still));
        bytes.extend_from_slice(&self.late_ms.to_be_bytes());
        bytes.extend_from_slice(&self.lose_externals.to_be_bytes());
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
        Ok(Self {
            standing_still: reader.take::<1>()? != [0],
            late_ms: reader.u64()?,
            lose_externals: reader.u32()?,
        })
    }
}

/// Reads fixed-size fields and never beyond the end.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(crate) fn slice(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.0.split_at_checked(len).ok_or_else(cut_short)?;
        self.0 = rest;
        Ok(head)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        self.take().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Fault> {
        self.take().map(u64::from_be_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Fault> {
        self.take().map(u128::from_be_bytes)
    }

    pub(crate) fn finish(&self) -> Result<(), Fault> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(Fault::Snapshot(format!("{} bytes too many", self.0.len())))
    }
}

fn cut_short() -> Fault {
    Fault::Snapshot("cut short".to_owned())
}
