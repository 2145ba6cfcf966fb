//! Requests to a worker contract that need no signature.

use cocoon_units::Address;

use crate::cell::{Cell, Reader, Writer};
use crate::{Fault, op};

/// The owner makes a worker contract known to the proxy contract (protocol notes 1.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WorkerRegister {
    /// Query id, random.
    pub query_id: u64,
    /// Who gets unused value.
    pub excess: Address,
}

impl WorkerRegister {
    /// Builds the body.
    ///
    /// # Errors
    /// None in practice; the fields always fit.
    pub fn cell(&self) -> Result<Cell, Fault> {
        Writer::body("worker register", op::worker::OWNER_REGISTER, self.query_id)
            .address(&self.excess)
            .build()
    }

    pub(super) fn read(query_id: u64, mut reader: Reader<'_>) -> Result<Self, Fault> {
        let request = Self { query_id, excess: reader.address()? };
        reader.end()?;
        Ok(request)
    }
}
